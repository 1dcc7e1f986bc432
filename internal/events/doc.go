// Package events keeps the latest events of one sidecar in memory, for those
// who watch it.
//
// It guarantees that whoever reads on after a cursor gets every event behind it
// once and in order, or is told that some are missing; that nobody is waited
// for, so that a slow reader costs no memory; and that no lease id and no
// request id leaves it. It does not keep anything beyond the process.
//
// A [Log] is told what happens by the observers of the store and of the keeper
// of leases. A [Subscription] reads it.
package events
