package metrics

import (
	"context"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Driver returns d with its calls counted and timed. It stands directly on the
// driver, so that what a circuit breaker refuses is no call and each of its
// retries is one. An optional ability of d that is not counted is found by
// Unwrap.
func (b *Backend) Driver(d driver.Driver) driver.Driver {
	c := &counted{d, b}
	if s, ok := driver.As[driver.Sweeper](d); ok {
		return &countedSweeper{c, s}
	}
	return c
}

// counted is a driver whose calls are counted.
type counted struct {
	driver.Driver
	b *Backend
}

// countedSweeper is one of a driver that sweeps.
type countedSweeper struct {
	*counted
	sweeper driver.Sweeper
}

var (
	_ driver.Driver       = (*counted)(nil)
	_ driver.BatchRenewer = (*counted)(nil)
	_ driver.Async        = (*counted)(nil)
	_ driver.Unwrapper    = (*counted)(nil)
	_ driver.Sweeper      = (*countedSweeper)(nil)
)

// Unwrap returns the driver beneath.
func (c *counted) Unwrap() driver.Driver { return c.Driver }

// ended counts a call that was made at start.
func (c *counted) ended(ctx context.Context, op operation, start time.Time, err error) {
	c.b.calls[op][outcomeOf(ctx, err)].Inc()
	c.b.callTime[op].Observe(time.Since(start).Seconds())
}

func call[T any](ctx context.Context, c *counted, op operation, f func() (T, error)) (T, error) {
	start := time.Now()
	result, err := f()
	c.ended(ctx, op, start, err)
	return result, err
}

// Acquire is counted.
func (c *counted) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	return call(ctx, c, opAcquire, func() (*driver.AcquireResult, error) { return c.Driver.Acquire(ctx, req) })
}

// AcquireAsync is counted.
func (c *counted) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	start := time.Now()
	driver.AcquireAsync(ctx, c.Driver, req, func(res *driver.AcquireResult, err error) {
		c.ended(ctx, opAcquire, start, err)
		done(res, err)
	})
}

// Renew is counted.
func (c *counted) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return call(ctx, c, opRenew, func() (*driver.Lease, error) { return c.Driver.Renew(ctx, req) })
}

// RenewMany is counted by its results, and timed once.
func (c *counted) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	start := time.Now()
	all := driver.RenewMany(ctx, c.Driver, reqs)
	var counts [outcomes]int
	for i := range all {
		counts[outcomeOf(ctx, all[i].Err)]++
	}
	for o, n := range counts {
		if n > 0 {
			c.b.calls[opRenew][o].Add(float64(n))
		}
	}
	c.b.callTime[opRenew].Observe(time.Since(start).Seconds())
	return all
}

// Release is counted.
func (c *counted) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return call(ctx, c, opRelease, func() (*driver.ReleaseResult, error) { return c.Driver.Release(ctx, req) })
}

// ReleaseAsync is counted.
func (c *counted) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	start := time.Now()
	driver.ReleaseAsync(ctx, c.Driver, req, func(res *driver.ReleaseResult, err error) {
		c.ended(ctx, opRelease, start, err)
		done(res, err)
	})
}

// Leave is counted.
func (c *counted) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	start := time.Now()
	err := c.Driver.Leave(ctx, req)
	c.ended(ctx, opLeave, start, err)
	return err
}

// Adopt is counted.
func (c *counted) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return call(ctx, c, opAdopt, func() (*driver.Lease, error) { return c.Driver.Adopt(ctx, req) })
}

// Evict is counted.
func (c *counted) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	return call(ctx, c, opEvict, func() (*driver.Ended, error) { return c.Driver.Evict(ctx, req) })
}

// Revoke is counted.
func (c *counted) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	return call(ctx, c, opRevoke, func() (*driver.Holder, error) { return c.Driver.Revoke(ctx, req) })
}

// Inspect is counted.
func (c *counted) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	return call(ctx, c, opInspect, func() (*driver.Lock, error) { return c.Driver.Inspect(ctx, lockID) })
}

// List is counted.
func (c *counted) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	return call(ctx, c, opList, func() (*driver.ListPage, error) { return c.Driver.List(ctx, req) })
}

// Ping is counted.
func (c *counted) Ping(ctx context.Context) error {
	start := time.Now()
	err := c.Driver.Ping(ctx)
	c.ended(ctx, opPing, start, err)
	return err
}

// Sweep is counted.
func (c *countedSweeper) Sweep(ctx context.Context) ([]driver.Ended, error) {
	return call(ctx, c.counted, opSweep, func() ([]driver.Ended, error) { return c.sweeper.Sweep(ctx) })
}

// Told is counted.
func (c *countedSweeper) Told(ctx context.Context, ends []driver.Ended) error {
	start := time.Now()
	err := c.sweeper.Told(ctx, ends)
	c.ended(ctx, opTold, start, err)
	return err
}
