package breaker_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/breaker"
)

// flaky is a driver whose answers can be replaced by errors.
type flaky struct {
	*embedded.Driver
	// fail are the errors of the next acquires, after they took effect if lost.
	fail  []error
	calls int
	down  error
}

func (f *flaky) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	f.calls++
	if len(f.fail) > 0 {
		err := f.fail[0]
		f.fail = f.fail[1:]
		if errors.Is(err, driver.ErrIndeterminate) {
			_, _ = f.Driver.Acquire(ctx, r)
		}
		return nil, err
	}
	if f.down != nil {
		return nil, f.down
	}
	return f.Driver.Acquire(ctx, r)
}

func (f *flaky) AcquireAsync(ctx context.Context, r *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	done(f.Acquire(ctx, r))
}

func setup(t *testing.T, o breaker.Options) (*flaky, *breaker.Breaker) {
	t.Helper()
	d, err := embedded.New(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	f := &flaky{Driver: d}
	return f, breaker.New(f, o)
}

func request(id string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: "a", OwnerID: "owner " + id, RequestID: id, Key: driver.KeyOf(id), TTL: 10 * time.Second, PlaceTTL: 6 * time.Second,
	}
}

// acquire calls one of the two ways of acquiring.
func acquire(t *testing.T, b *breaker.Breaker, async bool, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if !async {
		return b.Acquire(t.Context(), r)
	}
	type outcome struct {
		res *driver.AcquireResult
		err error
	}
	ch := make(chan outcome, 1)
	b.AcquireAsync(t.Context(), r, func(res *driver.AcquireResult, err error) { ch <- outcome{res, err} })
	o := <-ch
	return o.res, o.err
}

func TestLostReplyIsRetriedUnderTheSameRequest(t *testing.T) {
	for _, async := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			f, b := setup(t, breaker.Options{})
			f.fail = []error{driver.ErrIndeterminate, driver.ErrUnavailable}
			res, err := acquire(t, b, async, request("r"))
			if err != nil || len(res.Lease.Holds) != 1 || f.calls != 3 {
				t.Fatalf("async %v: %+v, %v after %d calls; want one hold by the third", async, res, err, f.calls)
			}
		})
	}
}

func TestUnknownStaysUnknown(t *testing.T) {
	for down, calls := range map[error]int{driver.ErrUnavailable: 3, driver.ErrQuarantined: 2, driver.ErrClosed: 2} {
		for _, async := range []bool{false, true} {
			synctest.Test(t, func(t *testing.T) {
				f, b := setup(t, breaker.Options{MaxRetries: 2})
				f.fail, f.down = []error{driver.ErrIndeterminate}, down
				_, err := acquire(t, b, async, request("r"))
				if !errors.Is(err, driver.ErrIndeterminate) || f.calls != calls {
					t.Errorf("async %v, then %v: %v after %d calls; an attempt that may have been done must stay unknown", async, down, err, f.calls)
				}
			})
		}
	}
}

func TestOpensOnFailuresAndProbesWithOne(t *testing.T) {
	for _, async := range []bool{false, true} {
		synctest.Test(t, func(t *testing.T) {
			var changes []string
			f, b := setup(t, breaker.Options{MaxRetries: -1, OnStateChange: func(name, _, to string) { changes = append(changes, name+" "+to) }})
			lease, err := b.Acquire(t.Context(), request("held"))
			if err != nil {
				t.Fatal(err)
			}
			f.down = driver.ErrUnavailable
			for range 5 {
				_, _ = acquire(t, b, async, request("r"))
			}
			calls := f.calls
			if _, err := acquire(t, b, async, request("r")); !errors.Is(err, driver.ErrBreakerOpen) || f.calls != calls {
				t.Errorf("async %v: %v, %d more calls; want the open breaker", async, err, f.calls-calls)
			}
			// What keeps or ends a lease passes.
			ref := driver.LeaseRef{LockID: "a", Key: driver.KeyOf("held"), Token: lease.Lease.Token}
			if _, err := b.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second}); err != nil {
				t.Errorf("a renewal met the open breaker: %v", err)
			}
			if _, err := b.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref}); err != nil {
				t.Errorf("a release met the open breaker: %v", err)
			}
			if _, err := b.Inspect(t.Context(), "a"); err != nil {
				t.Errorf("a read met the breaker of acquires: %v", err)
			}
			if s := b.States(); s["acquire"] != "open" || s["read"] != "closed" {
				t.Errorf("the breakers are %v", s)
			}
			time.Sleep(3 * time.Second)
			f.down = nil
			if _, err := acquire(t, b, async, request("probe")); err != nil || b.State() != "closed" {
				t.Errorf("async %v: the probe gave %v, the breaker is %s", async, err, b.State())
			}
			if want := 3; len(changes) != want {
				t.Errorf("state changes %v, want open, half-open, closed", changes)
			}
		})
	}
}

