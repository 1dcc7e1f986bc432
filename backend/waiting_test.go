package backend_test

import (
	"context"
	"errors"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestLostHintIsMadeUpForByThePoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, d, other := stage(t, backend.Options{}, func(d *staged) { d.watch = deaf })
		r := &driver.AcquireRequest{LockID: "a", OwnerID: "o", RequestID: "r", Key: driver.KeyOf("r"), TTL: time.Minute}
		res, err := other.Acquire(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		ended := start(t.Context(), s, backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		time.Sleep(10 * time.Second)
		synctest.Wait()
		poll := s.Capabilities().Poll
		times := d.times()
		for i, at := range times[1:] {
			if gap := at.Sub(times[i]); gap > poll || gap < poll*3/4 {
				t.Errorf("attempt %d came %v after the one before, want within a quarter of %v", i+1, gap, poll)
			}
		}
		released := time.Now()
		if _, err := other.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: res.Lease.Token}}); err != nil {
			t.Fatal(err)
		}
		o := <-ended
		if late := o.at.Sub(released); o.err != nil || late > poll {
			t.Errorf("granted %v after the release (%v), want within %v", late, o.err, poll)
		}
	})
}

// near is a driver without hints that tells what it did itself.
type near struct {
	*staged
	local driver.Driver
}

func (n near) Capabilities() driver.Capabilities {
	c := n.staged.Capabilities()
	c.Watch = false
	return c
}

func (n near) Watch(context.Context, func(driver.Hint)) error { return driver.ErrUnsupported }

func (n near) WatchLocal(ctx context.Context, sink func(driver.Hint)) error {
	return n.local.Watch(ctx, sink)
}

func TestHintsOfADriversOwnCallsSaveAPoll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		inner, err := embedded.New(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		s := backend.New(near{&staged{Driver: inner}, inner}, backend.Options{Clock: driver.ProcessClock})
		defer func() { _ = s.Close() }()
		synctest.Wait() // it listens
		holder, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"})
		if err != nil {
			t.Fatal(err)
		}
		ended := start(t.Context(), s, backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		synctest.Wait()
		released := time.Now()
		if _, err := s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: holder.Ref(false)}); err != nil {
			t.Fatal(err)
		}
		if o := <-ended; o.err != nil || o.at != released {
			t.Errorf("granted %v after the release: %v", o.at.Sub(released), o.err)
		}
	})
}

func TestRetryAfterIsHonoured(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began := time.Now()
		s, _, _ := stage(t, backend.Options{}, func(d *staged) {
			d.watch = deaf
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				if d.tries() > 5 {
					return d.Driver.Acquire(ctx, r)
				}
				return &driver.AcquireResult{Position: 1, QueueLength: 1, RetryAfter: 70 * time.Millisecond}, nil
			}
		})
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		if took := time.Since(began); took != 5*70*time.Millisecond {
			t.Errorf("granted after %v, want after five pauses of 70ms", took)
		}
	})
}

func TestPositionIsToldAtMostOnceASecond(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, _ := stage(t, backend.Options{}, func(d *staged) {
			d.watch = deaf
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				n := d.tries()
				if n > 50 {
					return d.Driver.Acquire(ctx, r)
				}
				if n > 25 {
					n = 25 // it does not move any more
				}
				return &driver.AcquireResult{Position: 100 - n, QueueLength: 100, RetryAfter: 100 * time.Millisecond}, nil
			}
		})
		var told []int
		var at []time.Time
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever, OnQueued: func(position, length int) {
			told, at = append(told, position), append(at, time.Now())
			if length != 100 {
				t.Errorf("told a length of %d", length)
			}
		}})
		if !slices.Equal(told, []int{99, 89, 79, 75}) {
			t.Errorf("told %v, want the first, one a second, the last", told)
		}
		for i := 1; i < len(at); i++ {
			if gap := at[i].Sub(at[i-1]); gap < time.Second {
				t.Errorf("told twice within %v", gap)
			}
		}
	})
}

