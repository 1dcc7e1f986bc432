package metrics

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestEachCallIsCountedByItsOutcome(t *testing.T) {
	d, err := embedded.New(embedded.Options{})
	if err != nil {
		t.Fatal(err)
	}
	b := New(Options{}).Backend("embedded")
	c := b.Driver(d)
	ctx := t.Context()
	res, err := c.Acquire(ctx, &driver.AcquireRequest{LockID: "a", OwnerID: "one", RequestID: "1", Key: "k", TTL: 10 * time.Second})
	if err != nil {
		t.Fatal(err)
	}
	refused := &driver.AcquireRequest{LockID: "a", OwnerID: "two", RequestID: "2", Key: "l", TTL: 10 * time.Second}
	answered := make(chan error, 1)
	driver.AcquireAsync(ctx, c, refused, func(_ *driver.AcquireResult, err error) { answered <- err })
	if err := <-answered; !errors.Is(err, driver.ErrHeld) {
		t.Fatal(err)
	}
	ref := driver.LeaseRef{LockID: "a", Key: "k", Token: res.Lease.Token}
	wrong := ref
	wrong.Token++
	for i, r := range driver.RenewMany(ctx, c, []driver.RenewRequest{{LeaseRef: ref, TTL: 10 * time.Second}, {LeaseRef: wrong, TTL: 10 * time.Second}, {LeaseRef: ref, TTL: 10 * time.Second}}) {
		if (r.Err == nil) != (i != 1) {
			t.Errorf("renewal %d: %v", i, r.Err)
		}
	}
	_, _ = c.Renew(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second})
	_, _ = c.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second})
	_, _ = c.Inspect(ctx, "a")
	_, _ = c.List(ctx, &driver.ListRequest{PageSize: 10})
	_, _ = c.Revoke(ctx, &driver.EvictRequest{LockID: "a", Token: ref.Token, Cause: driver.CauseForced})
	_, _ = c.Evict(ctx, &driver.EvictRequest{LockID: "a", Token: ref.Token, Cause: driver.CauseForced})
	_, _ = c.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref})
	driver.ReleaseAsync(ctx, c, &driver.ReleaseRequest{LeaseRef: ref}, func(_ *driver.ReleaseResult, err error) { answered <- err })
	if err := <-answered; !errors.Is(err, driver.ErrLost) {
		t.Fatal(err)
	}
	_ = c.Leave(ctx, &driver.LeaveRequest{LockID: "a", RequestID: "2"})
	_ = c.Ping(ctx)
	sweeper, ok := driver.As[driver.Sweeper](c)
	if !ok {
		t.Fatal("the driver does not sweep any more")
	}
	ended, _ := sweeper.Sweep(ctx)
	_ = sweeper.Told(ctx, ended)
	left, leave := context.WithCancel(ctx)
	leave()
	_ = c.Ping(left)
	if err := c.Close(); err != nil {
		t.Fatal(err)
	}
	for op, want := range map[operation]map[outcome]float64{
		opAcquire: {callOK: 1, callRefused: 1}, opRenew: {callOK: 3, callRefused: 1}, opRelease: {callRefused: 2}, opLeave: {callOK: 1},
		opAdopt: {callOK: 1}, opEvict: {callOK: 1}, opRevoke: {callOK: 1}, opInspect: {callOK: 1}, opList: {callOK: 1},
		opSweep: {callOK: 1}, opTold: {callOK: 1}, opPing: {callOK: 1, callLeft: 1},
	} {
		for o := range outcomes {
			if n := testutil.ToFloat64(b.calls[op][o]); n != want[o] {
				t.Errorf("%s: %v times %s, want %v", operationNames[op], n, outcomeNames[o], want[o])
			}
		}
	}
}

func TestOutcomesOfErrors(t *testing.T) {
	for err, want := range map[error]outcome{
		driver.ErrQuarantined: callQuarantined, driver.ErrLimit: callLimit, driver.ErrBreakerOpen: callUnavailable, driver.ErrUnavailable: callUnavailable,
		driver.ErrIndeterminate: callUnknown, errors.New("x"): callUnknown, driver.ErrClosed: callLeft, driver.ErrFormat: callRefused,
		errors.Join(driver.ErrLimit, driver.ErrIndeterminate): callUnknown, context.DeadlineExceeded: callUnknown,
	} {
		if got := outcomeOf(context.Background(), err); got != want {
			t.Errorf("%v is %s, want %s", err, outcomeNames[got], outcomeNames[want])
		}
	}
	for _, s := range driver.Sentinels() {
		if got := outcomeOf(context.Background(), s); got == callOK {
			t.Errorf("%v is ok", s)
		}
	}
}

// able is a driver with abilities that are not counted.
type able struct{ driver.Driver }

func (able) Describe() []driver.Server { return []driver.Server{{Role: "primary"}} }

func (able) Measure(context.Context) (driver.Vitals, error) {
	return driver.Vitals{MemoryUsed: .5}, nil
}

func TestAbilitiesAreFoundBehindTheCounts(t *testing.T) {
	c := New(Options{}).Backend("x").Driver(able{})
	if d, ok := driver.As[driver.Describer](c); !ok || len(d.Describe()) != 1 {
		t.Error("the driver does not describe itself any more")
	}
	if m, ok := driver.As[driver.Measurer](c); !ok {
		t.Error("the driver does not measure any more")
	} else if v, err := m.Measure(t.Context()); err != nil || v.MemoryUsed != .5 {
		t.Error(v, err)
	}
	if _, ok := driver.As[driver.Sweeper](c); ok {
		t.Error("the driver sweeps now")
	}
	if _, ok := driver.As[driver.Quarantiner](c); ok {
		t.Error("the driver has quarantines now")
	}
}
