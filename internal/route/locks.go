package route

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire takes a lease where the lock is led to.
func (r *Router) Acquire(ctx context.Context, req *backend.AcquireRequest) (*backend.Lease, error) {
	a, p, err := r.enter(ctx, req)
	if err != nil {
		return nil, err
	}
	defer r.uses.end(a.b, req.LockID, req.RequestID)
	return a.b.acquire(ctx, p)
}

// Renew prolongs a lease where it is.
func (r *Router) Renew(ctx context.Context, req *backend.RenewRequest) (*backend.Lease, error) {
	b, err := r.locate(ctx, req.LockID, req.Token)
	if err != nil {
		return nil, fmt.Errorf("renew %q: %w", req.LockID, err)
	}
	p := *req
	if to := r.table.Load().route(req.LockID); p.TTL == 0 && to != nil {
		p.TTL = to.TTL
	}
	return b.Renew(ctx, &p)
}

// Release ends a hold where it is.
func (r *Router) Release(ctx context.Context, req *backend.ReleaseRequest) (*driver.ReleaseResult, error) {
	b, err := r.locate(ctx, req.LockID, req.Token)
	if err != nil {
		return nil, fmt.Errorf("release %q: %w", req.LockID, err)
	}
	return b.keeper.Release(ctx, req)
}

// Leave undoes an acquire where it was made.
func (r *Router) Leave(ctx context.Context, lockID, requestID string) error {
	b, err := r.ofRequest(lockID, requestID)
	if err != nil {
		return fmt.Errorf("leave %q: %w", lockID, err)
	}
	if err := b.store.Leave(ctx, lockID, requestID); err != nil {
		return b.named(lockID, err)
	}
	r.uses.undone(b, lockID, requestID)
	return nil
}

// ofRequest is where a request was made, else where one would be made now.
func (r *Router) ofRequest(lockID, requestID string) (b *Branch, err error) {
	r.uses.in(lockID, func(l *lock) {
		if requestID != "" {
			b = l.belongs(&backend.AcquireRequest{RequestID: requestID})
		}
	})
	if b != nil {
		return b, nil
	}
	return r.where(lockID)
}

// Undo gives a grant back where it was made. The lock counts as in use there for
// as long as the lease could stand: the undo is done in the background.
func (r *Router) Undo(l *backend.Lease) {
	if b, err := r.ofRequest(l.LockID, l.RequestID); err == nil {
		b.store.Undo(l)
	}
}

// undone drops a lease that had no other hold than this one.
func (u *uses) undone(b *Branch, lockID, requestID string) {
	u.in(lockID, func(l *lock) {
		before := len(l.leases)
		l.leases = slices.DeleteFunc(l.leases, func(h lease) bool {
			return h.b == b && len(h.holds) == 1 && h.holds[0] == requestID
		})
		if len(l.leases) < before {
			l.tell()
		}
	})
}

// Get reads a lock where something of it is in use here, else where it is led
// to.
func (r *Router) Get(ctx context.Context, lockID string) (*driver.Lock, error) {
	b, err := r.where(lockID)
	if err != nil {
		return nil, fmt.Errorf("get %q: %w", lockID, err)
	}
	l, err := b.store.Get(ctx, lockID)
	if err == nil && l.Token != 0 {
		r.uses.saw(b, lockID, l.Token)
	}
	return l, b.named(lockID, err)
}

// ForceRelease revokes a lease where it is.
func (r *Router) ForceRelease(ctx context.Context, req *backend.ForceReleaseRequest) (*backend.ForceReleaseResult, error) {
	b, err := r.locate(ctx, req.LockID, req.Token)
	if err != nil {
		return nil, fmt.Errorf("force-release %q: %w", req.LockID, err)
	}
	res, err := b.store.ForceRelease(ctx, req)
	if err == nil && res.Ended {
		r.uses.ended(b, req.LockID, req.Token)
	}
	return res, b.named(req.LockID, err)
}

// CancelWaiter ends a wait where the lock is.
func (r *Router) CancelWaiter(ctx context.Context, req *backend.WaiterRequest) (*driver.Waiter, error) {
	return r.edit(req, func(s Store) (*driver.Waiter, error) { return s.CancelWaiter(ctx, req) })
}

// Reprioritize moves a waiter where the lock is.
func (r *Router) Reprioritize(ctx context.Context, req *backend.WaiterRequest) (*driver.Waiter, error) {
	return r.edit(req, func(s Store) (*driver.Waiter, error) { return s.Reprioritize(ctx, req) })
}

// edit changes the queue that Get shows: a ticket means nothing on another branch.
func (r *Router) edit(req *backend.WaiterRequest, change func(Store) (*driver.Waiter, error)) (*driver.Waiter, error) {
	b, err := r.where(req.LockID)
	if err != nil {
		return nil, fmt.Errorf("change the queue of %q: %w", req.LockID, err)
	}
	w, err := change(b.store)
	return w, b.named(req.LockID, err)
}

// List reads a page of one backend's locks; the pages of all follow each other.
// A page token is the branch's and the store's own. A backend that cannot be reached
// is named and passed over, if there are others.
func (r *Router) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	p := *req
	id, inner, _ := strings.Cut(req.PageToken, "/")
	if req.PageToken == "" {
		id = r.Branches()[0].id()
	}
	b, next := r.byID(id)
	if b == nil {
		return nil, fmt.Errorf("list: %w", &backend.InvalidError{
			Field: "page_token", Reason: "is not from a listing of this sidecar since its start or the latest change of its routes",
			Limits: "the next_page_token of the page before",
		})
	}
	p.PageToken = inner
	page, err := b.store.List(ctx, &p)
	// Of a store that hangs the driver does not know what became of the call; one that
	// only reads has failed.
	down := errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate)
	if several := len(r.Branches()) > 1; several && down && ctx.Err() == nil {
		page, err = &driver.ListPage{Failed: []string{b.Name()}}, nil
	}
	switch {
	case err != nil:
		return nil, b.named("", err)
	case page.NextPageToken != "":
		page.NextPageToken = b.id() + "/" + page.NextPageToken
	case next != nil:
		page.NextPageToken = next.id() + "/"
	}
	return page, nil
}
