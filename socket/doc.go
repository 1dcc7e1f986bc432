// Package socket serves the API on a Unix socket: gRPC and HTTP/1.1 with JSON
// on one listener, told apart by the first bytes.
//
// It guarantees that an application which is proven dead loses its leases at
// once, that one which merely fell silent or lost its connection keeps them for
// their time, that both protocols give the same answer to the same request by
// one table of errors, and that no text, address or secret of a store reaches a
// client.
//
// It does not guarantee that a caller's death is noticed at once: where the
// kernel gives no pidfd of the peer, a death looks like a broken connection,
// and the lease ends by its TTL. Neither does it identify callers by more than
// the kernel says of them: whoever may open the socket may use it, unless
// Options.Authorize says otherwise.
//
// Use [Listen] to publish a socket and [New] for a [Server] on it.
package socket
