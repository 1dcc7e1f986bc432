package etcd

import (
	"context"
	"slices"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var _ driver.QueueEditor = (*Store)(nil)

// EditPlace drops or moves another's place. It writes the record, so that no grant
// is decided about the queue as it was.
func (s *Store) EditPlace(ctx context.Context, req *driver.EditPlaceRequest) (edited *driver.Waiter, err error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	err = s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		i := slices.IndexFunc(n.waiters, func(p *place) bool { return p.Ticket == req.Ticket })
		if i < 0 {
			return nil, nil, driver.ErrNoPlace
		}
		p := n.waiters[i]
		c, r := s.onRecord(n), n.record
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
		rest := slices.Delete(slices.Clone(n.waiters), i, i+1)
		if req.Drop {
			r.remember(ending{Request: p.Request, Cause: driver.CauseForced})
			c.putRecord(r)
			c.do(clientv3.OpDelete(p.key))
			return c, func(int64) {
				s.seen.forget(p.key)
				n.record, n.waiters = r, rest
				public := s.waiter(p, i+1)
				edited = &public
			}, nil
		}
		moved := *p
		moved.Priority = req.Priority
		moved.key = s.keys.place(n.id, moved.order(), moved.Ticket)
		c.putRecord(r)
		if moved.key != p.key {
			c.do(clientv3.OpDelete(p.key))
		}
		// It goes on standing as long as it would have, for whoever asked for it.
		c.do(clientv3.OpPut(moved.key, encode(moved), clientv3.WithLease(clientv3.LeaseID(p.under))))
		return c, func(rev int64) {
			moved.rev = rev
			s.seen.forget(p.key)
			s.seen.place(&moved, s.o.Clock.Now())
			n.record, n.waiters = r, append(rest, &moved)
			slices.SortFunc(n.waiters, comparePlaces)
			public := s.waiter(&moved, slices.Index(n.waiters, &moved)+1)
			edited = &public
		}, nil
	})
	return edited, err
}

// waiter is a place, at a position, as everybody may see it.
func (s *Store) waiter(p *place, position int) driver.Waiter {
	now := s.o.Clock.Now()
	return driver.Waiter{
		OwnerID: p.Owner, RequestID: p.Request, Ticket: p.Ticket, Position: position, Priority: p.Priority, Shared: p.Shared,
		Remaining: s.seen.place(p, now).Sub(now),
	}
}
