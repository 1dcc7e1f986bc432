package metrics

import (
	"context"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// instant is a driver that answers at once.
type instant struct{ driver.Driver }

func (instant) AcquireAsync(_ context.Context, _ *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	done(&driver.AcquireResult{}, nil)
}

func (instant) ReleaseAsync(_ context.Context, _ *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	done(&driver.ReleaseResult{}, nil)
}

// BenchmarkHeldLease is all that is counted of a lease on a Hold stream: its
// acquire, its end, and the two calls to the store.
func BenchmarkHeldLease(b *testing.B) {
	m := New(Options{}).Backend("main")
	d := m.Driver(instant{})
	b.ReportAllocs()
	for b.Loop() {
		driver.AcquireAsync(b.Context(), d, nil, func(*driver.AcquireResult, error) {})
		m.Acquired(backend.AcquireObservation{LockID: "orders/42", Wait: 300 * time.Microsecond})
		m.Held(renew.HeldObservation{LockID: "orders/42", Delta: 1})
		driver.ReleaseAsync(b.Context(), d, nil, func(*driver.ReleaseResult, error) {})
		m.Held(renew.HeldObservation{LockID: "orders/42", Delta: -1, For: time.Millisecond})
	}
}
