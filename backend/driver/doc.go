// Package driver is the contract between locksidecar and a store of locks.
//
// A driver guarantees four things for each lock, whatever else fails:
//
//   - Exclusion: two leases whose modes conflict are never both unexpired by
//     the store's own measure of time.
//   - Fencing: the tokens of a lock's grants rise strictly, over every kind of
//     grant, for as long as the record lives and after it was collected.
//   - Order: the living waiters of a lock are granted by their order key
//     (see [OrderKey]), and a newcomer never overtakes a living waiter.
//   - Identity: only who knows the lease's secret ends or prolongs it.
//
// A driver does not guarantee that a holder still believes in its lease: the
// portable layer counts valid-until (see [Lease.Origin]), and the protected
// resource compares tokens. A driver never retries by itself, never blocks
// waiting for a lock and keeps no goroutine for a lease.
//
// The portable type, package backend, validates every request and fills the
// defaults; a driver relies on that and does not validate again. Every method
// is safe for concurrent use. An error says what happened to the request by
// one of the sentinels of this package; any other error, except a context's,
// counts as [ErrIndeterminate].
//
// A new driver implements [Driver], declares its [Capabilities] and runs the
// suite of package conformance.
package driver
