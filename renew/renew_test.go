package renew_test

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/renew"
)

// frozen is a store whose renewals can be made to hang or to be lost.
type frozen struct {
	driver.Driver
	mode     atomic.Int32 // one of the modes
	renewals atomic.Int64
	gate     chan struct{}
}

const (
	fine int32 = iota
	// hang: a renewal does not come back before its deadline.
	hang
	// late: a renewal takes effect and its answer comes when the gate opens.
	late
	down
)

func (f *frozen) Unwrap() driver.Driver { return nil }

func (f *frozen) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	f.renewals.Add(1)
	switch f.mode.Load() {
	case hang:
		<-ctx.Done()
		return nil, driver.ErrIndeterminate
	case late:
		<-f.gate
	case down:
		return nil, driver.ErrUnavailable
	}
	return f.Driver.Renew(context.WithoutCancel(ctx), r)
}

// world is a keeper on an embedded store, inside a synctest bubble.
type world struct {
	memory *embedded.Memory
	disk   *frozen
	store  *backend.Store
	keeper *renew.Keeper
}

func newWorld(t *testing.T) *world {
	t.Helper()
	m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	w := &world{memory: m}
	w.join(t)
	return w
}

// join starts a sidecar's worth of store and keeper on the memory.
func (w *world) join(t *testing.T) *world {
	t.Helper()
	w.disk = &frozen{Driver: w.memory.Open(), gate: make(chan struct{})}
	w.store = backend.New(w.disk, backend.Options{Clock: driver.ProcessClock})
	w.keeper = renew.New(w.store, renew.Options{Clock: driver.ProcessClock})
	w.closes(t, w.keeper, w.store)
	return w
}

// closes closes the two when the test ends.
func (w *world) closes(t *testing.T, keeper *renew.Keeper, store *backend.Store) {
	t.Helper()
	t.Cleanup(func() {
		if err := keeper.Close(context.Background()); err != nil {
			t.Error(err)
		}
		if err := store.Close(); err != nil {
			t.Error(err)
		}
	})
}

// log collects a session's events.
type log struct {
	t      *testing.T
	mu     sync.Mutex
	events []renew.Event
}

func (w *world) open(t *testing.T) (*renew.Session, *log) {
	l := &log{t: t}
	return w.keeper.Open(renew.SessionOptions{Notify: func(e renew.Event) {
		l.mu.Lock()
		defer l.mu.Unlock()
		l.events = append(l.events, e)
	}}), l
}

func (l *log) of(id string, kinds ...renew.Kind) (found []renew.Event) {
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, e := range l.events {
		if e.RequestID == id && (len(kinds) == 0 || slices.Contains(kinds, e.Kind)) {
			found = append(found, e)
		}
	}
	return found
}

// only returns the one event of the kinds.
func (l *log) only(id string, kind renew.Kind) renew.Event {
	l.t.Helper()
	found := l.of(id, kind)
	if len(found) != 1 {
		l.t.Fatalf("%d events of kind %d for %s, want one: %+v", len(found), kind, id, l.of(id))
	}
	return found[0]
}

func request(lock, id string) *renew.AcquireRequest {
	return &renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{
		LockID: lock, OwnerID: "owner of " + id, RequestID: id, TTL: 10 * time.Second, Wait: backend.Forever,
	}}
}

func (w *world) holders(t *testing.T, lock string) []driver.Holder {
	t.Helper()
	l, err := w.memory.Open().Inspect(t.Context(), lock)
	if err != nil {
		t.Fatal(err)
	}
	return l.Holders
}

