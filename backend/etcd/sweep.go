package etcd

import (
	"context"
	"errors"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// electedFor is how long one driver sweeps for all without saying again that
	// it does.
	electedFor = 4 * time.Second
	// sweepEvery is the pause between two sweeps, sweepMost what one does at most.
	sweepEvery = 200 * time.Millisecond
	sweepMost  = 256
	// tellAgain is how long an end may wait to be told before it is reported
	// again.
	tellAgain = 5 * time.Second
)

// sweeping is where the driver stands with its sweeps, which come one at a time.
type sweeping struct {
	mu sync.Mutex
	// lease is the etcd lease of the election, nil if another won it.
	lease *etcdLease
	// notBefore is when to look again.
	notBefore driver.Instant
	// fallen tells of the marks that have gone.
	fallen *fallen
	// untold are the ends that wait to be told, since when they were reported.
	untold map[string]driver.Instant
	// collected is the record up to which idle ones have been looked for.
	collected string
}

// Sweep ends the leases whose marks have gone, if this driver is the one that does
// it for all; the others ask, every two seconds, whether it still is.
func (s *Store) Sweep(ctx context.Context) ([]driver.Ended, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	w := &s.sweeping
	w.mu.Lock()
	defer w.mu.Unlock()
	now := s.o.Clock.Now()
	if now < w.notBefore {
		return nil, nil
	}
	w.notBefore = now.Add(sweepEvery)
	if _, err := s.verified(ctx); err != nil { // no acquire may come soon
		return nil, err
	}
	if elected, err := w.elected(ctx, s); err != nil || !elected {
		return nil, err
	}
	if w.fallen == nil || w.fallen.broken() {
		fallen, err := s.fallen(ctx)
		if err != nil {
			return nil, err
		}
		w.fallen = fallen
	}
	var found []driver.Ended
	ids := w.fallen.take(sweepMost)
	for i, id := range ids {
		evicted, err := s.sweepLock(ctx, id)
		if err != nil {
			w.fallen.add(ids[i:]...)
			return w.reported(s, found), err
		}
		found = append(found, evicted...)
	}
	found = w.reported(s, found)
	again, err := w.again(ctx, s)
	found = append(found, again...)
	if err != nil {
		return found, err
	}
	return found, w.collect(ctx, s)
}

// elected says whether this driver sweeps.
func (w *sweeping) elected(ctx context.Context, s *Store) (bool, error) {
	now := s.o.Clock.Now()
	if w.lease != nil {
		if w.lease.until().Sub(now) > w.lease.ttl*3/4 {
			return true, nil
		}
		ttl, err := s.keeper.keep(ctx, w.lease.id)
		if err == nil {
			w.lease.origin, w.lease.ttl = now, ttl
			return true, nil
		}
		if !errors.Is(err, errNoLease) {
			return false, err
		}
		w.step(s)
	}
	l, err := s.leases.take(ctx, electedFor)
	if err != nil {
		return false, err
	}
	key := s.keys.sweeper()
	resp, err := s.commit(ctx,
		[]clientv3.Cmp{clientv3.Compare(clientv3.CreateRevision(key), "=", 0)},
		[]clientv3.Op{clientv3.OpPut(key, s.name, clientv3.WithLease(clientv3.LeaseID(l.id)))}, nil)
	if err != nil {
		return false, err
	}
	if !resp.Succeeded {
		s.leases.put(l)
		w.notBefore = now.Add(electedFor/2 + rand.N(electedFor/8))
		return false, nil
	}
	w.lease = l
	return true, nil
}

// step ends this driver's turn.
func (w *sweeping) step(*Store) {
	if w.fallen != nil {
		w.fallen.stop()
	}
	w.lease, w.fallen, w.untold = nil, nil, nil
}

// resign lets another take over at once.
func (w *sweeping) resign(s *Store) {
	w.mu.Lock()
	defer w.mu.Unlock()
	if w.lease == nil {
		return
	}
	if c := s.client.Load(); c != nil {
		ctx, cancel := context.WithTimeout(s.stopped, s.o.Timeout/4)
		defer cancel()
		_, _ = c.Lease.Revoke(ctx, clientv3.LeaseID(w.lease.id)) // else it runs out
	}
	w.step(s)
}

// sweepLock removes what has expired of a lock.
func (s *Store) sweepLock(ctx context.Context, id string) (evicted []driver.Ended, err error) {
	err = s.change(ctx, id, func(n *snapshot) (*change, func(int64), error) {
		evicted = nil
		if len(n.expired) == 0 {
			return nil, nil, nil
		}
		c := s.onRecord(n)
		r := c.prune(n.record)
		c.putRecord(r)
		return c, func(int64) {
			evicted = c.evicted
			n.record, n.dead, n.expired = r, n.dead[len(c.buried):], n.expired[len(c.evicted):]
		}, nil
	})
	return evicted, err
}

// reported notes that ends are with the caller.
func (w *sweeping) reported(s *Store, ends []driver.Ended) []driver.Ended {
	if w.untold == nil {
		w.untold = make(map[string]driver.Instant)
	}
	for _, e := range ends {
		w.untold[s.keys.untold(e.LockID, e.Token)] = s.o.Clock.Now()
	}
	return ends
}

// again reports the ends that nobody has told within the time that was left for
// it, by whatever call they were reported first.
func (w *sweeping) again(ctx context.Context, s *Store) (ends []driver.Ended, err error) {
	resp, err := s.get(ctx, s.keys.untolds(), clientv3.WithPrefix(), clientv3.WithLimit(sweepMost))
	if err != nil {
		return nil, err
	}
	now := s.o.Clock.Now()
	standing := make(map[string]driver.Instant, len(resp.Kvs))
	for _, kv := range resp.Kvs {
		key := string(kv.Key)
		since, ok := w.untold[key]
		if !ok {
			since = now
		}
		if now.Sub(since) >= tellAgain {
			if e, ok := s.parseUntold(kv); ok {
				ends = append(ends, e)
			}
			since = now
		}
		standing[key] = since
	}
	w.untold = standing
	return ends, nil
}

func (s *Store) parseUntold(kv *mvccpb.KeyValue) (e driver.Ended, ok bool) {
	id, token, _, ok := cutToken(string(kv.Key), s.keys.untolds())
	var u untold
	if err := decode(string(kv.Key), kv.Value, &u); !ok || err != nil {
		s.o.Logger.Warn("an end that is to be told cannot be read", driver.LogBackend, "etcd", driver.LogLock, id, driver.LogError, err)
		return e, false
	}
	return driver.Ended{LockID: id, OwnerID: u.Owner, Token: token, Shared: u.Shared, Cause: u.Cause}, true
}

// Told forgets ends.
func (s *Store) Told(ctx context.Context, ends []driver.Ended) error {
	if err := s.check(ctx); err != nil || len(ends) == 0 {
		return err
	}
	for len(ends) > 0 {
		n := min(len(ends), maxOps)
		ops := make([]clientv3.Op, n)
		for i, e := range ends[:n] {
			ops[i] = clientv3.OpDelete(s.keys.untold(e.LockID, e.Token))
		}
		if _, err := s.commit(ctx, nil, ops, nil); err != nil {
			return err
		}
		ends = ends[n:]
	}
	return nil
}
