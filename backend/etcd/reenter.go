package etcd

import (
	"context"
	"errors"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

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
