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

// hints are the waiters of this driver, each with what stands before it, and
// where its hints go. One watch a lock, on one stream of the client's, tells of
// what goes away; a driver's inbox tells of what happened to its leases.
type hints struct {
	s *Store

	mu sync.Mutex
	// sink is that of the Watch that runs, watching its context.
	sink     func(driver.Hint)
	watching context.Context
	running  *sync.WaitGroup
	locks    map[string]*queueWatch
	waiters  int
	purge    int
}

// queueWatch is a lock at which this driver has waiters.
type queueWatch struct {
	waiters map[string]*waiter
	// gone is the revision of the latest deletion that the watch told.
	gone int64
	// stop ends the watch; nil while there is none.
	stop context.CancelFunc
}

// waiter is one that waits for behind to go: the key of a place, or "" for the
// leases.
type waiter struct {
	place  place
	behind string
	until  driver.Instant
	// told: it has its hint, and has not asked since.
	told bool
}

func newHints(s *Store) *hints {
	return &hints{s: s, locks: make(map[string]*queueWatch), purge: observationsKept}
}

// place is the request's place as this driver wrote it last.
func (h *hints) place(lock, request string) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q := h.locks[lock]; q != nil {
		if w := q.waiters[request]; w != nil {
			p := w.place
			return &p
		}
	}
	return nil
}

// wait notes what a waiter saw before itself in the snapshot. What has gone since
// is told at once.
func (h *hints) wait(n *snapshot, p *place, behind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.locks[n.id]
	if q == nil {
		q = &queueWatch{waiters: make(map[string]*waiter)}
		h.locks[n.id] = q
	}
	if q.waiters[p.Request] == nil {
		h.waiters++
	}
	now := h.s.o.Clock.Now()
	w := &waiter{place: *p, behind: behind, until: now.Add(p.lasts())}
	q.waiters[p.Request] = w
	switch {
	case h.sink == nil:
	case q.stop == nil:
		h.watch(n.id, q, n.rev+1)
	case q.gone > n.rev:
		h.tell(n.id, w)
	}
	h.shrink(now)
}

// left forgets a waiter.
func (h *hints) left(lock, request string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(lock, request)
}

func (h *hints) drop(lock, request string) {
	q := h.locks[lock]
	if q == nil || q.waiters[request] == nil {
		return
	}
	h.waiters--
	if delete(q.waiters, request); len(q.waiters) == 0 {
		if q.stop != nil {
			q.stop()
		}
		delete(h.locks, lock)
	}
}

// shrink drops waiters that have not asked for longer than their places last.
func (h *hints) shrink(now driver.Instant) {
	if h.waiters < h.purge {
		return
	}
	for lock, q := range h.locks {
		for request, w := range q.waiters {
			if w.until <= now {
				h.drop(lock, request)
			}
		}
	}
	h.purge = max(observationsKept, 2*h.waiters)
}

// tell hints at a waiter, once until it asks again.
func (h *hints) tell(lock string, w *waiter) {
	if h.sink != nil && !w.told {
		w.told = true
		h.sink(driver.Hint{Kind: driver.HintGrantable, LockID: lock, RequestID: w.place.Request})
	}
}

// revoked hints at a lease of this driver's own.
func (h *hints) revoked(lock string, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sink != nil {
		h.sink(driver.Hint{Kind: driver.HintRevoked, LockID: lock, Token: token})
	}
}

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
			h.gone(lock, q, e.Kv.ModRevision, func(w *waiter) bool { return w.behind == key || isLease && w.behind == "" })
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
