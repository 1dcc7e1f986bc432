// Package dynamodb is the driver for a table of Amazon DynamoDB, or of what speaks
// its protocol.
//
// It guarantees the contract of package driver in one Region, whatever the clocks
// of its callers say: each decision about a lock is one conditional write of one
// item, made on what a consistent read, or the condition itself, says of it. It
// does not guarantee anything across the Regions of a global table that converges
// later, nor over a table that was restored or edited by hand: then only the
// fencing token, which still rises, protects the resource.
//
// DynamoDB has no clock and tells nobody anything. So
//
//   - a lease has expired for a driver that has itself seen it unchanged for the
//     whole of its time: its heartbeat, which every grant and renewal raises, is
//     what was seen, and the write that evicts it is conditional on it. A driver
//     that has not looked before takes a lease's time longer to know;
//   - a place in the queue is dead when the heartbeat of its driver for the lock
//     stood still for the place's time; a driver drops its own dead places itself;
//   - waiters poll, the first ones more often than those behind them, and what a
//     driver's own calls make grantable it tells its own waiters at once.
//
// # Items
//
// The table has one key, the string k.
//
//	<prefix>:l:<lock id>            the record of a lock
//	<prefix>:w:<driver>:<lock id>   the heartbeat (hb) of a driver's waiters for it
//
// A record:
//
//	f     its format, 1
//	v     its version: raised by every change but a renewal
//	tok   the highest token granted
//	seq   the last ticket
//	h     the leases, by token: o owner, k key, s shared, r the request ids of the
//	      holds, a attach number, hb heartbeat, tl TTL in µs, rv revoked, m metadata
//	q     the queue, at most 256, by ticket: r request id, o owner, n ticket, p
//	      priority, s shared, k key, d driver, tl how long it lasts in µs
//	gone  the latest ends, two texts each: which acquires it ends, and token, cause
//	      and key
//
// # Writes
//
// An uncontended acquire, a renewal and a release are one write each, whose
// condition says all that must be true. When it is refused, and for everything
// else, the record is read, the answer is decided in this process, and written on
// the condition that v is what was read; whoever is second reads again. A renewal
// leaves v alone, so that no crowd of waiters can keep it out.
//
// The record of a free lock is kept for ever.
//
// Use [New], or [OpenURL] for a URL.
package dynamodb
