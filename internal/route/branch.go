package route

import (
	"context"
	"errors"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

// Store is what a Branch needs of a backend; *backend.Store is one.
type Store interface {
	socket.Locks
	renew.Store
	Waiting() int
}

// Branch is one backend with its keeper. It notes what of its store is in use.
type Branch struct {
	r      *Router
	number int64
	store  Store
	keeper *renew.Keeper
	// closing: nothing that is unknown may be looked for here any more.
	closing atomic.Bool
}

var (
	_ renew.Store    = (*Branch)(nil)
	_ socket.Session = (*session)(nil)
)

// Branch makes a branch of a store. Nothing is led to it before Routes says so.
// The keeper is made over the branch, which it must not use after that.
func (r *Router) Branch(s Store, keeper func(renew.Store) *renew.Keeper) *Branch {
	b := &Branch{r: r, store: s, number: r.opened.Add(1)}
	b.keeper = keeper(b)
	return b
}

// Name is the backend's.
func (b *Branch) Name() string { return b.store.Name() }

// Keeper is the branch's.
func (b *Branch) Keeper() *renew.Keeper { return b.keeper }

// fromError says from which backend an error comes.
type fromError struct {
	error
	backend string
}

func (e *fromError) Unwrap() error { return e.error }

// Backend is the name of the backend.
func (e *fromError) Backend() string { return e.backend }

// named adds the branch's name to an error, and remembers a token that it tells.
func (b *Branch) named(lockID string, err error) error {
	if err == nil {
		return nil
	}
	var held *driver.HeldError
	if errors.As(err, &held) && held.Holder != nil {
		b.r.uses.saw(b, lockID, held.Holder.Token)
	}
	return &fromError{err, b.Name()}
}

// acquired notes what became of an acquire.
func (b *Branch) acquired(lockID string, l *backend.Lease, err error) error {
	if err == nil {
		b.r.uses.stands(b, l)
	}
	return b.named(lockID, err)
}

// acquire takes a lease for a caller that renews it itself.
func (b *Branch) acquire(ctx context.Context, req *backend.AcquireRequest) (*backend.Lease, error) {
	l, err := b.store.Acquire(ctx, req)
	return l, b.acquired(req.LockID, l, err)
}

// AcquireAsync takes a lease for the keeper.
func (b *Branch) AcquireAsync(ctx context.Context, req *backend.AcquireRequest, done func(*backend.Lease, error)) {
	end := b.r.uses.begin(b, req.LockID, req.RequestID)
	b.store.AcquireAsync(ctx, req, func(l *backend.Lease, err error) {
		err = b.acquired(req.LockID, l, err)
		end()
		done(l, err)
	})
}

// RenewMany renews for the keeper.
func (b *Branch) RenewMany(ctx context.Context, reqs []backend.RenewRequest) []backend.RenewResult {
	results := b.store.RenewMany(ctx, reqs)
	for i := range results {
		if results[i].Err == nil {
			b.r.uses.stands(b, results[i].Lease)
		}
	}
	return results
}

// Renew renews for a caller.
func (b *Branch) Renew(ctx context.Context, req *backend.RenewRequest) (*backend.Lease, error) {
	l, err := b.store.Renew(ctx, req)
	return l, b.acquired(req.LockID, l, err)
}

// Adopt attaches the keeper to a lease.
func (b *Branch) Adopt(ctx context.Context, req *backend.RenewRequest) (*backend.Lease, error) {
	end := b.r.uses.begin(b, req.LockID, "")
	defer end()
	l, err := b.store.Adopt(ctx, req)
	return l, b.acquired(req.LockID, l, err)
}

// Release ends a hold.
func (b *Branch) Release(ctx context.Context, req *backend.ReleaseRequest) (*driver.ReleaseResult, error) {
	res, err := b.store.Release(ctx, req)
	return res, b.released(req, res, err)
}

// ReleaseAsync ends a hold for the keeper.
func (b *Branch) ReleaseAsync(ctx context.Context, req *backend.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	b.store.ReleaseAsync(ctx, req, func(res *driver.ReleaseResult, err error) { done(res, b.released(req, res, err)) })
}

func (b *Branch) released(req *backend.ReleaseRequest, res *driver.ReleaseResult, err error) error {
	if err == nil && res.HoldCount == 0 && req.Token != 0 {
		b.r.uses.ended(b, req.LockID, req.Token)
	}
	return b.named(req.LockID, err)
}

// Undo gives a grant back for the keeper. The lock counts as in use here for as
// long as the lease could stand.
func (b *Branch) Undo(l *backend.Lease) { b.store.Undo(l) }

// OnRevoked passes on.
func (b *Branch) OnRevoked(f func(lockID string, token int64)) { b.store.OnRevoked(f) }