func TestPlaceOutlivesAnOutageAndAFirstAttemptDoesNot(t *testing.T) {
	for _, outage := range []error{driver.ErrUnavailable, driver.ErrIndeterminate, driver.ErrBreakerOpen} {
		synctest.Test(t, func(t *testing.T) {
			var down atomic.Bool
			down.Store(true)
			s, d, other := stage(t, backend.Options{}, func(d *staged) {
				d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
					if down.Load() {
						return nil, outage
					}
					return d.Driver.Acquire(ctx, r)
				}
			})
			if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: backend.Forever}); !errors.Is(err, outage) {
				t.Errorf("a first attempt in an outage: %v, want %v", err, outage)
			}
			synctest.Wait()
			if undone := len(d.leaves()) == 1; undone != errors.Is(outage, driver.ErrIndeterminate) {
				t.Errorf("%v: undone is %v", outage, undone)
			}
			down.Store(false)
			r := &driver.AcquireRequest{LockID: "a", OwnerID: "o", RequestID: "r", Key: driver.KeyOf("r"), TTL: 5 * time.Second}
			if _, err := other.Acquire(t.Context(), r); err != nil {
				t.Fatal(err)
			}
			ended := start(t.Context(), s, backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
			synctest.Wait()
			down.Store(true)
			time.Sleep(30 * time.Second)
			synctest.Wait()
			down.Store(false)
			if o := <-ended; o.err != nil {
				t.Errorf("a place in an outage: %v", o.err)
			}
		})
	}
}

func TestQuarantineIsWaitedFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ends := time.Now().Add(time.Minute)
		s, _, _ := stage(t, backend.Options{}, func(d *staged) {
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				if time.Now().Before(ends) {
					return nil, driver.ErrQuarantined
				}
				return d.Driver.Acquire(ctx, r)
			}
		})
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, driver.ErrQuarantined) {
			t.Errorf("a try: %v", err)
		}
		began := time.Now()
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: 3 * time.Second}); !errors.Is(err, driver.ErrQuarantined) || time.Since(began) != 3*time.Second {
			t.Errorf("a bounded wait: %v after %v", err, time.Since(began))
		}
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		if late := time.Since(ends); late < 0 || late > s.Capabilities().Poll {
			t.Errorf("granted %v after the quarantine", late)
		}
	})
}

func TestLastTryTakesWhatWasFreedUnheard(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _, other := stage(t, backend.Options{}, func(d *staged) { d.watch = deaf })
		r := &driver.AcquireRequest{LockID: "a", OwnerID: "o", RequestID: "r", Key: driver.KeyOf("r"), TTL: time.Minute}
		res, err := other.Acquire(t.Context(), r)
		if err != nil {
			t.Fatal(err)
		}
		began := time.Now()
		ended := start(t.Context(), s, backend.AcquireRequest{LockID: "a", Wait: time.Second})
		time.Sleep(900 * time.Millisecond)
		synctest.Wait()
		if _, err := other.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: res.Lease.Token}}); err != nil {
			t.Fatal(err)
		}
		if o := <-ended; o.err != nil || o.at.Sub(began) != time.Second {
			t.Errorf("the wait of 1s ended after %v with %v, want the lease", o.at.Sub(began), o.err)
		}
	})
}

// A refusal because the owner holds the lock itself takes the place away too, or
// it would hold up those behind it.
func TestLastTryAgainstOneselfLeavesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var own driver.AcquireRequest
		s, _, other := stage(t, backend.Options{}, func(d *staged) {
			d.watch = deaf
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				if !r.Enqueue { // just before the last try the owner gets the lock by another request
					own = driver.AcquireRequest{LockID: "a", OwnerID: r.OwnerID, RequestID: "own", Key: driver.KeyOf("own"), TTL: time.Minute}
					if _, err := d.Driver.Evict(ctx, &driver.EvictRequest{LockID: "a", Token: 1 << 51, Cause: driver.CauseForced}); err != nil {
						t.Error(err)
					}
					own.Priority, own.Enqueue, own.PlaceTTL = driver.MaxPriority, true, time.Minute
					if res, err := d.Driver.Acquire(ctx, &own); err != nil || res.Lease == nil {
						t.Errorf("the owner's other request: %+v (%v)", res, err)
					}
				}
				return d.Driver.Acquire(ctx, r)
			}
		})
		holder := &driver.AcquireRequest{LockID: "a", OwnerID: "h", RequestID: "h", Key: driver.KeyOf("h"), TTL: time.Minute, TokenFloor: 1 << 51}
		if _, err := other.Acquire(t.Context(), holder); err != nil {
			t.Fatal(err)
		}
		_, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "me", RequestID: "r", Wait: time.Second})
		if held := (*driver.HeldError)(nil); !errors.As(err, &held) || !held.BySelf {
			t.Fatalf("error %v, want held by self", err)
		}
		synctest.Wait()
		if l, err := s.Get(t.Context(), "a"); err != nil || len(l.Waiters) != 0 || len(l.Holders) != 1 {
			t.Errorf("the lock is %+v (%v), want no place", l, err)
		}
	})
}

