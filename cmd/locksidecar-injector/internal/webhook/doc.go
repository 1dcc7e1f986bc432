// Package webhook answers the API server's question what becomes of a pod
// (admission.k8s.io/v1).
//
// It guarantees an answer to every review that can be read, also after a panic: a
// pod that asks for a sidecar is admitted with one, or refused with a message that
// says what to do. A dry run writes nothing. No body is read beyond
// [MaxBody], and only so many reviews are answered at a time that their memory is
// bounded: the others wait, and then get 503.
//
// It does not guarantee that it is asked: the webhook's configuration decides that.
//
// A [Handler] serves POST /inject.
package webhook