func TestHeldLeaseIsRenewedForAsLongAsTheSessionIsOpen(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		s.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		granted := events.only("r", renew.Granted)
		time.Sleep(5 * 10 * time.Second)
		if h := w.holders(t, "a"); len(h) != 1 || h[0].Token != granted.Lease.Token {
			t.Fatalf("after five TTLs the lock has %v", h)
		}
		if n := w.disk.renewals.Load(); n < 12 || n > 18 {
			t.Errorf("%d renewals in five TTLs, want about three a TTL", n)
		}
		if lost := events.of("r", renew.Lost, renew.AtRisk); lost != nil {
			t.Errorf("events %+v of a lease that was renewed", lost)
		}
		s.Release(&backend.ReleaseRequest{LeaseRef: backend.LeaseRef{LockID: "a"}, RequestID: "r"})
		synctest.Wait()
		events.only("r", renew.Released)
		renewals := w.disk.renewals.Load()
		time.Sleep(time.Minute)
		if h := w.holders(t, "a"); len(h) != 0 || w.keeper.Held() != 0 || w.disk.renewals.Load() != renewals {
			t.Errorf("after the release: holders %v, %d held, %d more renewals", h, w.keeper.Held(), w.disk.renewals.Load()-renewals)
		}
	})
}

// The session hears AT_RISK, then LOST no later than valid-until, whether the
// store hangs or refuses; and a renewal that succeeds afterwards revives
// nothing.
func TestLostComesByValidUntilAndIsFinal(t *testing.T) {
	for name, mode := range map[string]int32{"hang": hang, "down": down, "late": late} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s, events := w.open(t)
				s.Acquire(t.Context(), request("a", "r"))
				synctest.Wait()
				lease := events.only("r", renew.Granted).Lease
				w.disk.mode.Store(mode)
				time.Sleep(lease.ValidUntil.Sub(driver.ProcessClock.Now()))
				synctest.Wait()
				if got := events.only("r", renew.Lost); got.Reason != renew.ReasonUnreachable || got.Token != lease.Token {
					t.Errorf("lost %+v", got)
				}
				if mode != late && len(events.of("r", renew.AtRisk)) != 1 {
					t.Errorf("at risk %d times, want once", len(events.of("r", renew.AtRisk)))
				}
				w.disk.mode.Store(fine)
				close(w.disk.gate)
				time.Sleep(time.Minute)
				last := events.of("r")
				if last[len(last)-1].Kind != renew.Lost {
					t.Errorf("event %+v after LOST", last[len(last)-1])
				}
				if h := w.holders(t, "a"); len(h) != 0 {
					t.Errorf("the store still has %v", h)
				}
			})
		})
	}
}

func TestRecoversFromFailuresBeforeValidUntil(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		s.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		for range 3 {
			// An outage that begins with a renewal ends before valid-until;
			// one that begins long after a renewal need not.
			for n := w.disk.renewals.Load(); w.disk.renewals.Load() == n; {
				time.Sleep(10 * time.Millisecond)
			}
			w.disk.mode.Store(down)
			time.Sleep(8 * time.Second)
			w.disk.mode.Store(fine)
			time.Sleep(8 * time.Second)
		}
		if lost := events.of("r", renew.Lost); lost != nil {
			t.Errorf("lost %+v although the store came back in time", lost)
		}
		if n := len(events.of("r", renew.AtRisk)); n != 3 {
			t.Errorf("at risk %d times, want once for each outage", n)
		}
	})
}

func TestRevocationIsToldAtOnceAndAcknowledgedByTheRelease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		s.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		lease := events.only("r", renew.Granted).Lease
		s2, next := w.open(t)
		s2.Acquire(t.Context(), request("a", "next"))
		synctest.Wait()
		if _, err := w.store.ForceRelease(t.Context(), &backend.ForceReleaseRequest{LockID: "a", Token: lease.Token}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(50 * time.Millisecond)
		if got := events.only("r", renew.Lost); got.Reason != renew.ReasonForced {
			t.Errorf("lost %+v, want forced", got)
		}
		if next.of("next", renew.Granted) != nil {
			t.Error("the next holder was granted before the acknowledgement")
		}
		s.Release(&backend.ReleaseRequest{RequestID: "r"})
		synctest.Wait()
		if got := next.only("next", renew.Granted); got.Lease.Token <= lease.Token {
			t.Errorf("token %d after %d", got.Lease.Token, lease.Token)
		}
	})
}

