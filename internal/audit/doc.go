// Package audit is the form of the audit log, and the proof that a fleet's logs
// amount to.
//
// [Prove] guarantees that what it calls proven follows from the lines: for each
// lock no two leases overlapped whose modes conflict, tokens rose, and the queue's
// order was kept. What it names as a violation is one whatever the clocks of
// different hosts say within the tolerance. It does not see what no log has: a
// sidecar whose files are not given, and the last moment of one that was killed,
// which it names.
//
// Its evidence is the order of the tokens and what the store decided (releases,
// expiries, evictions). Times are compared exactly on one boot of one host, by
// the clock that runs through suspend, and by wall clocks with a tolerance
// between hosts. They can refute, never prove.
package audit
