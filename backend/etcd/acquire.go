package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// attempt is one acquire on its way.
type attempt struct {
	s   *Store
	req *driver.AcquireRequest
	at  *local
	ttl time.Duration
	// known is the store's stamp as the cluster was compared with it.
	known string
	// lease is the etcd lease for the grant, once one is needed. It is nil again
	// when it is not the attempt's any more.
	lease *etcdLease
	// guess says that the snapshot is one, waits that the request was told a place
	// before, refreshed that this attempt has moved its deadline.
	guess, waits, refreshed bool
}

// step is what an attempt came to: an outcome, or a newer state to decide about.
type step struct {
	res  *driver.AcquireResult
	err  error
	next *snapshot
	// again says that the state is to be read again.
	again bool
}

// again is a step whose transaction failed as a whole because an etcd lease in it
// has ended: another will do.
func again(st step) step {
	if errors.Is(st.err, rpctypes.ErrLeaseNotFound) {
		return step{again: true}
	}
	return st
}

func ended(err error) step { return step{err: err} }

// Acquire makes one attempt, as driver.Driver describes it step by step. A refused
// transaction is no outcome: it says what the lock has become, and that is decided
// about anew.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	a := &attempt{s: s, req: req, ttl: max(seconds(req.TTL), s.o.MinTTL)}
	var err error
	if a.known, err = s.verified(ctx); err != nil {
		return nil, err
	}
	// A waiter keeps its place and reads in one step, and decides nothing unless it
	// is its turn: so many of them do not hold up who does.
	n, res, err := a.wait(ctx)
	if res != nil || err != nil {
		return res, err
	}
	var leave func()
	if a.at, leave, err = s.locks.enter(ctx, req.LockID); err != nil {
		return nil, s.unread(err)
	}
	defer leave()
	defer func() {
		if a.lease != nil {
			s.leases.put(a.lease)
		}
	}()
	if n == nil && !a.waits {
		n, a.guess = a.at.known, true
		if n == nil {
			n = s.blank(req.LockID)
		}
	}
	for {
		if n == nil {
			if n, err = s.look(ctx, req.LockID); err != nil {
				return nil, err
			}
			a.guess = false
		}
		a.at.known = nil
		st := a.decide(ctx, n)
		if st.err != nil || st.next == nil && !st.again {
			return st.res, st.err
		}
		n, a.guess = st.next, false
	}
}

func (a *attempt) decide(ctx context.Context, n *snapshot) step {
	if h := n.holding(a.req.RequestID); h != nil {
		return a.repeat(ctx, n, h)
	}
	if e, ok := n.end(func(e ending) bool { return e.ends(a.req.RequestID, a.req.Key) }); ok {
		return a.sure(ended(driver.Lost(e.Cause)))
	}
	p := n.waiting(a.req.RequestID)
	if h := n.holder(func(h *holder) bool { return h.Owner == a.req.OwnerID }); h != nil {
		return a.reenter(ctx, n, h, p)
	}
	first, newcomer := len(n.waiters) == 0, p == nil
	switch {
	case !newcomer:
		first, _ = n.before(p)
	case !first && a.req.Enqueue:
		// A newcomer is ordered among the living before it can be granted.
		p = &place{Ticket: n.record.Seq + 1, Priority: a.req.Priority, Shared: a.req.Shared}
		first, _ = n.before(p)
	}
	switch {
	case len(n.dead) > maxOps/2 && (a.req.Enqueue || first):
		return a.s.bury(ctx, n)
	case first && n.admits(a.req.Shared):
		if n.stamp == 0 || n.paused != "" {
			return a.closed(ctx, n, p, newcomer)
		}
		return a.grant(ctx, n, p, newcomer)
	case a.req.Enqueue:
		return a.queue(ctx, n, p, newcomer)
	case a.guess:
		return step{again: true}
	}
	if !newcomer {
		if st := a.dropPlace(ctx, n, p); st.err != nil || st.next != nil {
			return st
		}
		n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
	}
	return ended(a.s.refusal(n))
}

// sure is an outcome that no transaction has confirmed: on a guess, it is to be
// read first.
func (a *attempt) sure(st step) step {
	if a.guess {
		return step{again: true}
	}
	return st
}

