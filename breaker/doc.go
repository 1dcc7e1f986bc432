// Package breaker decorates a driver with a circuit breaker and with retries.
//
// It guarantees that a failing store is not drowned in acquires, that a retried
// acquire is the same acquire (same request id, and so at most one hold), and
// that renewals, releases and whatever else ends or keeps a lease always reach
// the store, whatever the acquires met: a limit must not lose leases.
//
// It does not guarantee that a retry helps, and never retries anything but an
// acquire: who renews has the deadline, and decides.
//
// Contention, a lost lease, an invalid request, a limit, a quarantine and a caller
// that leaves say nothing about the store's health and are no failures.
package breaker