func TestEnds(t *testing.T) {
	for _, c := range []struct {
		name   string
		ends   []renew.End
		linger bool
		held   bool // right after the end
	}{
		{"requested", []renew.End{renew.EndRequested}, true, false},
		{"dead", []renew.End{renew.EndDead}, false, false},
		{"dead, lingering", []renew.End{renew.EndDead}, true, true},
		{"drained", []renew.End{renew.EndDrained}, false, false},
		{"drained, lingering", []renew.End{renew.EndDrained}, true, true},
		{"broken", []renew.End{renew.EndBroken}, false, true},
		{"broken, then dead", []renew.End{renew.EndBroken, renew.EndDead}, false, false},
		{"broken, then dead, lingering", []renew.End{renew.EndBroken, renew.EndDead}, true, true},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s, events := w.open(t)
				r := request("a", "r")
				r.Linger = c.linger
				s.Acquire(t.Context(), r)
				other, _ := w.open(t)
				other.Acquire(t.Context(), request("b", "other"))
				synctest.Wait()
				s.Acquire(t.Context(), request("b", "waiting"))
				synctest.Wait()
				for _, how := range c.ends {
					s.End(how)
				}
				synctest.Wait()
				if h := w.holders(t, "a"); (len(h) == 1) != c.held {
					t.Errorf("right after the end the lock has %v", h)
				}
				if l, _ := w.store.Get(t.Context(), "b"); len(l.Waiters) != 0 {
					t.Errorf("the pending acquire still waits: %v", l.Waiters)
				}
				time.Sleep(11 * time.Second)
				if h := w.holders(t, "a"); len(h) != 0 {
					t.Errorf("one TTL later the lock has %v: it was renewed", h)
				}
				if got := events.of("r", renew.Lost, renew.Released); got != nil {
					t.Errorf("events %+v after the end", got)
				}
				if w.keeper.Held() != 1 {
					t.Errorf("%d leases held, want the other session's", w.keeper.Held())
				}
			})
		})
	}
}

func TestReentrantHoldsShareOneLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		first := request("a", "r1")
		again := request("a", "r2")
		again.OwnerID, again.Reentrant, again.TTL = first.OwnerID, true, 20*time.Second
		refused := request("a", "r3")
		refused.OwnerID = first.OwnerID
		s.Acquire(t.Context(), first)
		synctest.Wait()
		s.Acquire(t.Context(), again)
		s.Acquire(t.Context(), refused)
		synctest.Wait()
		one, two := events.only("r1", renew.Granted).Lease, events.only("r2", renew.Granted).Lease
		if one.Token != two.Token || one.LeaseID != two.LeaseID || len(two.Holds) != 2 || two.TTL != 20*time.Second {
			t.Errorf("re-entered %+v, want a second hold of %+v", two, one)
		}
		var held *driver.HeldError
		if err := events.only("r3", renew.Failed).Err; !errors.As(err, &held) || !held.BySelf {
			t.Errorf("error %v, want held by self", err)
		}
		s.Release(&backend.ReleaseRequest{RequestID: "r1"})
		synctest.Wait()
		if got := events.only("r1", renew.Released); got.HoldCount != 1 || len(w.holders(t, "a")) != 1 {
			t.Errorf("after the first release %+v, %v", got, w.holders(t, "a"))
		}
		time.Sleep(time.Minute)
		if len(w.holders(t, "a")) != 1 {
			t.Error("the lease was not renewed for its second hold")
		}
		s.Release(&backend.ReleaseRequest{RequestID: "r2"})
		synctest.Wait()
		if got := events.only("r2", renew.Released); got.HoldCount != 0 || len(w.holders(t, "a")) != 0 {
			t.Errorf("after the second release %+v, %v", got, w.holders(t, "a"))
		}
	})
}