// A probe whose caller leaves neither closes the breaker nor wedges it.
func TestProbeOfACallerThatLeftDoesNotWedge(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := setup(t, breaker.Options{MaxRetries: -1})
		f.down = driver.ErrUnavailable
		for range 5 {
			_, _ = b.Acquire(t.Context(), request("r"))
		}
		time.Sleep(3 * time.Second)
		f.down = nil
		f.fail = []error{context.Canceled}
		_, _ = b.Acquire(t.Context(), request("left"))
		if b.State() != "half-open" {
			t.Errorf("the breaker is %s after a probe that tells nothing", b.State())
		}
		if _, err := b.Acquire(t.Context(), request("probe")); err != nil || b.State() != "closed" {
			t.Errorf("the next probe gave %v, the breaker is %s", err, b.State())
		}
	})
}

// Callers whose time runs out do not take the store away from the others.
func TestDeadlinesOfCallersAreNoFailures(t *testing.T) {
	for name, call := range map[string]func(context.Context, *breaker.Breaker) error{
		"acquire": func(ctx context.Context, b *breaker.Breaker) error {
			_, err := b.Acquire(ctx, request("r"))
			return err
		},
		"acquire async": func(ctx context.Context, b *breaker.Breaker) (failed error) {
			b.AcquireAsync(ctx, request("r"), func(_ *driver.AcquireResult, err error) { failed = err })
			return failed
		},
		"inspect": func(ctx context.Context, b *breaker.Breaker) error {
			_, err := b.Inspect(ctx, "a")
			return err
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				f, b := setup(t, breaker.Options{MaxRetries: -1})
				late, cancel := context.WithTimeout(t.Context(), time.Second)
				defer cancel()
				<-late.Done()
				for range 50 {
					if name != "inspect" { // as of a call that was on its way
						f.fail = []error{errors.Join(driver.ErrIndeterminate, late.Err())}
					}
					if err := call(late, b); !errors.Is(err, context.DeadlineExceeded) {
						t.Fatal(err)
					}
				}
				if err := call(t.Context(), b); err != nil {
					t.Errorf("after fifty deadlines of others: %v", err)
				}
			})
		})
	}
}

func TestContentionIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		_, b := setup(t, breaker.Options{})
		if _, err := b.Acquire(t.Context(), request("holder")); err != nil {
			t.Fatal(err)
		}
		for range 50 {
			if _, err := b.Acquire(t.Context(), request("r")); !errors.Is(err, driver.ErrHeld) {
				t.Fatal(err)
			}
		}
		if b.State() != "closed" {
			t.Errorf("contention made the breaker %s", b.State())
		}
	})
}

// A store that has no capacity for a call works: the call is retried, and no
// breaker opens.
func TestAThrottledStoreIsNoFailure(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		throttled := fmt.Errorf("%w: %w: throttled", driver.ErrUnavailable, driver.ErrLimit)
		f, b := setup(t, breaker.Options{FailureThreshold: 2, MaxRetries: 2})
		f.down = throttled
		for range 5 {
			if _, err := b.Acquire(t.Context(), request("r")); !errors.Is(err, driver.ErrLimit) || errors.Is(err, driver.ErrBreakerOpen) {
				t.Fatalf("error %v", err)
			}
		}
		if b.State() != "closed" || f.calls != 15 {
			t.Errorf("the breaker is %s after %d calls, want 15", b.State(), f.calls)
		}
		f.down, f.fail = nil, []error{throttled}
		if res, err := b.Acquire(t.Context(), request("r")); err != nil || res.Lease == nil {
			t.Errorf("the retry: %+v, %v", res, err)
		}
	})
}

// An open breaker stands in the way of acquires, not of the sweep that finds
// what has expired meanwhile.
func TestSweepsPassAnOpenBreaker(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f, b := setup(t, breaker.Options{MaxRetries: -1, FailureThreshold: 1, OpenFor: time.Hour})
		if _, err := b.Acquire(t.Context(), request("dead")); err != nil {
			t.Fatal(err)
		}
		f.down = driver.ErrUnavailable
		_, _ = b.Acquire(t.Context(), request("opens it"))
		if b.State() != "open" {
			t.Fatalf("the breaker is %s", b.State())
		}
		time.Sleep(11 * time.Second)
		w, ok := driver.As[driver.Sweeper](b)
		if !ok {
			t.Fatal("the breaker hides the sweep")
		}
		ends, err := w.Sweep(t.Context())
		if err != nil || len(ends) != 1 || ends[0].OwnerID != "owner dead" {
			t.Errorf("swept %+v, %v; want the dead lease", ends, err)
		}
		if err := w.Told(t.Context(), ends); err != nil {
			t.Error(err)
		}
	})
}
