package etcd

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// sessionTTL is the shortest time of the etcd lease of a driver's places.
const sessionTTL = time.Minute

// session is the etcd lease under which the places of this driver stand, so that
// they go when the driver has been gone for long. It says nothing about any one of
// them, whose deadline is observed (see observations), and nothing is held by it.
type session struct {
	s  *Store
	mu sync.Mutex
	l  *etcdLease
}

func newSession(s *Store) *session { return &session{s: s} }

// under returns an etcd lease that stands at least as long as a place.
func (t *session) under(ctx context.Context, lasts time.Duration) (id int64, err error) {
	t.mu.Lock()
	defer t.mu.Unlock()
	now := t.s.o.Clock.Now()
	if t.l != nil && t.l.ttl < 2*lasts {
		t.l = nil
	}
	if t.l != nil && t.l.until().Sub(now) < lasts {
		ttl, err := t.s.keeper.keep(ctx, t.l.id)
		switch {
		case errors.Is(err, errNoLease):
			t.l = nil
		case err != nil:
			return 0, err
		default:
			t.l.origin, t.l.ttl = now, ttl
		}
	}
	if t.l == nil {
		if t.l, err = t.s.leases.grant(ctx, seconds(max(sessionTTL, 2*lasts))); err != nil {
			return 0, err
		}
	}
	return t.l.id, nil
}

// lost forgets an etcd lease that has ended.
func (t *session) lost(id int64) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.l != nil && t.l.id == id {
		t.l = nil
	}
}

// revoke ends the etcd lease if no place stands under it: one that does is the
// waiter's, who may come back through another driver.
func (t *session) revoke(ctx context.Context, c *clientv3.Client) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.l == nil {
		return
	}
	id := clientv3.LeaseID(t.l.id)
	if left, err := c.Lease.TimeToLive(ctx, id, clientv3.WithAttachedKeys()); err == nil && len(left.Keys) == 0 {
		_, _ = c.Lease.Revoke(ctx, id)
	}
	t.l = nil
}

// queue keeps or makes the request's place.
func (a *attempt) queue(ctx context.Context, n *snapshot, p *place, newcomer bool) step {
	s := a.s
	if a.refreshed && !newcomer {
		return a.queued(n, p, nil)
	}
	if newcomer && len(n.waiters) >= s.o.MaxWaiters {
		return a.sure(ended(errLimit(len(n.waiters))))
	}
	id, err := s.session.under(ctx, a.req.PlaceTTL)
	if err != nil {
		return ended(err)
	}
	var c *change
	mine := place{
		Format: driver.Format, Owner: a.req.OwnerID, Request: a.req.RequestID, Ticket: n.record.Seq + 1, Priority: a.req.Priority, Shared: a.req.Shared,
	}
	if newcomer {
		c = s.onRecord(n)
		mine.key = s.keys.place(n.id, mine.order(), mine.Ticket)
		r := n.record
		r.Seq++
		r = c.prune(r)
		c.putRecord(r)
	} else {
		mine = *p
		c = &change{s: s, n: n}
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
	}
	mine.Key, mine.Lasts = a.req.Key, a.req.PlaceTTL.Milliseconds()
	c.do(clientv3.OpPut(mine.key, encode(mine), clientv3.WithLease(clientv3.LeaseID(id))))
	rev, next, err := c.commit(ctx)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		s.session.lost(id)
		return step{again: true}
	case err != nil || next != nil:
		return step{err: err, next: next}
	}
	mine.rev, mine.under = rev, id
	n.rev = rev
	s.seen.place(&mine, s.o.Clock.Now())
	n.waiters = slices.DeleteFunc(slices.Clone(n.waiters), func(other *place) bool { return other == p })
	n.waiters = append(n.waiters, &mine)
	slices.SortFunc(n.waiters, comparePlaces)
	return a.queued(n, &mine, c.evicted)
}

// queued describes the place, and when to look again without a hint: hints tell
// of expiries, so that only places that run out are to be looked for.
func (a *attempt) queued(n *snapshot, p *place, evicted []driver.Ended) step {
	s := a.s
	first, position := n.before(p)
	res := &driver.AcquireResult{
		Position: position, QueueLength: len(n.waiters), Ticket: p.Ticket, RetryAfter: min(s.o.Poll, a.req.PlaceTTL/2), Evicted: evicted,
	}
	if len(n.holders) > 0 {
		public := s.public(n.id, n.holders[0])
		res.Holder = &public
	}
	if position > 1 {
		now := s.o.Clock.Now()
		res.RetryAfter = min(res.RetryAfter, max(n.firstDeath.Sub(now), s.o.Poll/4))
	}
	res.RetryAfter = max(res.RetryAfter, time.Millisecond)
	behind := "" // the leases
	if !first {
		behind = n.waiters[position-2].key
	}
	s.hints.wait(n, p, behind)
	return step{res: res}
}

// dropPlace deletes the request's place.
func (a *attempt) dropPlace(ctx context.Context, n *snapshot, p *place) step {
	c := &change{s: a.s, n: n}
	c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
	c.do(clientv3.OpDelete(p.key))
	_, next, err := c.commit(ctx)
	if err == nil && next == nil {
		a.s.seen.forget(p.key)
		a.s.hints.left(n.id, p.Request)
	}
	return step{err: err, next: next}
}

// bury deletes dead places, if there are too many of them to be passed over in the
// transaction of a grant.
func (s *Store) bury(ctx context.Context, n *snapshot) step {
	c := &change{s: s, n: n}
	for _, p := range n.dead[:min(len(n.dead), maxOps)] {
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
		c.do(clientv3.OpDelete(p.key))
		c.buried = append(c.buried, p.key)
	}
	_, next, err := c.commit(ctx)
	return step{err: err, next: next, again: err == nil && next == nil}
}
