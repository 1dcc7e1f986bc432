package etcd

import (
	"context"
	"errors"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// stamp is the store's: which cluster it was made in.
type stamp struct {
	Format  int    `json:"format"`
	Cluster string `json:"cluster"`
	MaxTTL  int64  `json:"max_ttl_ms"`
}

// pauseTime is how long nothing is granted after a restore: until the longest lease
// that the cluster may have forgotten has ended.
const pauseTime = maxTTL + lateness

// condition is what the driver knows of the cluster's: a cluster that was restored
// from a snapshot has forgotten leases that its holders rely on.
//
// A restore shows in three ways. The revision is lower than one that was seen
// before; the cluster's id is another, because it was given another token; or
// the stamp is missing although there are records. What notices puts a key under
// an etcd lease, as long as which stands no transaction grants: there is no clock to
// be wrong. What it does not notice is a restore under the same id that no driver
// was open over.
type condition struct {
	// latest is the highest revision of an answer, cluster its id.
	latest  atomic.Int64
	cluster atomic.Uint64

	mu sync.Mutex
	// stamp is the revision of the stamp, 0 if it is not known.
	stamp int64
	// fell says why grants must be paused, and were not yet.
	fell string
	// until is the latest that the pause can last, 0 if there is none.
	until driver.Instant
}

var errRestored = errors.New("the cluster is not what it was: it was restored, or is another")

func clusterName(h *etcdserverpb.ResponseHeader) string { return strconv.FormatUint(h.ClusterId, 16) }

// sees compares an answer with what was seen before its request was sent. An answer
// that comes from a cluster that has fallen back proves nothing.
func (c *condition) sees(h *etcdserverpb.ResponseHeader, before int64) error {
	if !c.cluster.CompareAndSwap(0, h.ClusterId) && c.cluster.Load() != h.ClusterId {
		return c.fall("the cluster has another id than before", h)
	}
	if h.Revision < before {
		return c.fall("the cluster's revision fell", h)
	}
	for {
		latest := c.latest.Load()
		if h.Revision <= latest || c.latest.CompareAndSwap(latest, h.Revision) {
			return nil
		}
	}
}

// fall notes the restore, and begins to count anew.
func (c *condition) fall(why string, h *etcdserverpb.ResponseHeader) error {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fell, c.stamp = why, 0
	c.latest.Store(h.Revision)
	c.cluster.Store(h.ClusterId)
	return errRestored
}

// learn keeps what a snapshot says.
func (c *condition) learn(n *snapshot, now driver.Instant) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.stamp = n.stamp
	switch {
	case !n.paused:
		c.until = 0
	case c.until == 0:
		c.until = now.Add(pauseTime)
	}
}

// stamped is the revision of the stamp, as far as is known.
func (c *condition) stamped() int64 {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.stamp
}

func (c *condition) why() string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.fell
}

// open says whether the store grants.
func (c *condition) open(n *snapshot) bool {
	return n.stamp != 0 && !n.foreign && !n.paused && c.why() == ""
}

// closed is an attempt at a lock that is free, at a store that does not grant, or
// that has no stamp yet.
func (a *attempt) closed(ctx context.Context, n *snapshot, p *place, newcomer bool) step {
	s := a.s
	if a.guess {
		return step{again: true}
	}
	why := s.condition.why()
	switch {
	case why != "":
	case n.foreign:
		why = "the store's stamp is of another cluster"
	case n.stamp == 0:
		return step{err: s.stampNew(ctx), again: true}
	}
	if why != "" {
		return step{err: s.pause(ctx, why), again: true}
	}
	if a.req.Enqueue {
		return a.queue(ctx, n, p, newcomer)
	}
	_, remaining := s.Quarantine()
	return ended(quarantined(remaining))
}

// stampNew stamps a store in which there is nothing. One that has records without a
// stamp has lost it.
func (s *Store) stampNew(ctx context.Context) error {
	k := s.keys
	c, err := s.stampOp(ctx)
	if err != nil {
		return err
	}
	resp, err := s.commit(ctx, []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(k.stamp()), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(k.records()).WithRange(rangeEnd(k.records())), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(k.allHolders()).WithRange(rangeEnd(k.allHolders())), "=", 0),
	}, []clientv3.Op{c}, []clientv3.Op{clientv3.OpGet(k.stamp(), clientv3.WithKeysOnly())})
	switch {
	case err != nil || resp.Succeeded:
		return err
	case one(resp.Responses[0]) != nil:
		return nil // another was first
	}
	return s.pause(ctx, "the store has records and no stamp")
}

// stampOp stamps the store as this cluster's, whose id any answer says.
func (s *Store) stampOp(ctx context.Context) (op clientv3.Op, err error) {
	if s.condition.cluster.Load() == 0 {
		if err := s.Ping(ctx); err != nil {
			return op, err
		}
	}
	return clientv3.OpPut(s.keys.stamp(), encode(stamp{
		Format: driver.Format, Cluster: strconv.FormatUint(s.condition.cluster.Load(), 16), MaxTTL: maxTTL.Milliseconds(),
	})), nil
}

// pause has nothing granted, by anybody, until every lease that may have been
// forgotten has ended. A pause that another has begun is begun anew: it may be part
// of what was restored.
func (s *Store) pause(ctx context.Context, why string) error {
	put, err := s.stampOp(ctx)
	if err != nil {
		return err
	}
	l, err := s.leases.grant(ctx, pauseTime)
	if err != nil {
		return err
	}
	if _, err := s.commit(ctx, nil, []clientv3.Op{put, clientv3.OpPut(s.keys.pause(), why, clientv3.WithLease(clientv3.LeaseID(l.id)))}, nil); err != nil {
		return err
	}
	c := &s.condition
	c.mu.Lock()
	c.fell = ""
	c.until = s.o.Clock.Now().Add(pauseTime)
	c.mu.Unlock()
	s.o.Logger.Warn("nothing is granted until the leases that may have been forgotten have ended", driver.LogBackend, "etcd",
		driver.LogReason, why, driver.LogPause, pauseTime)
	return nil
}

// Quarantine tells for how long nothing is granted at most.
func (s *Store) Quarantine() (reason string, remaining time.Duration) {
	c := &s.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	if remaining = c.until.Sub(s.o.Clock.Now()); c.until == 0 || remaining <= 0 {
		return "", 0
	}
	return "the cluster may have been restored to an older state", remaining
}

func quarantined(time.Duration) error { return driver.ErrQuarantined }
