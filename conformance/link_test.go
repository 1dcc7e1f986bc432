package conformance_test

import (
	"context"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
)

// wire stands before a driver in this process as a connection stands before a store:
// replies are lost on it, and it is cut.
type wire struct {
	driver.Driver
	lose atomic.Int64 // the request, counted down to 1, whose reply is lost
	cut  atomic.Bool
}

func linked(d driver.Driver, decorate func(driver.Driver) driver.Driver) *conformance.Link {
	w := &wire{Driver: d}
	return &conformance.Link{Driver: decorate(w), LoseReply: func(n int) { w.lose.Store(int64(n)) }, Cut: func() { w.cut.Store(true) }}
}

func (w *wire) Unwrap() driver.Driver { return w.Driver }

// over makes a call over the wire.
func over[T any](w *wire, call func() (T, error)) (T, error) {
	var none T
	if w.cut.Load() {
		return none, driver.ErrUnavailable
	}
	v, err := call()
	if w.lose.Load() > 0 && w.lose.Add(-1) == 0 {
		return none, driver.ErrIndeterminate
	}
	return v, err
}

func (w *wire) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	return over(w, func() (*driver.AcquireResult, error) { return w.Driver.Acquire(ctx, r) })
}

func (w *wire) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	return over(w, func() (*driver.Lease, error) { return w.Driver.Renew(ctx, r) })
}

func (w *wire) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return over(w, func() (*driver.ReleaseResult, error) { return w.Driver.Release(ctx, r) })
}

func (w *wire) Leave(ctx context.Context, r *driver.LeaveRequest) error {
	_, err := over(w, func() (struct{}, error) { return struct{}{}, w.Driver.Leave(ctx, r) })
	return err
}
