package backend_test

import (
	"context"
	"slices"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// staged is a driver on a real store, some of whose calls are directed by a
// test.
type staged struct {
	driver.Driver
	acquire func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error)
	leave   func(ctx context.Context, r *driver.LeaveRequest) error
	watch   func(ctx context.Context, sink func(driver.Hint)) error

	mu       sync.Mutex
	attempts []time.Time
	left     []string
}

// Unwrap hides the abilities of what is inside.
func (d *staged) Unwrap() driver.Driver { return nil }

func (d *staged) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	d.mu.Lock()
	d.attempts = append(d.attempts, time.Now())
	d.mu.Unlock()
	if d.acquire != nil {
		return d.acquire(ctx, r)
	}
	return d.Driver.Acquire(ctx, r)
}

func (d *staged) Leave(ctx context.Context, r *driver.LeaveRequest) error {
	d.mu.Lock()
	d.left = append(d.left, r.RequestID)
	d.mu.Unlock()
	if d.leave != nil {
		return d.leave(ctx, r)
	}
	return d.Driver.Leave(ctx, r)
}

func (d *staged) Watch(ctx context.Context, sink func(driver.Hint)) error {
	if d.watch != nil {
		return d.watch(ctx, sink)
	}
	return d.Driver.Watch(ctx, sink)
}

func (d *staged) times() []time.Time {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.attempts)
}

func (d *staged) tries() int { return len(d.times()) }

func (d *staged) leaves() []string {
	d.mu.Lock()
	defer d.mu.Unlock()
	return slices.Clone(d.left)
}

// stage returns a store over a staged driver, and a second driver on the same
// locks. configure is called before the store sees the driver.
func stage(t *testing.T, o backend.Options, configure func(d *staged)) (*backend.Store, *staged, driver.Driver) {
	t.Helper()
	m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	d := &staged{Driver: m.Open()}
	if configure != nil {
		configure(d)
	}
	o.Clock = driver.ProcessClock
	s := backend.New(d, o)
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, d, m.Open()
}

// deaf is a watch that brings no hint.
func deaf(ctx context.Context, _ func(driver.Hint)) error {
	<-ctx.Done()
	return ctx.Err()
}

type outcome struct {
	lease *backend.Lease
	err   error
	at    time.Time
}

// start acquires in the background.
func start(ctx context.Context, s *backend.Store, req backend.AcquireRequest) <-chan outcome {
	ended := make(chan outcome, 1)
	go func() {
		l, err := s.Acquire(ctx, &req)
		ended <- outcome{l, err, time.Now()}
	}()
	return ended
}
