package wrong

import (
	"context"
	"errors"
	"sync"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// counts has tokens that are numbers of the record's own: it tells as many as
// the record has clock ticks, so 1 for a new one.
type counts struct{ driver.Driver }

func (w counts) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	before, err := w.Inspect(ctx, r.LockID)
	if err != nil {
		return nil, err
	}
	res, err := w.Driver.Acquire(ctx, r)
	if err == nil && res.Lease != nil && before.Token == 0 {
		res.Lease.Token = 1
	}
	return res, err
}

func (w counts) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return &driver.ReleaseResult{}, w.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID})
}

// optimist takes a lease that the store does not know for one that stands.
type optimist struct{ driver.Driver }

func (w optimist) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	l, err := w.Driver.Renew(ctx, r)
	var lost *driver.LostError
	if errors.As(err, &lost) && lost.Cause == driver.CauseUnknown {
		return &driver.Lease{LockID: r.LockID, Token: r.Token, TTL: r.TTL, Remaining: r.TTL}, nil
	}
	return l, err
}

// anew forgets the ends of leases.
type anew struct{ driver.Driver }

func (w anew) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if errors.Is(err, driver.ErrLost) {
		second := *r
		second.RequestID += " anew"
		return w.Driver.Acquire(ctx, &second)
	}
	return res, err
}

type adoptsByRenewal struct{ driver.Driver }

func (w adoptsByRenewal) Adopt(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	return w.Renew(ctx, r)
}

// talker shows the request id of the latest hold as metadata.
type talker struct {
	driver.Driver
	requests *sync.Map
}

func (w talker) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if err == nil {
		w.requests.Store(r.LockID, r.RequestID)
	}
	return res, err
}

func (w talker) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	l, err := w.Driver.Inspect(ctx, lockID)
	if id, ok := w.requests.Load(lockID); ok && err == nil {
		for i := range l.Holders {
			l.Holders[i].Metadata = map[string]string{"request": id.(string)}
		}
	}
	return l, err
}

// overlapping starts each page with the last lock of the page before.
type overlapping struct {
	driver.Driver
	last atomic.Pointer[driver.Lock]
}

func (w *overlapping) List(ctx context.Context, r *driver.ListRequest) (*driver.ListPage, error) {
	page, err := w.Driver.List(ctx, r)
	if err != nil || len(page.Locks) == 0 {
		return page, err
	}
	last := page.Locks[len(page.Locks)-1]
	if before := w.last.Swap(&last); before != nil && r.PageToken != "" {
		page.Locks[0] = *before
	}
	return page, nil
}

type undying struct{ driver.Driver }

func (undying) Close() error { return nil }

type leaking struct{ driver.Driver }

func (w leaking) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	go func() { <-make(chan struct{}) }()
	return w.Driver.Renew(ctx, r)
}

type forgetful struct {
	driver.Driver
	left atomic.Int64
}

func (w *forgetful) Leave(ctx context.Context, r *driver.LeaveRequest) error {
	if w.left.Add(1)%7 == 0 {
		return nil
	}
	return w.Driver.Leave(ctx, r)
}

// crowded shows a second holder of a free lock's latest token.
type crowded struct{ driver.Driver }

func (w crowded) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	l, err := w.Driver.Inspect(ctx, lockID)
	if err == nil && l.Token > 0 {
		for _, owner := range []string{"one", "two"} {
			l.Holders = append(l.Holders, driver.Holder{OwnerID: owner, Token: l.Token, HoldCount: 1, Remaining: 1})
		}
	}
	return l, err
}

type denying struct{ driver.Driver }

func (w denying) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if errors.Is(err, driver.ErrIndeterminate) {
		err = driver.ErrUnavailable
	}
	return res, err
}