// A lease is adopted by another sidecar: the older attachment hears LOST and
// neither renews nor releases it any more.
func TestAdoptFencesTheOlderAttachment(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		s.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		lease := events.only("r", renew.Granted).Lease
		second := (&world{memory: w.memory}).join(t)
		s2, adopted := second.open(t)
		s2.Adopt(t.Context(), &renew.AdoptRequest{LeaseRef: lease.Ref(false), RequestID: "r", TTL: 10 * time.Second})
		time.Sleep(50 * time.Millisecond)
		if got := adopted.only("r", renew.Granted).Lease; got.Token != lease.Token || got.LeaseID != lease.LeaseID {
			t.Errorf("adopted %+v, want the same lease", got)
		}
		if got := events.only("r", renew.Lost); got.Reason != renew.ReasonReattached {
			t.Errorf("lost %+v, want reattached", got)
		}
		s.End(renew.EndRequested)
		time.Sleep(time.Minute)
		if len(w.holders(t, "a")) != 1 {
			t.Error("the older attachment released the lease under the newer one")
		}
		s2.Release(&backend.ReleaseRequest{RequestID: "r"})
		synctest.Wait()
		if len(w.holders(t, "a")) != 0 {
			t.Error("the adopter's release had no effect")
		}
	})
}

// The same request on a new session, while the old one still holds the lease:
// one attachment remains.
func TestRepeatOnANewSessionTakesOver(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		s.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		s2, repeated := w.open(t)
		s2.Acquire(t.Context(), request("a", "r"))
		synctest.Wait()
		one, two := events.only("r", renew.Granted).Lease, repeated.only("r", renew.Granted).Lease
		if one.Token != two.Token || len(two.Holds) != 1 {
			t.Errorf("repeated %+v, want the lease of %+v with one hold", two, one)
		}
		if got := events.only("r", renew.Lost); got.Reason != renew.ReasonReattached {
			t.Errorf("lost %+v, want reattached", got)
		}
		s.End(renew.EndRequested)
		time.Sleep(time.Minute)
		if len(w.holders(t, "a")) != 1 || repeated.of("r", renew.Lost) != nil {
			t.Error("the old session took the lease from the new one")
		}
	})
}

func TestMaxHoldAndCancel(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		s, events := w.open(t)
		r := request("a", "r")
		r.MaxHold = 25 * time.Second
		s.Acquire(t.Context(), r)
		synctest.Wait()
		s.Acquire(t.Context(), request("a", "waiting"))
		synctest.Wait()
		s.Cancel("waiting")
		synctest.Wait()
		events.only("waiting", renew.Released)
		time.Sleep(26 * time.Second)
		if got := events.only("r", renew.Lost); got.Reason != renew.ReasonMaxHold || len(w.holders(t, "a")) != 0 {
			t.Errorf("after max_hold %+v, %v", got, w.holders(t, "a"))
		}
	})
}

func TestTenThousandLeasesAreRenewedAtTheirPace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		const n = 10_000
		w := newWorld(t)
		s, events := w.open(t)
		for i := range n {
			s.Acquire(t.Context(), request(fmt.Sprint("lock/", i), fmt.Sprint(i)))
		}
		synctest.Wait()
		if w.keeper.Held() != n {
			t.Fatalf("%d held", w.keeper.Held())
		}
		time.Sleep(100 * time.Second)
		if got := w.disk.renewals.Load(); got < 27*n || got > 34*n {
			t.Errorf("%d renewals of %d leases in ten TTLs, want about 30 each", got, n)
		}
		events.mu.Lock()
		defer events.mu.Unlock()
		for _, e := range events.events {
			if e.Kind == renew.Lost || e.Kind == renew.AtRisk {
				t.Fatalf("event %+v", e)
			}
		}
	})
}
