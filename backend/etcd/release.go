package etcd

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Release ends one hold.
func (s *Store) Release(ctx context.Context, req *driver.ReleaseRequest) (res *driver.ReleaseResult, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	err = s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		h, e, lost := n.find(req.LeaseRef)
		switch {
		case e != nil && (e.Cause == driver.CauseReleased || n.released(req)):
			res = &driver.ReleaseResult{} // repeated
			return nil, nil, nil
		case lost != nil:
			return nil, nil, lost
		case req.RequestID == "" && len(h.Holds) > 1:
			return nil, nil, driver.ErrAmbiguousHold
		}
		request := req.RequestID
		if request == "" {
			request = h.Holds[0]
		}
		if !slices.Contains(h.Holds, request) { // it was released before
			res = &driver.ReleaseResult{HoldCount: len(h.Holds), OwnerID: h.Owner, Shared: h.Shared}
			return nil, nil, nil
		}
		c, left, done := s.dropHold(n, h, ending{Request: request, Token: h.token, Key: h.Key, Cause: driver.CauseReleased})
		if left == 0 && req.Attach == 0 {
			s.notify(ctx, c, h)
		}
		return c, func(rev int64) {
			done(rev)
			res = &driver.ReleaseResult{HoldCount: left, OwnerID: h.Owner, Shared: h.Shared}
			if left == 0 && req.Attach == 0 {
				s.notified(n.id, h)
			}
		}, nil
	})
	if err != nil {
		return nil, err
	}
	return res, nil
}

// released says whether the hold was released before its lease ended otherwise.
func (n *snapshot) released(req *driver.ReleaseRequest) bool {
	for _, e := range slices.Backward(n.record.Ends) {
		if e.Request == req.RequestID && e.Token == req.Token && e.Key == req.Key {
			return e.Cause == driver.CauseReleased
		}
	}
	return false
}

// dropHold is the change that ends a hold, and the lease with its last one.
func (s *Store) dropHold(n *snapshot, h *holder, e ending) (c *change, left int, done func(rev int64)) {
	c = s.onRecord(n)
	c.stands(h)
	r := n.record
	r.remember(e)
	c.putRecord(r)
	if len(h.Holds) == 1 {
		c.dropHolder(h)
		return c, 0, func(int64) {
			n.record, n.holders = r, without(n.holders, h)
			s.unheld(n.id, h)
		}
	}
	less := *h
	less.Holds = slices.DeleteFunc(slices.Clone(h.Holds), func(request string) bool { return request == e.Request })
	c.putHolder(&less)
	return c, len(less.Holds), func(rev int64) {
		less.rev = rev
		n.record, n.holders = r, append(without(n.holders, h), &less)
	}
}

// unheld forgets a lease that a transaction of this driver's has ended. Its etcd
// lease has no key any more and can be used again, if this driver granted it and
// nobody else knows of it.
func (s *Store) unheld(id string, h *holder) {
	if l := s.held.find(id, h.token); l != nil && l.id == h.Lease && l.asked > 0 && h.Attach == 1 {
		again := l.etcdLease
		s.leases.put(&again)
	}
	s.held.forget(id, h.token)
}

// Leave drops a place or an undelivered grant, and leaves a tombstone.
func (s *Store) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	// Its tombstone may be the first record of the store.
	if _, err := s.verified(ctx); err != nil {
		return err
	}
	mine := func(key driver.Key) bool { return req.Key == "" || req.Key == key }
	err := s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		h := n.holding(req.RequestID)
		var c *change
		var done func(int64)
		switch {
		case h != nil && !mine(h.Key):
			return nil, nil, nil
		case h != nil:
			var left int
			c, left, done = s.dropHold(n, h, ending{
				Request: req.RequestID, Token: h.token, Key: h.Key, Cause: driver.CauseReleased, Attempt: req.Key,
			})
			if left == 0 {
				s.notify(ctx, c, h)
			}
		default:
			_, known := n.end(func(e ending) bool { return e.ends(req.RequestID, req.Key) })
			p := n.place(req.RequestID)
			if p != nil && !mine(p.Key) {
				p = nil
			}
			if known && p == nil {
				return nil, nil, nil
			}
			c = s.onRecord(n)
			r := n.record
			if !known {
				r.remember(ending{Request: req.RequestID, Cause: driver.CauseReleased, Attempt: req.Key})
			}
			c.putRecord(r)
			if p != nil {
				// Whatever it was written by: the record's condition holds, so that
				// no grant has come of it.
				c.do(clientv3.OpDelete(p.key))
				c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
			}
			done = func(int64) {
				n.record = r
				if p != nil {
					s.seen.forget(p.key)
					drop := func(other *place) bool { return other == p }
					n.waiters, n.dead = slices.DeleteFunc(n.waiters, drop), slices.DeleteFunc(n.dead, drop)
				}
			}
		}
		return c, done, nil
	})
	if err == nil {
		s.hints.forget(req)
	}
	return err
}

// place finds the request's place, living or dead.
func (n *snapshot) place(request string) *place {
	if p := n.waiting(request); p != nil {
		return p
	}
	if i := slices.IndexFunc(n.dead, func(p *place) bool { return p.Request == request }); i >= 0 {
		return n.dead[i]
	}
	return nil
}

// forget drops a waiter that left, unless another attempt has its place.
func (h *hints) forget(req *driver.LeaveRequest) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q := h.locks[req.LockID]; q != nil {
		if w := q.waiters[req.RequestID]; w != nil && (req.Key == "" || req.Key == w.place.Key) {
			h.drop(req.LockID, req.RequestID)
		}
	}
}
