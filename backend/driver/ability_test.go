package driver_test

import (
	"context"
	"sync/atomic"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// plain is a driver without optional abilities; it counts what it is asked.
type plain struct {
	driver.Driver
	inFlight, most, calls atomic.Int64
	gate                  chan struct{}
}

func (p *plain) Renew(_ context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	p.calls.Add(1)
	n := p.inFlight.Add(1)
	for most := p.most.Load(); n > most && !p.most.CompareAndSwap(most, n); most = p.most.Load() {
	}
	<-p.gate
	p.inFlight.Add(-1)
	return &driver.Lease{Token: r.Token}, nil
}

// batching has the ability; decorated hides it behind a decorator.
type batching struct{ plain }

func (b *batching) RenewMany(_ context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	b.calls.Add(1)
	return make([]driver.RenewResult, len(reqs))
}

type decorated struct{ driver.Driver }

func (d decorated) Unwrap() driver.Driver { return d.Driver }

func TestAsLooksThroughDecorators(t *testing.T) {
	inner := &batching{}
	got, ok := driver.As[driver.BatchRenewer](decorated{decorated{inner}})
	if !ok || got != driver.BatchRenewer(inner) {
		t.Errorf("As = %v, %v; want the wrapped driver", got, ok)
	}
	if _, ok := driver.As[driver.BatchRenewer](decorated{&plain{}}); ok {
		t.Error("As found an ability that nobody has")
	}
	if _, ok := driver.As[driver.BatchRenewer](nil); ok {
		t.Error("As found an ability of no driver")
	}
}

func TestRenewManyFallsBackToBoundedSingleCalls(t *testing.T) {
	p := &plain{gate: make(chan struct{})}
	reqs := make([]driver.RenewRequest, 200)
	for i := range reqs {
		reqs[i].Token = int64(i)
	}
	results := make(chan []driver.RenewResult)
	go func() { results <- driver.RenewMany(t.Context(), p, reqs) }()
	close(p.gate)
	for i, r := range <-results {
		if r.Err != nil || r.Lease.Token != int64(i) {
			t.Fatalf("result %d = %+v: not the answer of its request", i, r)
		}
	}
	if p.calls.Load() != 200 || p.most.Load() > 32 {
		t.Errorf("%d calls, %d at once; want 200, at most 32", p.calls.Load(), p.most.Load())
	}
	b := &batching{}
	driver.RenewMany(t.Context(), decorated{b}, reqs)
	if b.calls.Load() != 1 {
		t.Errorf("%d calls of a driver with batches, want 1", b.calls.Load())
	}
}
