package etcd

import (
	"errors"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// stamp says which cluster the store is in, and what the whole fleet must agree on.
type stamp struct {
	Format int `json:"format"`
	// ID is the stamp's own.
	ID string `json:"id"`
	// Cluster is the cluster's id.
	Cluster string `json:"cluster"`
	// Ahead is by how much the index of the cluster's log was ahead of the
	// revision. It never falls while the log goes on, since each revision takes an
	// entry; a restore begins a new log, and keeps the revision or raises it.
	Ahead int64 `json:"ahead"`
	// MaxTTL is the longest TTL of the store.
	MaxTTL int64 `json:"max_ttl_ms"`
}

// condition is what the driver knows of the cluster's. A cluster that was restored
// from a snapshot has forgotten leases that its holders rely on; it shows by its
// id, by a revision that fell, or by its log, compared with the stamp. To restore a
// cluster every member is started anew, so that each new connection is a reason to
// compare. Whoever finds it puts a key under an etcd lease, while which stands no
// transaction grants anything: no clock is asked.
//
// A store that has no stamp and no records is taken for a new one.
type condition struct {
	// latest is the highest revision of an answer, cluster the id of the cluster.
	latest  atomic.Int64
	cluster atomic.Uint64
	// connections counts those that were made.
	connections atomic.Int64

	verifying sync.Mutex

	mu sync.Mutex
	// verified is the number of connections at the last comparison, known the id
	// of the stamp that it was with.
	verified int64
	known    string
	// stamp is the revision of the stamp, 0 if it is not known.
	stamp int64
	// fell says why grants must be paused, and were not yet.
	fell string
	// why and until are those of the pause, until 0 if there is none.
	why   string
	until driver.Instant
}

var errRestored = errors.New("the cluster has been restored, or is another one")

// sees compares an answer with what was seen before its request was sent. An
// answer from a cluster that has fallen back proves nothing.
func (c *condition) sees(h *pb.ResponseHeader, before int64) error {
	if !c.cluster.CompareAndSwap(0, h.ClusterId) && c.cluster.Load() != h.ClusterId {
		return c.fall("the cluster has another id than before", h)
	}
	if h.Revision < before {
		return c.fall("the cluster's revision has fallen", h)
	}
	for {
		latest := c.latest.Load()
		if h.Revision <= latest || c.latest.CompareAndSwap(latest, h.Revision) {
			return nil
		}
	}
}

// fall notes the restore, and begins to count anew.
func (c *condition) fall(why string, h *pb.ResponseHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fell, c.stamp = why, 0
	c.latest.Store(h.Revision)
	c.cluster.Store(h.ClusterId)
	return errRestored
}

// learn keeps what a snapshot of a lock says of the store.
func (c *condition) learn(n *snapshot, now driver.Instant, maxTTL time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = n.stamp
	switch {
	case n.paused == "":
		c.until = 0
	case c.until == 0:
		c.why, c.until = n.paused, now.Add(maxTTL+lateness)
	case c.until <= now.Add(lateness/2): // a new leader, or a restart, has stretched it
		c.until = now.Add(lateness)
	}
}

// stamped is the revision of the stamp, as far as is known.
func (c *condition) stamped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp
}

// stands returns the id of the stamp that the cluster was compared with, if nothing
// has happened since that is a reason to compare again.
func (c *condition) stands() (known string, ok bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.known, c.fell == "" && c.verified > 0 && c.verified == c.connections.Load()
}
