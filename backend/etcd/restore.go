package etcd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"
	clientv3 "go.etcd.io/etcd/client/v3"

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

// verified compares the cluster with the stamp, unless that was done, and returns
// the stamp's id.
func (s *Store) verified(ctx context.Context) (known string, err error) {
	c := &s.condition
	for range 8 {
		known, ok := c.stands()
		if ok {
			return known, nil
		}
		if err := s.verify(ctx); err != nil && !errors.Is(err, errRestored) {
			return "", err
		}
	}
	return "", fmt.Errorf("%w: the cluster does not come to rest", driver.ErrUnavailable)
}

func (s *Store) verify(ctx context.Context) error {
	c := &s.condition
	c.verifying.Lock()
	defer c.verifying.Unlock()
	if _, ok := c.stands(); ok {
		return nil // another call has done it
	}
	connections := c.connections.Load()
	resp, err := s.get(ctx, s.keys.stamp())
	if err != nil {
		return err
	}
	if connections == 0 { // it was made for this
		connections = c.connections.Load()
	}
	var st stamp
	rev := int64(0)
	if len(resp.Kvs) > 0 {
		rev = resp.Kvs[0].ModRevision
		if err := decode(s.keys.stamp(), resp.Kvs[0].Value, &st); err != nil {
			return err
		}
	}
	why, err := s.compare(ctx, st, rev)
	if err != nil {
		return err
	}
	switch {
	case why != "":
		return s.pause(ctx, why, rev)
	case rev == 0:
		return s.stampNew(ctx) // and compare again
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified, c.known, c.fell = connections, st.ID, ""
	return nil
}

// compare says why the cluster is not the one that it was, if it is not.
func (s *Store) compare(ctx context.Context, st stamp, rev int64) (why string, err error) {
	c := &s.condition
	c.mu.Lock()
	fell, known := c.fell, c.known
	c.mu.Unlock()
	if rev == 0 {
		return fell, nil
	}
	if st.Cluster != strconv.FormatUint(c.cluster.Load(), 16) {
		return "the store's stamp is of another cluster", nil
	}
	_, most, err := s.ahead(ctx, rev)
	switch {
	case err != nil:
		return "", err
	case most < st.Ahead-1: // an answer is no one moment
		return "the cluster's log has begun anew", nil
	case fell != "" && known != "" && known != st.ID:
		return "", nil // another has found it, and put this stamp
	}
	return fell, nil
}

// ahead asks members that have the revision by how much the index of their logs
// is ahead of theirs: the least and the most of some answers.
func (s *Store) ahead(ctx context.Context, rev int64) (least, most int64, err error) {
	least, most = 1<<62, -1<<62
	for answers, asked := 0, 0; answers < 3; asked++ {
		if asked == 16 {
			return 0, 0, fmt.Errorf("%w: the members that answer are behind", driver.ErrUnavailable)
		}
		var status *pb.StatusResponse
		_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
			status, err = pb.NewMaintenanceClient(c.ActiveConnection()).Status(ctx, &pb.StatusRequest{})
			return err
		})
		if err != nil {
			return 0, 0, s.unread(err)
		}
		if status.Header.Revision < rev {
			continue
		}
		answers++
		ahead := int64(status.RaftAppliedIndex) - status.Header.Revision //nolint:gosec // an index of a log
		least, most = min(least, ahead), max(most, ahead)
	}
	return least, most, nil
}

// newStamp is one for the cluster as it is.
func (s *Store) newStamp(ctx context.Context) (put clientv3.Op, err error) {
	least, _, err := s.ahead(ctx, 0)
	if err != nil {
		return put, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	return clientv3.OpPut(s.keys.stamp(), encode(stamp{
		Format: driver.Format, ID: hex.EncodeToString(id[:]), Cluster: strconv.FormatUint(s.condition.cluster.Load(), 16), Ahead: least,
		MaxTTL: s.o.MaxTTL.Milliseconds(),
	})), nil
}

// stampNew stamps a store in which there is nothing. One that has records and no
// stamp has lost it.
func (s *Store) stampNew(ctx context.Context) error {
	put, err := s.newStamp(ctx)
	if err != nil {
		return err
	}
	k := s.keys
	resp, err := s.commit(ctx, []clientv3.Cmp{
		clientv3.Compare(clientv3.CreateRevision(k.stamp()), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(k.records()).WithRange(rangeEnd(k.records())), "=", 0),
		clientv3.Compare(clientv3.CreateRevision(k.allHolders()).WithRange(rangeEnd(k.allHolders())), "=", 0),
	}, []clientv3.Op{put}, []clientv3.Op{clientv3.OpGet(k.stamp(), clientv3.WithKeysOnly())})
	switch {
	case err != nil:
		return err
	case !resp.Succeeded && one(resp.Responses[0]) == nil:
		return s.pause(ctx, "the store has records and no stamp", 0)
	}
	return nil
}

// again has the cluster compared with the stamp once more.
func (c *condition) again() {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.verified = 0
}

// pause has nothing granted, by anybody, until every lease that may have been
// forgotten has ended. If the stamp is not that of the revision any more, somebody
// else has done it.
func (s *Store) pause(ctx context.Context, why string, rev int64) error {
	put, err := s.newStamp(ctx)
	if err != nil {
		return err
	}
	l, err := s.leases.grant(ctx, s.o.MaxTTL+lateness)
	if err != nil {
		return err
	}
	resp, err := s.commit(ctx, []clientv3.Cmp{clientv3.Compare(clientv3.ModRevision(s.keys.stamp()), "=", rev)},
		[]clientv3.Op{put, clientv3.OpPut(s.keys.pause(), why, clientv3.WithLease(clientv3.LeaseID(l.id)))}, nil)
	if err != nil {
		return err
	}
	c := &s.condition
	c.mu.Lock()
	c.fell, c.verified, c.known = "", 0, ""
	if resp.Succeeded {
		c.why, c.until = why, l.until()
	}
	c.mu.Unlock()
	if resp.Succeeded {
		s.o.Logger.Warn("nothing is granted until the leases that the cluster may have forgotten have ended", driver.LogBackend, "etcd",
			driver.LogReason, why, driver.LogPause, l.ttl)
	}
	return nil
}

// closed is an attempt at a lock that is free, at a store that does not grant, or
// that has no stamp yet.
func (a *attempt) closed(ctx context.Context, n *snapshot, p *place, newcomer bool) step {
	s := a.s
	switch {
	case a.guess:
		return step{again: true}
	case n.stamp == 0: // it was there before
		s.condition.again()
		known, err := s.verified(ctx)
		a.known = known
		return step{err: err, again: true}
	case a.req.Enqueue:
		return a.queue(ctx, n, p, newcomer) // waiters keep their order meanwhile
	}
	return ended(s.quarantined(n))
}

// Quarantine tells why nothing is granted, as far as is known, and for how much
// longer at most.
func (s *Store) Quarantine() (reason string, remaining time.Duration) {
	c := &s.condition
	c.mu.Lock()
	defer c.mu.Unlock()
	if remaining = c.until.Sub(s.o.Clock.Now()); c.until == 0 || remaining <= 0 {
		return "", 0
	}
	return c.why, remaining
}

func (s *Store) quarantined(n *snapshot) error {
	return fmt.Errorf("%w: %s", driver.ErrQuarantined, n.paused)
}
