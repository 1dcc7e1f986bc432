// Package renew keeps leases alive for applications.
//
// It guarantees that a lease which it holds is renewed until its session ends,
// that a session hears LOST no later than the instant at which its lease stops
// being provable (valid-until), that LOST is final (a late success of a renewal
// never revives a lease), and that a lease which was never told to a session,
// or was given back by it, is renewed no more.
//
// It does not guarantee that a session hears in time: the process may be
// stopped. Whoever uses a lease compares valid-until with the clock itself, and
// the resource compares tokens.
//
// A [Keeper] has one scheduler for all leases (a timing wheel, no timer or
// goroutine for a lease) and a few workers that renew in batches. A [Session]
// stands for one open stream of an application and gets its events in order.
package renew
