// Package etcd is the driver for an etcd cluster.
//
// It guarantees the contract of package driver for as long as a majority of the
// cluster keeps its data: every decision about a lock is one transaction, on the
// condition that the lock is as it was when it was decided. It does not guarantee
// exclusion over a restore of an older snapshot that no driver was open over; then
// only the fencing token, which is the proposer's clock and still rises, protects
// the resource. A leader that is elected, or a cluster that starts, lets every
// lease last for its whole time again: leases are stretched, never shortened.
//
// # Keys
//
//	<prefix>/r/<lock id>                the record: last token, tickets, latest ends
//	<prefix>/h/<lock id>!<token>        a lease
//	<prefix>/h/<lock id>!<token>!       its mark, on an etcd lease of its own: while it
//	                                    is there, the lease stands
//	<prefix>/q/<lock id>!<order,ticket> a place in the queue, on the etcd lease of its
//	                                    driver's session
//	<prefix>/u/<lock id>!<token>        an end that nobody has told yet
//	<prefix>/f/<shard>                  the highest token of the records that were
//	                                    collected
//	<prefix>/n/<driver>/…               notes to a driver about its leases
//	<prefix>/sweeper                    who sweeps for all
//	<prefix>/stamp                      the cluster that the store was made in
//	<prefix>/pause                      nothing is granted while it is there
//
// Numbers are hexadecimal and of fixed width. No lock id has an exclamation mark,
// so that no two ids meet. Values are JSON with the major version of their format.
//
// The invariant: whatever changes a lease, or makes or grants a place, also writes
// the record, in the same transaction and on the condition of the record's
// revision. So a transaction on that condition finds the lock as it was read, but
// for what has run out since; a mark that has gone never comes back.
//
// # Time
//
// A lease expires when its mark does: by the cluster's leader, within
// [driver.Capabilities].Lateness. A keep-alive's answer does not say that the mark
// is still there; a lease counts from the send of the keep-alive that was answered
// before a read found the mark under that etcd lease. A place runs out once
// somebody has seen it unchanged for as long as it lasts.
//
// # Round trips
//
// An acquire of a free lock takes one, and its release one, if the lock is new or
// this driver was the last to have it, and an etcd lease is left over from an
// earlier lease; else the acquire takes one more for each.
//
// Use [New], or [OpenURL] for a URL.
package etcd
