// Package certificates keeps the webhook's serving certificate, and the caBundle by
// which API servers trust it.
//
// It guarantees, with any number of replicas and whatever order their steps have:
// a certificate is served only after its CA has stood in the caBundle for a while
// ([Options].Settle), as long as there is another one to serve; the CA of an older
// certificate stays in the caBundle until that certificate has ended, so that no
// replica serves what is not trusted; a certificate is replaced before it ends; a
// Secret that was deleted or damaged is written again from what a replica has, or
// anew. The caBundle is written only where it differs.
//
// It does not guarantee that a first certificate is trusted at once: until the API
// servers know the caBundle, they refuse. [Keeper.Trusted] says when it is written.
//
// A [Keeper] is driven by [Keeper.Step]. Each certificate has a CA of its own, whose
// key is forgotten as soon as it has signed: there is nothing to steal but the
// certificate's key.
package certificates
