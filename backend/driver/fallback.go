package driver

import (
	"context"
	"sync"
)

// renewParallel bounds the calls that RenewMany has in flight at a driver that
// has no batches.
const renewParallel = 32

// RenewMany renews many leases by the driver's BatchRenewer, else one by one,
// a bounded number at a time.
func RenewMany(ctx context.Context, d Driver, reqs []RenewRequest) []RenewResult {
	if b, ok := As[BatchRenewer](d); ok {
		return b.RenewMany(ctx, reqs)
	}
	results := make([]RenewResult, len(reqs))
	next := make(chan int)
	var wg sync.WaitGroup
	for range min(renewParallel, len(reqs)) {
		wg.Go(func() {
			for i := range next {
				results[i].Lease, results[i].Err = d.Renew(ctx, &reqs[i])
			}
		})
	}
	for i := range reqs {
		next <- i
	}
	close(next)
	wg.Wait()
	return results
}

// AcquireAsync makes one attempt by the driver's Async ability, else on a
// goroutine of its own.
func AcquireAsync(ctx context.Context, d Driver, req *AcquireRequest, done func(*AcquireResult, error)) {
	if a, ok := As[Async](d); ok {
		a.AcquireAsync(ctx, req, done)
		return
	}
	go func() { done(d.Acquire(ctx, req)) }()
}

// ReleaseAsync ends one hold by the driver's Async ability, else on a
// goroutine of its own.
func ReleaseAsync(ctx context.Context, d Driver, req *ReleaseRequest, done func(*ReleaseResult, error)) {
	if a, ok := As[Async](d); ok {
		a.ReleaseAsync(ctx, req, done)
		return
	}
	go func() { done(d.Release(ctx, req)) }()
}
