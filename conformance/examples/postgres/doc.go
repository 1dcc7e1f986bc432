// Package postgres keeps locks in a table of PostgreSQL. It is the example of
// docs/new-backend.md: a whole driver, in a module of its own, that uses nothing
// of locksidecar but its public packages.
//
// It guarantees the contract of package driver among all drivers that use one
// table of one primary server. A row is all the state of a lock: each call locks
// the row, reads the server's clock, decides in Go, and commits. What it answers
// was committed with synchronous_commit on: it survives a crash of the server, and
// the loss of the primary if synchronous standbys are configured. Tokens rise over
// a loss of data too, as long as the server's clock does.
//
// It does not guarantee exclusion over a failover to a standby that lags, or a
// restore of a backup: the leases that are missing there can be granted again
// while their holders still believe in them, and nothing pauses the grants. Nor
// does it if the server's clock steps forward (leases end early by as much), if
// rows are changed by hand, or if fsync is off. It sends no hints, so a waiter
// learns of its turn by its poll, and it finds no expiry for which nobody asks:
// [Store.Capabilities] says all of that.
//
// Use [New] with a configuration of pgx, or [OpenURL] for URLs such as
// postgres://app@db.example/locks?sslmode=verify-full. The table is made by the
// first call if there is none. Nobody deletes what is left of free locks unless
// [Store.Collect] is called now and then.
package postgres