func TestWatchIsResumedAndAResyncWakesAll(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var lines, watches int
		sinks := make(chan func(driver.Hint), 1)
		s, d, other := stage(t, backend.Options{Logger: told(func(string) { mu.Lock(); lines++; mu.Unlock() })}, func(d *staged) {
			d.watch = func(ctx context.Context, sink func(driver.Hint)) error {
				mu.Lock()
				watches++
				n := watches
				mu.Unlock()
				if n <= 3 {
					return driver.ErrUnavailable
				}
				sinks <- sink
				return deaf(ctx, sink)
			}
		})
		r := &driver.AcquireRequest{LockID: "a", OwnerID: "o", RequestID: "r", Key: driver.KeyOf("r"), TTL: time.Minute}
		if _, err := other.Acquire(t.Context(), r); err != nil {
			t.Fatal(err)
		}
		sink := <-sinks
		mu.Lock()
		if lines != 3 {
			t.Errorf("%d lines about 3 broken watches", lines)
		}
		mu.Unlock()
		ctx, cancel := context.WithCancel(t.Context())
		defer cancel()
		var all []<-chan outcome
		for range 20 {
			all = append(all, start(ctx, s, backend.AcquireRequest{LockID: "a", Wait: backend.Forever}))
		}
		synctest.Wait()
		before := d.tries()
		sink(driver.Hint{Kind: driver.HintResync})
		time.Sleep(s.Capabilities().Poll/2 + time.Millisecond) // before any of them polls
		synctest.Wait()
		if n := d.tries() - before; n != 20 {
			t.Errorf("%d of 20 waiters re-checked after a resync", n)
		}
		revoked := make(chan int64, 1)
		s.OnRevoked(func(_ string, token int64) { revoked <- token })
		sink(driver.Hint{Kind: driver.HintRevoked, LockID: "a", Token: 7})
		if token := <-revoked; token != 7 {
			t.Errorf("token %d", token)
		}
		sink(driver.Hint{Kind: driver.HintGrantable, LockID: "a", RequestID: "nobody's"})
		cancel()
		for _, ended := range all {
			if o := <-ended; !errors.Is(o.err, context.Canceled) {
				t.Error(o.err)
			}
		}
		synctest.Wait()
		if l, _ := s.Get(t.Context(), "a"); len(l.Waiters) != 0 || s.Waiting() != 0 {
			t.Errorf("%d places and %d waiters are left", len(l.Waiters), s.Waiting())
		}
	})
}

// observed keeps what an observer is told.
type observed struct {
	mu               sync.Mutex
	acquired         []backend.AcquireObservation
	waiting, expired int
}

func (o *observed) Acquired(a backend.AcquireObservation) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.acquired = append(o.acquired, a)
}

func (o *observed) Waiting(delta int) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.waiting += delta
}

func (o *observed) Happened(e backend.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e.Kind == backend.Ended && e.Cause == driver.CauseExpired {
		o.expired++
	}
}

func TestObserverIsToldEachAcquireOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		o := &observed{}
		s, _, _ := stage(t, backend.Options{Observer: o, Name: "b"}, nil)
		if s.Name() != "b" || s.Driver() == nil {
			t.Errorf("name %q", s.Name())
		}
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: 3 * time.Second})
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, driver.ErrHeld) {
			t.Error(err)
		}
		ended := start(t.Context(), s, backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		synctest.Wait()
		o.mu.Lock()
		if o.waiting != 1 {
			t.Errorf("%d wait", o.waiting)
		}
		o.mu.Unlock()
		if got := <-ended; got.err != nil {
			t.Fatal(got.err)
		}
		if o.waiting != 0 || o.expired != 1 || len(o.acquired) != 3 {
			t.Fatalf("observed %+v", o)
		}
		if a := o.acquired; a[0].Contended || a[0].Err != nil || !a[1].Contended || a[1].Err == nil || !a[2].Contended || a[2].Wait < 3*time.Second {
			t.Errorf("observed %+v", a)
		}
	})
}
