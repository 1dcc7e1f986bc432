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

// happenings keeps the events.
type happenings struct {
	mu     sync.Mutex
	events []backend.Event
}

func (*happenings) Acquired(backend.AcquireObservation) {}
func (*happenings) Waiting(int)                         {}
func (o *happenings) Happened(e backend.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	o.events = append(o.events, e)
}

// of are the events of a kind.
func (o *happenings) of(k backend.Kind) (found []backend.Event) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return slices.DeleteFunc(slices.Clone(o.events), func(e backend.Event) bool { return e.Kind != k })
}

// twoSidecars are stores over the same locks.
func twoSidecars(t *testing.T) (one, two *backend.Store, first, second *happenings) {
	t.Helper()
	m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	first, second = &happenings{}, &happenings{}
	one = backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock, Observer: first})
	two = backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock, Observer: second})
	return one, two, first, second
}

// A wait that an operator ends at another sidecar fails at once, leaves nothing,
// and is told by both: who did it and why by the one, that it ended by the other.
func TestCancelledWaitEndsAtItsSidecar(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, first, second := twoSidecars(t)
		defer func() { _, _ = one.Close(), two.Close() }()
		if _, err := one.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "holder", TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ended := make(chan error, 1)
		go func() {
			_, err := two.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "waiter", RequestID: "r", Wait: backend.Forever})
			ended <- err
		}()
		synctest.Wait()
		l, err := one.Get(t.Context(), "a")
		if err != nil || len(l.Waiters) != 1 {
			t.Fatalf("%+v, %v", l, err)
		}
		ticket := l.Waiters[0].Ticket
		for _, bad := range []backend.WaiterRequest{{LockID: "a/"}, {LockID: "a"}, {LockID: "a", Ticket: ticket, Priority: 10}, {LockID: "a", Ticket: ticket, Priority: -1}} {
			if _, err := one.Reprioritize(t.Context(), &bad); !errors.Is(err, driver.ErrInvalid) {
				t.Errorf("%+v: %v", bad, err)
			}
		}
		if w, err := one.Reprioritize(t.Context(), &backend.WaiterRequest{LockID: "a", Ticket: ticket, Priority: 4, Reason: "why", By: "me"}); err != nil || w.Priority != 4 {
			t.Errorf("%+v, %v", w, err)
		}
		start := time.Now()
		if w, err := one.CancelWaiter(t.Context(), &backend.WaiterRequest{LockID: "a", Ticket: ticket, Reason: "why", By: "me"}); err != nil || w.OwnerID != "waiter" {
			t.Fatalf("%+v, %v", w, err)
		}
		var lost *driver.LostError
		if err := <-ended; !errors.As(err, &lost) || lost.Cause != driver.CauseForced || time.Since(start) > 0 {
			t.Errorf("after %v the wait ended with %v", time.Since(start), err)
		}
		if _, err := one.CancelWaiter(t.Context(), &backend.WaiterRequest{LockID: "a", Ticket: ticket}); !errors.Is(err, driver.ErrNoPlace) {
			t.Errorf("once more: %v", err)
		}
		synctest.Wait()
		if got := second.of(backend.Abandoned); len(got) != 1 || got[0].Reason != backend.ReasonForced {
			t.Errorf("its sidecar tells %+v", got)
		}
		if got := first.of(backend.Cancelled); len(got) != 1 || got[0].OwnerID != "waiter" || got[0].Ticket != ticket || got[0].Reason != "why" || got[0].By != "me" {
			t.Errorf("the operator's sidecar tells %+v", got)
		}
		if got := first.of(backend.Reprioritized); len(got) != 1 || got[0].Priority != 4 || got[0].By != "me" {
			t.Errorf("the operator's sidecar tells %+v", got)
		}
	})
}

