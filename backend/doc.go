// Package backend is the portable store of locks: one concrete type over any
// driver.
//
// It guarantees that a driver sees only valid, complete requests, that a lease
// is never believed for longer than the store's answer proves ([Lease].ValidUntil),
// and that an acquire which its caller gave up leaves neither a place nor a
// lease behind for longer than one TTL.
//
// It does not renew: package renew does, for the leases that it is asked to
// hold. It does not retry: package breaker does, beneath.
//
// Use [New] over an open driver, or [Mux] to open one by its URL.
package backend
