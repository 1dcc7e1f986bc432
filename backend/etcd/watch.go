package etcd

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// rewatch is the pause after a watch broke.
const rewatch = 200 * time.Millisecond

// Watch delivers hints until ctx ends or the driver is closed.
func (s *Store) Watch(ctx context.Context, sink func(driver.Hint)) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.stopped, stop)()
	var running sync.WaitGroup
	h := s.hints
	h.mu.Lock()
	h.sink, h.watching, h.running = sink, watching, &running
	sink(driver.Hint{Kind: driver.HintResync})
	for lock, q := range h.locks {
		h.watch(lock, q, 0)
	}
	h.mu.Unlock()
	running.Go(func() { s.inbox(watching) })
	<-watching.Done()
	h.mu.Lock()
	h.sink = nil
	for _, q := range h.locks {
		if q.stop != nil {
			q.stop()
			q.stop = nil
		}
	}
	h.mu.Unlock()
	running.Wait()
	if err := ctx.Err(); err != nil {
		return err
	}
	return driver.ErrClosed
}

// watch begins to watch a lock, from a revision on, or from now. The mutex is
// held.
func (h *hints) watch(lock string, q *queueWatch, rev int64) {
	ctx, stop := context.WithCancel(h.watching)
	q.stop = stop
	h.running.Go(func() {
		defer stop()
		for ctx.Err() == nil {
			h.follow(ctx, lock, q, rev)
			if ctx.Err() != nil {
				return
			}
			// What was missed is told as if all had gone.
			rev = 0
			h.gone(lock, q, 1<<63-1, func(*waiter) bool { return true })
			pause(ctx)
		}
	})
}

// follow tells of deletions until the watch breaks.
func (h *hints) follow(ctx context.Context, lock string, q *queueWatch, rev int64) {
	c, err := h.s.connected()
	if err != nil {
		return
	}
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	leader := clientv3.WithRequireLeader(ctx)
	from, to := h.s.keys.holders(lock)
	leases := c.Watcher.Watch(leader, from, clientv3.WithRange(to), clientv3.WithRev(rev), clientv3.WithFilterPut())
	from, to = h.s.keys.places(lock)
	places := c.Watcher.Watch(leader, from, clientv3.WithRange(to), clientv3.WithRev(rev), clientv3.WithFilterPut())
	for {
		var resp clientv3.WatchResponse
		var ok bool
		select {
		case resp, ok = <-leases:
		case resp, ok = <-places:
		}
		if !ok || resp.Err() != nil {
			return // compacted, without a leader, or closed
		}
		for _, e := range resp.Events {
			if e.Type != mvccpb.DELETE {
				continue
			}
			key := string(e.Kv.Key)
			_, _, isLease := cut(key, h.s.keys.allHolders())
			h.gone(lock, q, e.Kv.ModRevision, func(w *waiter) bool { return w.behind == key || w.place.key == key || isLease && w.behind == "" })
		}
	}
}

// gone tells those who waited for it.
func (h *hints) gone(lock string, q *queueWatch, rev int64, waited func(*waiter) bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if rev < 1<<63-1 {
		q.gone = max(q.gone, rev)
	}
	for _, w := range q.waiters {
		if waited(w) {
			h.tell(lock, w)
		}
	}
}

// pause keeps what broke from being tried without rest.
func pause(ctx context.Context) {
	t := time.NewTimer(rewatch + rand.N(rewatch))
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
	}
}

// inbox delivers the notes that others leave for this driver.
func (s *Store) inbox(ctx context.Context) {
	for rev := int64(0); ctx.Err() == nil; {
		if c, err := s.connected(); err == nil {
			rev = s.notes(ctx, c, rev)
		}
		if ctx.Err() != nil {
			return
		}
		s.o.Logger.Warn("the watch for hints broke, waiters poll until it is back", driver.LogBackend, "etcd")
		pause(ctx)
		s.hints.resync()
	}
}

func (h *hints) resync() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sink != nil {
		h.sink(driver.Hint{Kind: driver.HintResync})
	}
}

// notes reads notes until the watch breaks, and returns from where to go on.
func (s *Store) notes(ctx context.Context, c *clientv3.Client, rev int64) int64 {
	ctx, stop := context.WithCancel(ctx)
	defer stop()
	box := s.keys.inbox(s.name)
	for resp := range c.Watcher.Watch(clientv3.WithRequireLeader(ctx), box, clientv3.WithPrefix(), clientv3.WithRev(rev), clientv3.WithFilterDelete()) {
		if resp.Err() != nil {
			return 0
		}
		read := make([]clientv3.Op, 0, len(resp.Events))
		for _, e := range resp.Events {
			if id, token, _, ok := cutToken(string(e.Kv.Key), box); ok {
				s.hints.revoked(id, token)
			}
			rev = e.Kv.ModRevision + 1
			if len(read) < maxOps { // what is left goes with its sender's session
				read = append(read, clientv3.OpDelete(string(e.Kv.Key)))
			}
		}
		if len(read) > 0 {
			_, _ = s.commit(ctx, nil, read, nil) // they would go with their senders' sessions
		}
	}
	return rev
}

// notify leaves a note for the driver that has the lease, as part of a change: its
// lease is not what it was.
func (s *Store) notify(ctx context.Context, c *change, h *holder) {
	if h.To == s.name {
		return
	}
	id, err := s.session.under(ctx, sessionTTL/2)
	if err != nil {
		return // it learns of it by its next renewal
	}
	c.session = id
	c.do(clientv3.OpPut(s.keys.note(h.To, c.n.id, h.token), "", clientv3.WithLease(clientv3.LeaseID(id))))
}

// notified tells it to this driver, if the lease is its own.
func (s *Store) notified(id string, h *holder) {
	if h.To == s.name {
		s.hints.revoked(id, h.token)
	}
}
