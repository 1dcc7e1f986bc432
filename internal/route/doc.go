// Package route leads locks to backends: one [Router] stands between the socket
// and, for each backend, a store and its keeper of leases.
//
// It guarantees that this process never has a lock granted on one backend while
// it has a lease or a waiter of it on another: when the routes change, what is
// held, waited for or was granted to a caller stays with its backend until it
// has ended or its TTL has passed, and a newcomer waits for that before it is
// led elsewhere. What belongs to such a lease (renewing, releasing, re-entering,
// repeating a request, its owner's further requests) goes where the lease is.
// The token floor of the first request on the new backend is above the highest
// token that this process has seen of the lock. A backend that hangs holds up
// nothing of another.
//
// It does not guarantee anything about other processes: a sidecar that still has
// the older routes grants on the older backend. Nor does it remember tokens
// after a restart, or of more than some 65,000 locks that are not in use.
package route
