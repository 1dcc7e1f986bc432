package main

import (
	"context"
	"fmt"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/app"
)

// direct is the store without the sidecar: the same driver and scripts, called
// in this process.
type direct struct{ driver.Driver }

func openDirect(ctx context.Context, url string) (direct, error) {
	d, err := app.OpenDriver(ctx, url, driver.Env{})
	return direct{d}, err
}

// drive keeps inFlight acquires and releases going, each completion sending
// the next.
func (d direct) drive(ctx context.Context, o options) (rate, error) {
	var ops atomic.Int64
	var stopped atomic.Bool
	ended := make(chan error, o.inFlight)
	start := time.Now()
	for i := range o.inFlight {
		d.cycle(ctx, "bench/direct/"+strconv.Itoa(i), i, &ops, &stopped, ended)
	}
	wait(ctx, o.duration)
	stopped.Store(true)
	took, total := time.Since(start), ops.Load()
	for range o.inFlight {
		if err := <-ended; err != nil {
			return 0, fmt.Errorf("store alone: %w", err)
		}
	}
	return rate(float64(total) / took.Seconds()), nil
}

func (d direct) cycle(ctx context.Context, lock string, i int, ops *atomic.Int64, stopped *atomic.Bool, ended chan<- error) {
	if stopped.Load() {
		ended <- nil
		return
	}
	request := requestID(i, 0)
	acquire := &driver.AcquireRequest{
		LockID: lock, OwnerID: "bench", RequestID: request, Key: driver.KeyOf(request), TTL: 15 * time.Second, PlaceTTL: 6 * time.Second,
	}
	driver.AcquireAsync(ctx, d.Driver, acquire, func(r *driver.AcquireResult, err error) {
		if err != nil {
			ended <- err
			return
		}
		release := &driver.ReleaseRequest{
			LeaseRef:  driver.LeaseRef{LockID: lock, Key: acquire.Key, Token: r.Lease.Token, Attach: r.Lease.Attach},
			RequestID: request,
		}
		driver.ReleaseAsync(ctx, d.Driver, release, func(_ *driver.ReleaseResult, err error) {
			if err != nil {
				ended <- err
				return
			}
			ops.Add(2)
			// A driver may complete before the call returns: a new goroutine
			// keeps the stack from growing with the run.
			go d.cycle(ctx, lock, i, ops, stopped, ended)
		})
	})
}