// grant makes the lease. The mark that says it stands is put under the etcd lease
// in the same transaction, which fails as a whole if that has ended.
func (a *attempt) grant(ctx context.Context, n *snapshot, p *place, newcomer bool) step {
	s := a.s
	if a.lease == nil {
		var err error
		if a.lease, err = s.leases.take(ctx, a.ttl); err != nil {
			return ended(err)
		}
	}
	lease := a.lease
	c := s.onRecord(n)
	r := n.record
	floor := a.req.TokenFloor
	if n.recordRev == 0 {
		floor = max(floor, n.floor+1)
	}
	r.Last = driver.NextToken(r.Last, floor, s.o.Wall().UnixMicro())
	h := &holder{
		token: r.Last, Owner: a.req.OwnerID, Key: a.req.Key, Shared: a.req.Shared, Holds: []string{a.req.RequestID}, Attach: 1,
		TTL: lease.ttl.Milliseconds(), Metadata: a.req.Metadata, Lease: lease.id, To: s.name,
	}
	c.grants()
	switch {
	case p == nil:
	case newcomer:
		r.Seq++ // it had a place for a moment
	default:
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
		c.do(clientv3.OpDelete(p.key))
	}
	c.putHolder(h)
	c.do(clientv3.OpPut(s.keys.alive(n.id, h.token), "", clientv3.WithLease(clientv3.LeaseID(lease.id))))
	r = c.prune(r)
	c.putRecord(r)

	// An etcd lease that was used before is prolonged beside the transaction.
	origin := s.o.Clock.Now()
	var prolonged func(context.Context) (time.Duration, error)
	if !lease.fresh {
		prolonged = s.keeper.begin(lease.id)
	}
	rev, next, err := c.commit(ctx)
	if prolonged != nil {
		if ttl, err := prolonged(ctx); err == nil {
			lease.origin, lease.ttl = origin, ttl
		}
	}
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		a.lease = nil
		return step{again: true}
	case err != nil:
		if !errors.Is(err, driver.ErrUnavailable) {
			a.lease = nil // it may have the lease's mark by now, or get it later
		}
		if rev > 0 {
			s.withdraw(ctx, n, h, r, rev)
		}
		return ended(err)
	case next != nil:
		return step{next: next}
	}
	a.lease = nil
	if err := s.same(ctx, a.known); err != nil {
		s.withdraw(ctx, n, h, r, rev)
		return ended(err)
	}
	if p != nil && !newcomer {
		n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
		s.seen.forget(p.key)
	}
	s.hints.left(n.id, a.req.RequestID)
	h.rev = rev
	n.record, n.holders = r, append(slices.Clone(n.holders), h)
	n.dead, n.expired = n.dead[len(c.buried):], n.expired[len(c.evicted):]
	a.at.known = c.after(rev)
	return step{res: &driver.AcquireResult{Lease: s.granted(n.id, h, lease), Evicted: c.evicted}}
}

// same says whether the cluster that has answered is the one that was compared with
// the stamp. What another has granted does not count.
func (s *Store) same(ctx context.Context, known string) error {
	if now, ok := s.condition.stands(); ok && now == known {
		return nil
	}
	now, err := s.verified(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the cluster was not looked at since: %w", driver.ErrIndeterminate, err)
	case now != known:
		return fmt.Errorf("%w: %w", driver.ErrIndeterminate, errRestored)
	}
	return nil
}

// withdraw takes a grant back that does not count, without an end: the request goes
// on. If that fails the lease runs out before the pause does.
func (s *Store) withdraw(ctx context.Context, n *snapshot, h *holder, r record, rev int64) {
	again := *n
	again.recordRev = rev
	c := s.onRecord(&again)
	c.putRecord(r)
	c.dropHolder(h)
	_, _, _ = c.commit(ctx)
}

// granted notes the proof of a lease and describes it.
func (s *Store) granted(id string, h *holder, l *etcdLease) *driver.Lease {
	s.held.proven(id, h.token, heldLease{etcdLease: *l, key: h.Key, attach: h.Attach}, s.o.Clock.Now())
	left := l.until().Sub(s.o.Clock.Now())
	return &driver.Lease{
		LockID: id, OwnerID: h.Owner, Token: h.token, Shared: h.Shared, Holds: slices.Clone(h.Holds), Attach: h.Attach,
		TTL: h.ttl(), Remaining: l.ttl, Origin: l.origin, ExpiresAt: s.o.Wall().Add(left), Metadata: h.Metadata,
	}
}

// repeat answers an acquire whose reply may have been lost.
func (a *attempt) repeat(ctx context.Context, n *snapshot, h *holder) step {
	s := a.s
	switch {
	case a.guess:
		return step{again: true}
	case n.paused != "":
		return ended(s.quarantined(n))
	case h.Revoked:
		return ended(driver.Lost(driver.CauseForced))
	case h.Key != a.req.Key:
		taken := *h
		taken.Key, taken.To = a.req.Key, s.name
		taken.Attach++
		c := s.onRecord(n)
		c.stands(h)
		c.putHolder(&taken)
		c.putRecord(n.record)
		s.notify(ctx, c, h)
		if _, next, err := c.commit(ctx); err != nil || next != nil {
			return again(step{err: err, next: next})
		}
		h = &taken
	}
	l, err := s.left(ctx, n.id, h)
	switch {
	case errors.Is(err, errNoLease):
		return step{again: true}
	case err == nil:
		err = s.same(ctx, a.known)
	}
	if err != nil {
		return ended(err)
	}
	return step{res: &driver.AcquireResult{Lease: s.granted(n.id, h, l)}}
}

