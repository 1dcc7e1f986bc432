// Package redis is the driver for a Redis server, a primary that Sentinels know,
// or a Cluster.
//
// It guarantees the contract of package driver for as long as the server's clock
// does not step forward: every decision about a lock is one script on one server,
// with the server's time. Over a loss of data (a flush, a restart, a failover that
// lost writes) it keeps exclusion by quarantine: nothing is granted until the
// longest lease that may have been lost has ended. A store that was never used
// looks the same; [Store.Init] says that it is new. It does not guarantee
// exclusion over keys that are deleted by hand, eviction, or a stale primary
// without Sentinels: then only the fencing token, which still rises, protects the
// resource.
//
// # Keys
//
// All keys of a lock, and the index of its shard, share one Cluster slot:
//
//	<prefix>:{<shard>}:l:<lock id>   the record, with the latest ends of its holds
//	<prefix>:{<shard>}:q:<lock id>   the queue
//	<prefix>:{<shard>}:w:<lock id>   the waiters
//	<prefix>:{<shard>}:d:<lock id>   the deadlines of their places
//	<prefix>:{<shard>}:i             the busy locks of the shard, and the ended
//	                                 leases that nobody has told yet
//	<prefix>:{<shard>}:z             the shard's stamp: of which server's data it
//	                                 is a part, and when it opens
//
// Two more keys name the driver that sweeps for all, <prefix>:sweeper, and say
// that the store was stamped, <prefix>:store.
//
// The shard is three hexadecimal digits of a hash of the lock id. It stands
// before the id, so that braces in an id cannot choose a slot, and so does the
// kind, so that no two ids meet. Hints are published to one channel for each
// open driver, <prefix>:inbox:<random>.
//
// Nothing lives for ever: the record and the ends of a free lock are kept for
// Options.Retention after the lock's last lease, the keys of a queue for an hour
// after its last sign of life. A lock whose leases ran out while nobody looked
// stays in its shard's index until the shard is used two hours later.
//
// # Servers
//
// Every call goes to the server that has its slot, in pipelines of its own: one
// that hangs holds up no call to another. A call is sent again only where the
// server has said that it did not do it and who would, or that its keys are on
// their way (MOVED, ASK, TRYAGAIN); everything else is left to the caller. Each
// new connection asks the server who it is, and is not used if that is a replica
// or a server that may evict leases. [Store.Describe] tells what was said.
//
// Use [New], or [OpenURL] for a URL.
package redis
