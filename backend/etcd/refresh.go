package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// refreshAtOnce bounds the places that one transaction writes.
const refreshAtOnce = 96

// refreshes move the deadlines of the places of this driver. The waiters of a lock
// that ask while a transaction for others is on its way share the next one, and
// what it reads: many of them cost the store little more than one.
type refreshes struct {
	s *Store

	mu sync.Mutex
	// pending are those of each lock for which a goroutine is at work.
	pending map[string][]*refresh
}

// refresh is one place on its way.
type refresh struct {
	was, again place
	answer     chan refreshed
}

// refreshed is the lock after it, which is others' too. It is nil if the place could
// not be written because the session has ended.
type refreshed struct {
	n *snapshot
	// done: the place was written.
	done bool
	err  error
}

func newRefreshes(s *Store) *refreshes {
	return &refreshes{s: s, pending: make(map[string][]*refresh)}
}

// move writes a place anew and reads the lock in one step.
func (r *refreshes) move(ctx context.Context, lock string, was place, req *driver.AcquireRequest) refreshed {
	one := &refresh{was: was, again: was, answer: make(chan refreshed, 1)}
	one.again.Lasts = req.PlaceTTL.Milliseconds()
	r.mu.Lock()
	pending, working := r.pending[lock]
	r.pending[lock] = append(pending, one)
	r.mu.Unlock()
	if !working && !r.s.start(func() { r.work(lock) }) {
		r.mu.Lock()
		delete(r.pending, lock)
		r.mu.Unlock()
		return refreshed{err: driver.ErrClosed}
	}
	select {
	case answer := <-one.answer:
		return answer
	case <-r.s.stopped.Done():
		return refreshed{err: driver.ErrClosed}
	case <-ctx.Done():
		return refreshed{err: fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())}
	}
}

// work writes what is pending for a lock until nothing is.
func (r *refreshes) work(lock string) {
	for {
		r.mu.Lock()
		all := r.pending[lock]
		if len(all) == 0 {
			delete(r.pending, lock)
			r.mu.Unlock()
			return
		}
		batch := all[:min(len(all), refreshAtOnce)]
		r.pending[lock] = slices.Clone(all[len(batch):])
		r.mu.Unlock()
		answer := r.write(lock, batch)
		for _, one := range batch {
			one.answer <- answer
		}
	}
}

// write is one transaction. If a place is not what it was, none is written, and
// each attempt decides about what was read.
func (r *refreshes) write(lock string, batch []*refresh) refreshed {
	s, ctx := r.s, r.s.stopped // the call has its own bound
	longest := batch[0].again.lasts()
	for _, one := range batch {
		longest = max(longest, one.again.lasts())
	}
	id, err := s.session.under(ctx, longest)
	if err != nil {
		return refreshed{err: err}
	}
	read := s.lockOps(lock)
	var cmps []clientv3.Cmp
	var ops []clientv3.Op
	written := make(map[string]bool, len(batch))
	for _, one := range batch {
		if written[one.was.key] { // two repeats of one request
			continue
		}
		written[one.was.key] = true
		cmps = append(cmps, clientv3.Compare(clientv3.ModRevision(one.was.key), "=", one.was.rev))
		ops = append(ops, clientv3.OpPut(one.was.key, encode(one.again), clientv3.WithLease(clientv3.LeaseID(id))))
	}
	resp, err := s.commit(ctx, cmps, append(ops, read...), read)
	if errors.Is(err, rpctypes.ErrLeaseNotFound) {
		s.session.lost(id)
		return refreshed{}
	}
	if err != nil {
		return refreshed{err: err}
	}
	answers := resp.Responses
	if resp.Succeeded {
		answers = answers[len(ops):]
	}
	n, err := s.parse(lock, resp.Header, answers)
	return refreshed{n: n, done: resp.Succeeded, err: err}
}

// wait moves the deadline of the place that this driver has written for the
// request, if it has, and answers if the request must go on waiting. Else it
// returns what it read, if it did.
func (a *attempt) wait(ctx context.Context) (n *snapshot, res *driver.AcquireResult, err error) {
	s := a.s
	was := s.hints.place(a.req.LockID, a.req.RequestID)
	if was == nil {
		return nil, nil, nil
	}
	a.waits = true
	// One that has run out is not revived, and another attempt's not taken over
	// before it is known that this one was not undone.
	if now := s.o.Clock.Now(); !a.req.Enqueue || was.Key != a.req.Key || s.seen.place(was, now) <= now {
		return nil, nil, nil
	}
	moved := s.refreshes.move(ctx, a.req.LockID, *was, a.req)
	if moved.err != nil || moved.n == nil {
		return nil, nil, moved.err
	}
	n, a.refreshed = moved.n, moved.done
	p := n.waiting(a.req.RequestID)
	if a.refreshed && p != nil && p.Key == a.req.Key && n.waits(a.req, p) {
		return nil, a.queued(n, p, nil).res, nil
	}
	a.refreshed = a.refreshed && p != nil && p.Key == a.req.Key
	return n.clone(), nil, nil
}

// waits says whether nothing but its place has the request.
func (n *snapshot) waits(req *driver.AcquireRequest, p *place) bool {
	if _, over := n.end(func(e ending) bool { return e.ends(req.RequestID, req.Key) }); over {
		return false
	}
	if n.holder(func(h *holder) bool { return h.Owner == req.OwnerID || slices.Contains(h.Holds, req.RequestID) }) != nil {
		return false
	}
	first, _ := n.before(p)
	return !first || !n.admits(req.Shared)
}

// clone is a snapshot of which the lists can be changed.
func (n *snapshot) clone() *snapshot {
	c := *n
	c.holders, c.expired = slices.Clone(n.holders), slices.Clone(n.expired)
	c.waiters, c.dead = slices.Clone(n.waiters), slices.Clone(n.dead)
	return &c
}