// left is what is known of the etcd lease of a lease that was only found: what
// this driver has proven of it, or what the cluster says is left.
func (s *Store) left(ctx context.Context, id string, h *holder) (*etcdLease, error) {
	if l := s.held.find(id, h.token); l != nil && l.id == h.Lease {
		return &l.etcdLease, nil
	}
	l := &etcdLease{id: h.Lease, origin: s.o.Clock.Now()}
	_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Lease.TimeToLive(ctx, clientv3.LeaseID(h.Lease))
		if err != nil {
			return err
		}
		l.ttl = time.Duration(resp.TTL) * time.Second // rounded down
		return nil
	})
	switch {
	case err != nil:
		return nil, s.unread(err)
	case l.ttl < 0:
		return nil, errNoLease
	}
	return l, nil
}

// reenter adds a hold to the owner's own lease, or says that it holds it. A
// place that the request took before is of no use any more: left standing, it
// would keep others waiting until it ran out.
func (a *attempt) reenter(ctx context.Context, n *snapshot, h *holder, p *place) step {
	s, req := a.s, a.req
	if a.guess && (!req.Reentrant || h.Key != req.Key || h.Shared != req.Shared) {
		return step{again: true}
	}
	if !req.Reentrant || h.Key != req.Key || h.Shared != req.Shared || h.Revoked {
		if p != nil {
			if st := a.dropPlace(ctx, n, p); st.err != nil || st.next != nil {
				return st
			}
			n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
		}
		held := s.refusal(n)
		public := s.public(n.id, h)
		held.Holder, held.BySelf, held.OtherMode = &public, true, h.Shared != req.Shared
		return a.sure(ended(held))
	}
	if n.paused != "" {
		return a.sure(ended(s.quarantined(n)))
	}
	c := s.onRecord(n)
	c.stands(h)
	c.grants()
	again := *h
	again.Holds = append(slices.Clone(h.Holds), req.RequestID)
	l, err := s.prolongIn(ctx, c, &again, a.ttl)
	if err != nil {
		if errors.Is(err, errNoLease) {
			return step{again: true}
		}
		return ended(err)
	}
	c.putHolder(&again)
	c.putRecord(n.record)
	if p != nil {
		c.do(clientv3.OpDelete(p.key))
	}
	rev, next, err := c.commit(ctx)
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		return step{again: true}
	case err != nil || next != nil:
		return step{err: err, next: next}
	}
	if err := s.same(ctx, a.known); err != nil {
		return ended(err)
	}
	if p != nil {
		n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
		s.hints.left(n.id, req.RequestID)
	}
	again.rev = rev
	n.holders = slices.Clone(n.holders)
	n.holders[slices.Index(n.holders, h)] = &again
	a.at.known = c.after(rev)
	return step{res: &driver.AcquireResult{Lease: s.granted(n.id, &again, l)}}
}

// prolongIn prolongs a lease to the TTL as part of a change: by a keep-alive of
// its etcd lease, or under a new one, which the change then needs, if that lasts
// longer.
func (s *Store) prolongIn(ctx context.Context, c *change, h *holder, ttl time.Duration) (*etcdLease, error) {
	if ttl <= h.ttl() {
		l := &etcdLease{id: h.Lease, origin: s.o.Clock.Now()}
		var err error
		if l.ttl, err = s.keeper.keep(ctx, h.Lease); err != nil {
			return nil, err
		}
		return l, nil
	}
	return s.moveIn(ctx, c, h, ttl)
}

// moveIn puts the lease under a new etcd lease of the TTL as part of a change.
func (s *Store) moveIn(ctx context.Context, c *change, h *holder, ttl time.Duration) (*etcdLease, error) {
	l, err := s.leases.grant(ctx, ttl)
	if err != nil {
		return nil, err
	}
	h.Lease, h.TTL = l.id, l.ttl.Milliseconds()
	c.do(clientv3.OpPut(s.keys.alive(c.n.id, h.token), "", clientv3.WithLease(clientv3.LeaseID(l.id))))
	return l, nil
}

// errLimit is of a queue that is full.
func errLimit(n int) error {
	return fmt.Errorf("%w: the lock has %d waiters, which is the most", driver.ErrLimit, n)
}
