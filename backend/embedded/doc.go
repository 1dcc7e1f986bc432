// Package embedded is the driver that needs nothing installed: the locks live
// in the memory of the process.
//
// It guarantees the whole contract of package driver among all drivers that
// were opened on one [Memory], and is the reference by which the others are
// read. It does not guarantee anything beyond the process: its end is the end
// of every lease. It starts no goroutine; expired leases and dead waiters are
// dropped by the next call that looks at their lock, or by [Driver.Sweep].
//
// Use [New] for one driver on a memory of its own, [NewMemory] and
// [Memory.Open] for several on one, [OpenURL] for the URL "embedded:".
package embedded