// A wait is refused once, and only while it waits; its place is given up. Only
// acquires that name an owner and have a place count as waits.
func TestRefusedWaitGivesUpItsPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _, second := twoSidecars(t)
		defer func() { _, _ = one.Close(), two.Close() }()
		if _, err := one.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			if _, err := two.Acquire(ctx, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever}); !errors.Is(err, context.Canceled) {
				t.Errorf("the anonymous one: %v", err)
			}
		})
		synctest.Wait() // it is the first in the queue
		refusal := &backend.DeadlockError{Cycle: []backend.Wait{{LockID: "a", OwnerID: "waiter", For: "other"}}}
		waiting.Go(func() {
			_, err := two.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "waiter", RequestID: "r", Wait: backend.Forever})
			var got *backend.DeadlockError
			if !errors.As(err, &got) || got != refusal || !errors.Is(err, driver.ErrDeadlock) {
				t.Errorf("refused with %v", err)
			}
		})
		time.Sleep(time.Second)
		for least, want := range map[time.Duration]backend.Waits{time.Second: {Named: 1, Queue: 2}, 2 * time.Second: {}} {
			if got := two.Waits(least); got != want {
				t.Errorf("%v: %+v, want %+v", least, got, want)
			}
		}
		told := map[time.Duration]int{}
		two.EachWait(func(lock string, waited time.Duration) {
			if lock != "a" {
				t.Errorf("somebody waits for %q", lock)
			}
			told[waited]++
		})
		one.EachWait(func(string, time.Duration) { t.Error("somebody waits at the other sidecar") })
		if told[time.Second] != 2 || len(told) != 1 {
			t.Errorf("waits of %v, want two of a second", told)
		}
		if one.Refuse("a", "r", refusal) || two.Refuse("a", "another", refusal) || two.Refuse("b", "r", refusal) {
			t.Error("what does not wait here was refused")
		}
		if !two.Refuse("a", "r", refusal) || two.Refuse("a", "r", refusal) {
			t.Error("it is refused once")
		}
		synctest.Wait()
		if l, err := one.Get(t.Context(), "a"); err != nil || len(l.Waiters) != 1 {
			t.Errorf("the queue is %+v, %v", l.Waiters, err)
		}
		if got := second.of(backend.Abandoned); len(got) != 1 || got[0].Reason != backend.ReasonDeadlock {
			t.Errorf("told as %+v", got)
		}
		cancel()
		waiting.Wait()
	})
}

// A drain goes before those who wait already and keeps them waiting: its grant says
// that nobody has the lock. Who asked for it and why is told, also of one that finds
// the lock free.
func TestDrainGoesBeforeAllAndIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, first, second := twoSidecars(t)
		defer func() { _, _ = one.Close(), two.Close() }()
		held, err := one.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "holder", TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		waiting := make(chan *backend.Lease, 1)
		go func() {
			l, err := one.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "waiter", Priority: driver.MaxPriority, Wait: backend.Forever})
			if err != nil {
				t.Error(err)
			}
			waiting <- l
		}()
		synctest.Wait()
		draining := make(chan *backend.Lease, 1)
		go func() {
			l, err := two.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "drain", Wait: backend.Forever, Drain: &backend.Drain{Reason: "why", By: "me"}})
			if err != nil {
				t.Error(err)
			}
			draining <- l
		}()
		synctest.Wait()
		if l, err := one.Get(t.Context(), "a"); err != nil || len(l.Waiters) != 2 || l.Waiters[0].OwnerID != "drain" || l.Waiters[0].Priority != driver.FirstPriority {
			t.Fatalf("%+v, %v", l, err)
		}
		if _, err := one.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: held.Ref(false)}); err != nil {
			t.Fatal(err)
		}
		drained := <-draining
		synctest.Wait()
		select {
		case l := <-waiting:
			t.Fatalf("granted in a drained lock: %+v", l)
		default:
		}
		if _, err := two.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: drained.Ref(false)}); err != nil {
			t.Fatal(err)
		}
		<-waiting
		if got := second.of(backend.Draining); len(got) != 1 || got[0].LockID != "a" || got[0].OwnerID != "drain" || got[0].Reason != "why" || got[0].By != "me" {
			t.Errorf("told as %+v", got)
		}
		if got := second.of(backend.Reprioritized); len(got) != 1 || got[0].Priority != driver.FirstPriority || got[0].Reason != "why" || got[0].By != "me" {
			t.Errorf("its place is told as %+v", got)
		}
		if got := first.of(backend.Draining); len(got) != 0 {
			t.Errorf("the other sidecar tells %+v", got)
		}
		if _, err := two.Acquire(t.Context(), &backend.AcquireRequest{LockID: "free", Drain: &backend.Drain{Reason: "why", By: "me"}}); err != nil || len(second.of(backend.Draining)) != 2 {
			t.Errorf("of a free lock: %v, told as %+v", err, second.of(backend.Draining))
		}
	})
}

