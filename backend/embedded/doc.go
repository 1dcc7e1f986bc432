// Package embedded is the driver that needs nothing installed: the locks live
// in the memory of the process and, if a file is named, also in that.
//
// It guarantees the whole contract of package driver among all drivers that
// were opened on one [Memory], and is the reference by which the others are
// read. Without a file it does not guarantee anything beyond the process: its end
// is the end of every lease. Expired leases and dead waiters are dropped by the
// next call that looks at their lock, or by [Driver.Sweep].
//
// With [Options.Path], nothing is answered, and no reader is shown anything, that
// a kill or a loss of power could take back: the memory decides, its change is
// written to the file together with those that came meanwhile, and then the
// answer is given. A change that cannot be written is taken back in memory, with
// whatever was built on it. One goroutine writes, until the memory is closed.
// Leases count on over a restart of the process, and over a reboot of the machine
// they have what they had left, so that none ends early. A file has one process;
// one that is damaged is refused. It does not guarantee anything if the disk
// forgets what it said it had written, or if the file is replaced by an older one.
//
// Use [New] for one driver on a memory of its own, [NewMemory] and
// [Memory.Open] for several on one, [OpenURL] for the URLs "embedded:" and
// "embedded:///path/locks.db".
package embedded
