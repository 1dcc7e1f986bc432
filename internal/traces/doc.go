// Package traces makes spans of what is done for an application's call, and
// sends them to a collector by OTLP over gRPC.
//
// It guarantees that nothing is measured, allocated or sent while traces are off,
// that no call waits for a collector (what cannot be sent in time is dropped), and
// that no span has a secret: lease ids, request ids and keys stay out. It makes no
// spans of what no application's call caused: renewals, sweeps, undoing.
//
// The spans of an acquire are the call's own, as the application sees it; one for
// each call to the store ("store acquire"); "wait", from the place in the queue to
// its end; and "hand-off", from the store's hint that the lock is free to the
// grant.
package traces