// Whoever drains is told where the drain stands, not where its place was before it
// was put first.
func TestDrainIsToldThatItIsFirst(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		one, two, _, _ := twoSidecars(t)
		defer func() { _, _ = one.Close(), two.Close() }()
		if _, err := one.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "holder", TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, _ = one.Acquire(ctx, &backend.AcquireRequest{LockID: "a", OwnerID: "waiter", Priority: driver.MaxPriority, Wait: backend.Forever})
		})
		synctest.Wait()
		var told []int
		waiting.Go(func() {
			_, _ = two.Acquire(ctx, &backend.AcquireRequest{
				LockID: "a", OwnerID: "drain", Wait: backend.Forever, Drain: &backend.Drain{},
				OnQueued: func(position, _ int) { told = append(told, position) },
			})
		})
		synctest.Wait()
		cancel()
		waiting.Wait()
		if !slices.Equal(told, []int{1}) {
			t.Errorf("told to stand at %v", told)
		}
	})
}

// The limits of what applications may say are not those of a drain, whose owner and
// metadata the sidecar makes.
func TestDrainIsNotBoundByTheLimitsOfApplications(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		s := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock, Limits: backend.Limits{OwnerID: 4, MetadataKeys: 1, MetadataBytes: 8}})
		defer func() { _ = s.Close() }()
		req := &backend.AcquireRequest{LockID: "a", OwnerID: "drain-1234", Metadata: map[string]string{"operator": "me", "reason": "why"}}
		var invalid *backend.InvalidError
		if _, err := s.Acquire(t.Context(), req); !errors.As(err, &invalid) {
			t.Errorf("an application: %v", err)
		}
		req.Drain = &backend.Drain{Reason: "why", By: "me"}
		if l, err := s.Acquire(t.Context(), req); err != nil || l.Metadata["reason"] != "why" {
			t.Errorf("a drain: %+v, %v", l, err)
		}
	})
}

// outage makes attempts fail while it is down.
type outage struct {
	driver.Driver
	down atomic.Bool
}

func (o *outage) Unwrap() driver.Driver { return o.Driver }

func (o *outage) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if o.down.Load() {
		return nil, driver.ErrUnavailable
	}
	return o.Driver.Acquire(ctx, req)
}

// A place that a drain gets anew, after an outage that the old one did not outlive,
// goes before all others too.
func TestDrainGoesFirstAgainWithANewPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		cut, told := &outage{Driver: m.Open()}, &happenings{}
		one := backend.New(cut, backend.Options{Clock: driver.ProcessClock, Observer: told})
		two := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
		defer func() { _, _ = one.Close(), two.Close() }()
		if _, err := two.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "holder", TTL: time.Minute}); err != nil {
			t.Fatal(err)
		}
		ctx, cancel := context.WithCancel(t.Context())
		var ended sync.WaitGroup
		wait := func(s *backend.Store, owner string, d *backend.Drain) {
			ended.Go(func() {
				_, _ = s.Acquire(ctx, &backend.AcquireRequest{LockID: "a", OwnerID: owner, Wait: backend.Forever, Drain: d})
			})
			synctest.Wait()
		}
		wait(one, "drain", &backend.Drain{})
		wait(two, "waiter", nil)
		cut.down.Store(true)
		time.Sleep(30 * time.Second) // of the bubble's time
		if l, err := two.Get(t.Context(), "a"); err != nil || len(l.Waiters) != 1 {
			t.Fatalf("during the outage: %+v, %v", l, err)
		}
		cut.down.Store(false)
		time.Sleep(10 * time.Second)
		if l, err := two.Get(t.Context(), "a"); err != nil || len(l.Waiters) != 2 || l.Waiters[0].OwnerID != "drain" || len(told.of(backend.Reprioritized)) != 2 {
			t.Errorf("%+v, %v", l, err)
		}
		cancel()
		ended.Wait()
	})
}
