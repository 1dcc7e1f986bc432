package embedded

import (
	"context"
	"fmt"
	"net/url"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Driver)(nil)
	_ driver.BatchRenewer = (*Driver)(nil)
	_ driver.Async        = (*Driver)(nil)
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

// New opens a driver on a memory of its own.
func New(o Options) (*Driver, error) {
	m, err := NewMemory(o)
	if err != nil {
		return nil, err
	}
	return m.Open(), nil
}

// Another opens one more driver on the same memory.
func (d *Driver) Another() driver.Driver { return d.m.Open() }

// OpenURL opens "embedded:". A path is refused, because this version keeps the
// locks in memory only.
func OpenURL(_ context.Context, u *url.URL, env driver.Env) (driver.Driver, error) {
	if u.Opaque != "" || u.Host != "" || u.Path != "" {
		return nil, fmt.Errorf("embedded: %w: durable storage in a file is not available in this version; use %q, which keeps the locks in memory", driver.ErrUnsupported, "embedded:")
	}
	o := Options{Clock: env.Clock}
	for name, values := range u.Query() {
		switch name {
		case "prefix", "timeout": // common to all backends; nothing here needs them
		case "poll":
			poll, err := time.ParseDuration(values[0])
			if err != nil || poll <= 0 {
				return nil, fmt.Errorf("embedded: poll=%q: %w: want a positive duration such as 2s", values[0], driver.ErrInvalid)
			}
			o.Poll = poll
		default:
			return nil, fmt.Errorf("embedded: %w: unknown parameter %q; known are poll, prefix, timeout", driver.ErrInvalid, name)
		}
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

// AcquireAsync completes before it returns.
func (d *Driver) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	done(d.Acquire(ctx, req))
}

// ReleaseAsync completes before it returns.
func (d *Driver) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	done(d.Release(ctx, req))
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

// Ping fails once the driver is closed.
func (d *Driver) Ping(ctx context.Context) error { return d.check(ctx) }

// Capabilities describes the memory.
func (d *Driver) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "embedded", MinTTL: d.m.o.MinTTL, MaxTTL: maxTTL, Lateness: 50 * time.Millisecond, Poll: d.m.o.Poll,
		Shared: true, Watch: true, ExpiryAtOnce: true, Clock: driver.ClockStore, Durability: driver.DurabilityProcess,
		Retention: d.m.o.Retention,
	}
}

// Close ends this opener.
func (d *Driver) Close() error {
	d.once.Do(func() { close(d.ended) })
	return nil
}
