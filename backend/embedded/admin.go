package embedded

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var _ driver.QueueEditor = (*Driver)(nil)

// Evict ends another's lease.
func (d *Driver) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return change(d, req.LockID, func(r *record, at moment) (*driver.Ended, error) {
		if req.Cause == driver.CauseExpired {
			// The first to report the expiry wins.
			if ended := d.m.reportOne(r, at, req.Token); ended != nil {
				return ended, nil
			}
		}
		h := r.holderOf(func(h *holder) bool { return h.token == req.Token })
		switch {
		case h == nil:
			return nil, r.gone(req.Token)
		case req.Cause == driver.CauseExpired:
			public := h.public(at)
			return nil, &driver.HeldError{Holder: &public, QueueLength: len(r.waiters)}
		}
		r.endLease(h, req.Cause)
		r.tell(h)
		r.wake()
		r.evicted = append(r.evicted, untold{Ended: h.ended(r.id, req.Cause)})
		return d.m.reportOne(r, at, req.Token), nil
	}).wait(ctx)
}

// gone says why no lease has the token.
func (r *record) gone(token int64) error {
	if e, ok := r.endOf(func(e end) bool { return e.token == token }); ok {
		return driver.Lost(e.cause)
	}
	if len(r.holders) > 0 {
		return &driver.TokenError{Expected: r.holders[0].token, Actual: token}
	}
	return driver.Lost(driver.CauseUnknown)
}

// Revoke marks a lease so that it cannot be prolonged.
func (d *Driver) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return change(d, req.LockID, func(r *record, at moment) (*driver.Holder, error) {
		h := r.holderOf(func(h *holder) bool { return h.token == req.Token })
		if h == nil {
			return nil, r.gone(req.Token)
		}
		if !h.revoked {
			h.revoked, r.changed = true, true
		}
		r.tell(h)
		public := h.public(at)
		return &public, nil
	}).wait(ctx)
}

// EditPlace drops or moves another's place.
func (d *Driver) EditPlace(ctx context.Context, req *driver.EditPlaceRequest) (*driver.Waiter, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return change(d, req.LockID, func(r *record, at moment) (*driver.Waiter, error) {
		i := slices.IndexFunc(r.waiters, func(w *waiter) bool { return w.ticket == req.Ticket })
		if i < 0 {
			return nil, driver.ErrNoPlace
		}
		w := r.waiters[i]
		public := w.public(i+1, at)
		r.dequeue(w)
		if req.Drop {
			r.remember(end{request: w.request, cause: driver.CauseForced})
		} else {
			w.priority, w.order = req.Priority, driver.OrderKey(w.ticket, req.Priority)
			r.enqueue(w)
			public = w.public(r.position(w), at)
		}
		r.hints = append(r.hints, addressed{driver.Hint{Kind: driver.HintGrantable, LockID: r.id, RequestID: w.request}, w.to})
		r.wake()
		return &public, nil
	}).wait(ctx)
}

// public is w, at a position, as everybody may see it.
func (w *waiter) public(position int, at moment) driver.Waiter {
	return driver.Waiter{
		OwnerID: w.owner, RequestID: w.request, Ticket: w.ticket, Position: position, Priority: w.priority, Shared: w.shared,
		Remaining: w.deadline.Sub(at.now),
	}
}

// Inspect reads one lock.
func (d *Driver) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	lock := &driver.Lock{LockID: lockID}
	d.m.view(lockID, func(r *record, at moment) {
		if r != nil {
			*lock = r.public(at)
		}
	})
	return lock, nil
}

// public is the lock as everybody may see it, without what has run out.
func (r *record) public(at moment) driver.Lock {
	lock := driver.Lock{LockID: r.id, Token: r.last}
	for _, h := range r.holders {
		if h.expires > at.now {
			lock.Holders = append(lock.Holders, h.public(at))
		}
	}
	for _, w := range r.waiters {
		if w.deadline > at.now {
			lock.Waiters = append(lock.Waiters, w.public(len(lock.Waiters)+1, at))
		}
	}
	return lock
}

// List reads the busy locks in the order of their ids. The page token is "v1:"
// and the last id of the page before.
func (d *Driver) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	after, ok := strings.CutPrefix(req.PageToken, pageTokenPrefix)
	if !ok && req.PageToken != "" {
		return nil, fmt.Errorf("page token %q: %w: it is not from a listing of this store", req.PageToken, driver.ErrInvalid)
	}
	var locks []driver.Lock
	for i := range d.m.shards {
		locks = append(locks, d.m.shards[i].list(d.m.moment(), req, after)...)
	}
	slices.SortFunc(locks, func(a, b driver.Lock) int { return strings.Compare(a.LockID, b.LockID) })
	page := &driver.ListPage{Locks: locks}
	if len(locks) > req.PageSize {
		page.Locks = locks[:req.PageSize]
		page.NextPageToken = pageTokenPrefix + page.Locks[req.PageSize-1].LockID
	}
	return page, nil
}

const pageTokenPrefix = "v1:"

func (s *shard) list(at moment, req *driver.ListRequest, after string) (locks []driver.Lock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for id, r := range s.acknowledged(at.now) {
		if id <= after || !strings.HasPrefix(id, req.Prefix) {
			continue
		}
		lock := r.public(at)
		if len(lock.Waiters) > 0 || len(lock.Holders) > 0 && !req.Contended {
			locks = append(locks, lock)
		}
	}
	return locks
}
