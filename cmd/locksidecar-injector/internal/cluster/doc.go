// Package cluster is what the injector asks of the API server, and nothing more:
// its role grants no other call.
//
// It guarantees that nothing is written over what another replica wrote in the
// meantime: a Secret and a webhook's configuration are changed by their resource
// version alone. Every call has a deadline.
//
// It does not guarantee that the server can be reached; errors are the server's.
//
// [New] returns a [Client]. It speaks to the few resources by their types, without
// client-go's clientset, which would link all of them.
package cluster
