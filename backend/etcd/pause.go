package etcd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

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
	_, remaining := s.Quarantine()
	return &driver.QuarantineError{Reason: n.paused, Remaining: remaining}
}
