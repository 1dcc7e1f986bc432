package embedded

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/driver/driverurl"
)

var (
	_ driver.Driver       = (*Driver)(nil)
	_ driver.BatchRenewer = (*Driver)(nil)
	_ driver.Async        = (*Driver)(nil)
	_ driver.Sweeper      = (*Driver)(nil)
)

// Driver is one opener of a Memory. It gets the hints of its own waiters and
// leases only.
type Driver struct {
	m *Memory
	// ended is closed by the first Close.
	ended chan struct{}
	once  sync.Once

	mu   sync.Mutex
	sink func(driver.Hint)
}

// New opens a driver on a memory of its own, which is closed with it, or with the
// last of those that Another has opened.
func New(o Options) (*Driver, error) {
	m, err := NewMemory(o)
	if err != nil {
		return nil, err
	}
	m.owned = true
	return m.Open(), nil
}

// Another opens one more driver on the same memory.
func (d *Driver) Another() driver.Driver { return d.m.Open() }

// parameters are those of the URL's query, each with what it sets.
var parameters = driverurl.Parameters[*Options]{
	"prefix":  func(o *Options, v string) error { o.Prefix = v; return nil },
	"timeout": func(o *Options, v string) error { return driverurl.Duration(&o.Timeout, v) },
	"poll":    func(o *Options, v string) error { return driverurl.Duration(&o.Poll, v) },
}

// OpenURL opens "embedded:", which keeps the locks in memory, or
// "embedded:///path/locks.db", which keeps them in the file.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	if u.Opaque != "" || u.Host != "" {
		return nil, fmt.Errorf("embedded: %w: want %q, which keeps the locks in memory, or a file by its absolute path, %q", driver.ErrInvalid, "embedded:", "embedded:///path/locks.db")
	}
	o := Options{Clock: env.Clock, Path: u.Path}
	if err := parameters.Read(u, &o); err != nil {
		return nil, fmt.Errorf("embedded: %w", err)
	}
	return New(o)
}

func (d *Driver) check(ctx context.Context) error {
	select {
	case <-d.ended:
		return driver.ErrClosed
	default:
		return ctx.Err()
	}
}

// AcquireAsync completes before it returns, unless the disk is to be waited for.
func (d *Driver) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	if err := d.check(ctx); err != nil {
		done(nil, err)
		return
	}
	later(ctx, d.acquire(req), done)
}

// ReleaseAsync completes before it returns, unless the disk is to be waited for.
func (d *Driver) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	if err := d.check(ctx); err != nil {
		done(nil, err)
		return
	}
	later(ctx, d.release(req), done)
}

// later gives the answer at once, or on a goroutine that waits for the disk, for
// the memory's timeout at most.
func later[T any](ctx context.Context, a answer[T], done func(T, error)) {
	if a.pending == nil {
		done(a.result, a.err)
		return
	}
	go func() { done(a.wait(ctx)) }()
}

// Watch delivers hints until ctx ends or the driver is closed.
func (d *Driver) Watch(ctx context.Context, sink func(driver.Hint)) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	d.setSink(sink)
	defer d.setSink(nil)
	select {
	case <-d.ended:
		return driver.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (d *Driver) setSink(sink func(driver.Hint)) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.sink = sink
}

// hint calls the sink under the mutex, so that no call comes after Watch has
// returned.
func (d *Driver) hint(h driver.Hint) {
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.sink != nil {
		d.sink(h)
	}
}

// Ping fails once the driver is closed, and while no change can be made durable.
func (d *Driver) Ping(ctx context.Context) error {
	if err := d.check(ctx); err != nil || d.m.disk == nil {
		return err
	}
	return d.m.disk.refuses()
}

// Capabilities describes the memory. With a file, a grant waits for the disk:
// that is in the lateness. Over a reboot of the machine a lease may last for its
// whole time again.
func (d *Driver) Capabilities() driver.Capabilities {
	c := driver.Capabilities{
		Name: "embedded", MinTTL: d.m.o.MinTTL, MaxTTL: maxTTL, Lateness: 50 * time.Millisecond, Poll: d.m.o.Poll,
		Shared: true, Watch: true, ExpiryAtOnce: true, ExpiryEvents: true, EditQueue: true, Clock: driver.ClockStore, Durability: driver.DurabilityProcess,
		Retention: d.m.o.Retention,
	}
	if d.m.disk != nil {
		c.Durability, c.Lateness = driver.DurabilityDisk, 500*time.Millisecond
	}
	return c
}

// Close ends this opener, and with the last one a memory of its own.
func (d *Driver) Close() (err error) {
	d.once.Do(func() {
		close(d.ended)
		if d.m.openers.Add(-1) == 0 && d.m.owned {
			err = d.m.Close()
		}
	})
	return err
}
