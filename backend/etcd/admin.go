package etcd

import (
	"context"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Evict ends another's lease.
func (s *Store) Evict(ctx context.Context, req *driver.EvictRequest) (ended *driver.Ended, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	withToken := func(h *holder) bool { return h.token == req.Token }
	err = s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		cause, living := req.Cause, true
		h := n.holder(withToken)
		if h == nil && cause == driver.CauseExpired {
			if i := slices.IndexFunc(n.expired, withToken); i >= 0 {
				h, living = n.expired[i], false
			}
		}
		switch {
		case h == nil:
			return nil, nil, n.gone(req.Token)
		case cause == driver.CauseExpired && living:
			public := s.public(n.id, h)
			return nil, nil, &driver.HeldError{Holder: &public, QueueLength: len(n.waiters)}
		}
		c := s.onRecord(n)
		if living {
			c.stands(h)
			s.notify(ctx, c, h)
		}
		r := n.record
		r.remember(h.endings(cause)...)
		c.putRecord(r)
		c.dropHolder(h)
		c.do(clientv3.OpPut(s.keys.untold(n.id, h.token), h.untold(cause)))
		return c, func(int64) {
			n.record, n.holders, n.expired = r, without(n.holders, h), without(n.expired, h)
			s.held.forget(n.id, h.token)
			if living {
				s.notified(n.id, h)
			}
			e := h.ended(n.id, cause)
			ended = &e
		}, nil
	})
	return ended, err
}

// gone says why no lease has the token.
func (n *snapshot) gone(token int64) error {
	if e, ok := n.end(func(e ending) bool { return e.Token == token }); ok {
		return driver.Lost(e.Cause)
	}
	if len(n.holders) > 0 {
		return &driver.TokenError{Expected: n.holders[0].token, Actual: token}
	}
	return driver.Lost(driver.CauseUnknown)
}

// Revoke marks a lease so that it cannot be prolonged, and puts it under another
// etcd lease, which has what the old one had left and which nobody keeps alive.
func (s *Store) Revoke(ctx context.Context, req *driver.EvictRequest) (marked *driver.Holder, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	err = s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		h := n.holder(func(h *holder) bool { return h.token == req.Token })
		if h == nil {
			return nil, nil, n.gone(req.Token)
		}
		if h.Revoked {
			public := s.public(n.id, h)
			marked = &public
			s.notified(n.id, h)
			return nil, nil, nil
		}
		l, err := s.remains(ctx, h)
		if err != nil {
			return nil, nil, err
		}
		c := s.onRecord(n)
		c.stands(h)
		revoked := *h
		revoked.Revoked, revoked.Lease = true, l.id
		c.putHolder(&revoked)
		c.putRecord(n.record)
		c.do(clientv3.OpPut(s.keys.alive(n.id, h.token), "", clientv3.WithLease(clientv3.LeaseID(l.id))))
		s.notify(ctx, c, h)
		return c, func(rev int64) {
			revoked.rev = rev
			n.holders = slices.Clone(n.holders)
			n.holders[slices.Index(n.holders, h)] = &revoked
			s.held.forget(n.id, h.token)
			public := s.public(n.id, &revoked)
			public.Remaining = l.ttl
			public.ExpiresAt = s.o.Wall().Add(l.ttl)
			marked = &public
			s.notified(n.id, h)
		}, nil
	})
	return marked, err
}

// remains is a new etcd lease that lasts no shorter than what is left of h.
func (s *Store) remains(ctx context.Context, h *holder) (*etcdLease, error) {
	left := h.ttl()
	_, err := s.call(ctx, func(ctx context.Context, c *clientv3.Client) error {
		resp, err := c.Lease.TimeToLive(ctx, clientv3.LeaseID(h.Lease))
		if err == nil && resp.TTL >= 0 {
			left = time.Duration(resp.TTL+1) * time.Second // it is rounded down
		}
		return err
	})
	if err != nil {
		return nil, s.unread(err)
	}
	return s.leases.grant(ctx, min(left, h.ttl()))
}

// Inspect reads one lock.
func (s *Store) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	n, err := s.look(ctx, lockID)
	if err != nil {
		return nil, err
	}
	lock := s.lock(n)
	for i, h := range n.holders[:min(len(n.holders), inspectLeft)] {
		if l, err := s.left(ctx, lockID, h); err == nil { // else the most that it can be stands there
			left := max(l.until().Sub(s.o.Clock.Now()), time.Millisecond)
			lock.Holders[i].Remaining, lock.Holders[i].ExpiresAt = left, s.o.Wall().Add(left)
		}
	}
	return lock, nil
}

// inspectLeft is of how many leases an inspection asks how much is left of them.
const inspectLeft = 4

// lock is a lock as everybody may see it.
func (s *Store) lock(n *snapshot) *driver.Lock {
	l := &driver.Lock{LockID: n.id, Token: n.record.Last}
	for _, h := range n.holders {
		l.Holders = append(l.Holders, s.public(n.id, h))
	}
	for i, p := range n.waiters {
		l.Waiters = append(l.Waiters, s.waiter(p, i+1))
	}
	return l
}

func badPageToken(token string) error {
	return fmt.Errorf("page token %q: %w: it is not from a listing of this store", token, driver.ErrInvalid)
}
