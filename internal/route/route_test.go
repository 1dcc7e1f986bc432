package route_test

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"go.uber.org/goleak"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/internal/pattern"
	"github.com/locksidecar/locksidecar/internal/route"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

func TestMain(m *testing.M) { goleak.VerifyTestMain(settled{m}) }

// settled are tests after which goroutines that end by themselves have ended,
// however busy the machine is: goleak alone waits half a second.
type settled struct{ *testing.M }

func (s settled) Run() int {
	code := s.M.Run()
	for end := time.Now().Add(patience); code == 0 && goleak.Find() != nil && time.Now().Before(end); {
	}
	return code
}

// patience bounds each wait for something that must come.
const patience = 50 * time.Second

// world is a router over two backends in memory, a and b.
type world struct {
	*route.Router
	stores map[string]*backend.Store
	of     map[string]*route.Branch
	lists  map[string]*unlisted
}

func newWorld(t *testing.T) *world {
	t.Helper()
	w := &world{Router: route.New(driver.ProcessClock), stores: map[string]*backend.Store{}, of: map[string]*route.Branch{}, lists: map[string]*unlisted{}}
	for _, name := range []string{"a", "b"} {
		d, err := embedded.New(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		w.lists[name] = &unlisted{Driver: d, as: driver.ErrUnavailable}
		s := backend.New(w.lists[name], backend.Options{Name: name, Clock: driver.ProcessClock})
		w.stores[name] = s
		w.of[name] = w.Branch(s, func(over renew.Store) *renew.Keeper {
			return renew.New(over, renew.Options{Clock: driver.ProcessClock})
		})
	}
	return w
}

// close ends everything; in a bubble it is called before the bubble ends.
func (w *world) close(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	w.Wait()
	for name, b := range w.of {
		if err := errors.Join(b.Keeper().Close(ctx), w.stores[name].Close()); err != nil {
			t.Error(err)
		}
	}
}

// lead leads the locks of patterns to backends: "x/**", "a".
func (w *world) lead(t *testing.T, pairs ...string) {
	t.Helper()
	var routes []route.Route
	for i := 0; i < len(pairs); i += 2 {
		p, err := pattern.Parse(pairs[i])
		if err != nil {
			t.Fatal(err)
		}
		routes = append(routes, route.Route{Match: []pattern.Pattern{p}, To: w.of[pairs[i+1]]})
	}
	w.Routes(routes)
}

func (w *world) acquire(t *testing.T, req backend.AcquireRequest) *backend.Lease {
	t.Helper()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if req.RequestID == "" {
		req.RequestID = backend.NewSecret()
	}
	l, err := w.Acquire(ctx, &req)
	if err != nil {
		t.Fatalf("acquire %q: %v", req.LockID, err)
	}
	return l
}

func (w *world) release(t *testing.T, l *backend.Lease) {
	t.Helper()
	if _, err := w.Release(context.Background(), &backend.ReleaseRequest{LeaseRef: l.Ref(false), RequestID: l.RequestID}); err != nil {
		t.Errorf("release %q: %v", l.LockID, err)
	}
}

// at is the backend on which a lock has holders.
func (w *world) at(t *testing.T, lockID string) (found string) {
	t.Helper()
	for _, name := range []string{"a", "b"} {
		l, err := w.stores[name].Get(context.Background(), lockID)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Holders) > 0 {
			found += name
		}
	}
	return found
}

func TestFirstRouteWins(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "x/*", "a", "x/**", "b")
	for lock, want := range map[string]string{"x/1": "a", "x/1/2": "b"} {
		w.acquire(t, backend.AcquireRequest{LockID: lock})
		if got := w.at(t, lock); got != want {
			t.Errorf("%s is on %q", lock, got)
		}
		if l, err := w.Get(t.Context(), lock); err != nil || l.Backend != want {
			t.Errorf("Get %s: %v, %v", lock, l, err)
		}
	}
	_, acquire := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: "y", RequestID: "r"})
	_, get := w.Get(t.Context(), "y")
	_, renewal := w.Renew(t.Context(), &backend.RenewRequest{LeaseRef: backend.LeaseRef{LockID: "y", LeaseID: "l", Token: 1}})
	for _, err := range []error{acquire, get, renewal, w.Leave(t.Context(), "y", "r")} {
		if !errors.Is(err, socket.ErrNoRoute) {
			t.Errorf("a lock without a route: %v", err)
		}
	}
}

// A newcomer is told that the lock is held, or waits until it is free where it
// was, and gets it where it is led now, with a higher token.
func TestNewcomerWaitsForTheOldBackend(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "**", "a")
	old := w.acquire(t, backend.AcquireRequest{LockID: "x", OwnerID: "o", RequestID: "first", TTL: time.Minute})
	w.lead(t, "**", "b")
	_, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: "x", RequestID: "try"})
	var held *driver.HeldError
	if !errors.As(err, &held) || held.Holder == nil || held.Holder.Token != old.Token || held.Holder.OwnerID != "o" {
		t.Errorf("a try: %v", err)
	}
	if _, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: "x", RequestID: "brief", Wait: time.Millisecond}); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("a bounded wait: %v", err)
	}
	ctx, cancel := context.WithCancel(t.Context())
	cancel()
	if _, err := w.Acquire(ctx, &backend.AcquireRequest{LockID: "x", RequestID: "gone", Wait: backend.Forever}); !errors.Is(err, context.Canceled) {
		t.Errorf("a caller that left: %v", err)
	}
	// The same request, and the same owner, are the old backend's.
	if again := w.acquire(t, backend.AcquireRequest{LockID: "x", OwnerID: "o", RequestID: "first", LeaseID: old.LeaseID}); again.Token != old.Token || len(again.Holds) != 1 {
		t.Errorf("repeated: %v", again)
	}
	if _, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: "x", OwnerID: "o", RequestID: "more", Wait: backend.Forever}); !errors.As(err, &held) || !held.BySelf {
		t.Errorf("its owner once more: %v", err)
	}
	if in := w.acquire(t, backend.AcquireRequest{LockID: "x", OwnerID: "o", RequestID: "in", LeaseID: old.LeaseID, Reentrant: true}); in.Token != old.Token {
		t.Errorf("re-entered: %v", in)
	} else {
		w.release(t, in)
	}
	granted := make(chan *backend.Lease)
	go func() {
		l, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: "x", RequestID: "next", Wait: backend.Forever})
		if err != nil {
			t.Errorf("the newcomer: %v", err)
		}
		granted <- l
	}()
	w.release(t, old)
	l := <-granted
	if got := w.at(t, "x"); got != "b" || l.Token <= old.Token {
		t.Errorf("token %d after %d, on %s", l.Token, old.Token, got)
	}
	w.release(t, l)
	if !w.Retire(w.of["a"]) || len(w.Branches()) != 1 {
		t.Error("the old backend is in use")
	}
}

// A lease that nobody gives back holds the lock on its backend until its TTL has
// passed, and not longer.
func TestTimeFreesTheOldBackend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		w := newWorld(t)
		defer w.close(t)
		w.lead(t, "**", "a")
		old := w.acquire(t, backend.AcquireRequest{LockID: "x", TTL: 20 * time.Second})
		w.lead(t, "**", "b")
		if w.Retire(w.of["a"]) {
			t.Error("a backend with a lease was retired")
		}
		time.Sleep(10 * time.Second)
		if _, err := w.Renew(t.Context(), &backend.RenewRequest{LeaseRef: old.Ref(false), TTL: 20 * time.Second}); err != nil {
			t.Fatal(err)
		}
		start := time.Now()
		l := w.acquire(t, backend.AcquireRequest{LockID: "x", Wait: backend.Forever})
		if took := time.Since(start); took < 20*time.Second || took > 21*time.Second {
			t.Errorf("granted %v after the renewal", took)
		}
		if l.Token <= old.Token {
			t.Errorf("token %d after %d", l.Token, old.Token)
		}
	})
}

// events are those of a session, in order.
type events struct{ c chan renew.Event }

func (w *world) open() (socket.Session, events) {
	e := events{make(chan renew.Event, 100)}
	return w.Open(renew.SessionOptions{Notify: func(x renew.Event) { e.c <- x }}), e
}

// next is the next event that is not about a place or a renewal.
func (e events) next(t *testing.T) renew.Event {
	t.Helper()
	for {
		select {
		case x := <-e.c:
			if x.Kind != renew.Queued && x.Kind != renew.Renewed {
				return x
			}
		case <-time.After(patience):
			t.Fatal("no event")
		}
	}
}

func request(lockID, id string) *renew.AcquireRequest {
	return &renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{LockID: lockID, RequestID: id, OwnerID: "owner of " + id, TTL: time.Minute, Wait: backend.Forever}}
}

// One stream holds locks of both backends; a change of routes moves none of
// them, and what waits for one can be given up.
func TestSessionOverBothBackends(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "a/**", "a", "**", "b")
	s, told := w.open()
	defer s.End(renew.EndRequested)
	for _, lock := range []string{"a/1", "b/1"} {
		s.Acquire(t.Context(), request(lock, lock))
		if e := told.next(t); e.Kind != renew.Granted || e.LockID != lock {
			t.Fatalf("%+v", e)
		}
	}
	if w.at(t, "a/1") != "a" || w.at(t, "b/1") != "b" {
		t.Error("not where they are led")
	}
	w.lead(t, "**", "b")
	other, heard := w.open()
	for _, id := range []string{"given up", "waits", "ends with its session"} {
		other.Acquire(t.Context(), request("a/1", id))
	}
	other.Acquire(t.Context(), request("a/1", "waits")) // a repeat is answered once
	other.Release(&backend.ReleaseRequest{RequestID: "given up"})
	if e := heard.next(t); e.Kind != renew.Released || e.RequestID != "given up" {
		t.Errorf("%+v", e)
	}
	// Its own hold, by the request alone.
	s.Release(&backend.ReleaseRequest{RequestID: "a/1"})
	if e := told.next(t); e.Kind != renew.Released {
		t.Errorf("%+v", e)
	}
	first := heard.next(t)
	if first.Kind != renew.Granted || w.at(t, "a/1") != "b" {
		t.Errorf("%+v", first)
	}
	other.End(renew.EndRequested)
	s.Release(&backend.ReleaseRequest{RequestID: "b/1"})
	if e := told.next(t); e.Kind != renew.Released {
		t.Errorf("%+v", e)
	}
	s.Release(&backend.ReleaseRequest{LeaseRef: backend.LeaseRef{LockID: "b/1", LeaseID: "unknown", Token: 5}, RequestID: "b/1"})
	if e := told.next(t); e.Kind != renew.Failed || !errors.Is(e.Err, driver.ErrLost) {
		t.Errorf("a release of what is gone: %+v", e)
	}
}

// A lease that another process was granted under older routes is found, by a
// session that adopts it and by a caller that renews or releases it.
func TestLeasesOfAnotherProcessAreFound(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "a/**", "a", "**", "b")
	for _, lock := range []string{"x", "y"} {
		l, err := w.stores["a"].Acquire(t.Context(), &backend.AcquireRequest{LockID: lock, RequestID: lock, TTL: time.Minute})
		if err != nil {
			t.Fatal(err)
		}
		if lock == "x" {
			if _, err := w.Renew(t.Context(), &backend.RenewRequest{LeaseRef: l.Ref(false)}); err != nil {
				t.Errorf("renew: %v", err)
			}
			w.release(t, l)
			continue
		}
		s, told := w.open()
		s.Adopt(t.Context(), &renew.AdoptRequest{LeaseRef: l.Ref(false), RequestID: "adopted", TTL: time.Minute})
		if e := told.next(t); e.Kind != renew.Granted || e.Lease.Token != l.Token {
			t.Errorf("adopt: %+v", e)
		}
		if _, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: lock, RequestID: "try"}); !errors.Is(err, driver.ErrHeld) {
			t.Errorf("a try while it is held elsewhere: %v", err)
		}
		s.End(renew.EndRequested)
	}
}

func TestRoutesDefaultsAndBounds(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.Routes([]route.Route{{Match: []pattern.Pattern{{"**"}}, To: w.of["a"], TTL: 7 * time.Second, MaxHold: time.Millisecond}})
	l := w.acquire(t, backend.AcquireRequest{LockID: "x"})
	if l.TTL != 7*time.Second {
		t.Errorf("ttl %v", l.TTL)
	}
	if l, err := w.Renew(t.Context(), &backend.RenewRequest{LeaseRef: l.Ref(false)}); err != nil || l.TTL != 7*time.Second {
		t.Errorf("renewed for %v, %v", l, err)
	}
	s, told := w.open()
	defer s.End(renew.EndRequested)
	s.Acquire(t.Context(), &renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{LockID: "y", RequestID: "y", TTL: time.Minute}, MaxHold: time.Hour})
	if e := told.next(t); e.Kind != renew.Granted || e.Lease.TTL != time.Minute {
		t.Errorf("%+v", e)
	}
	if e := told.next(t); e.Kind != renew.Lost || e.Reason != renew.ReasonMaxHold {
		t.Errorf("%+v", e)
	}
}

// A route's max_hold does not end a drain, which would let in whom it keeps out.
func TestRoutesBoundNoDrain(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.Routes([]route.Route{{Match: []pattern.Pattern{{"**"}}, To: w.of["a"], MaxHold: time.Millisecond}})
	s, told := w.open()
	drain := renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{LockID: "x", RequestID: "drain", Drain: &backend.Drain{Reason: "test"}}}
	s.Acquire(t.Context(), &drain)
	if e := told.next(t); e.Kind != renew.Granted {
		t.Fatalf("%+v", e)
	}
	other, bounded := w.open()
	defer other.End(renew.EndRequested)
	other.Acquire(t.Context(), &renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{LockID: "y", RequestID: "y"}})
	bounded.next(t) // granted
	if e := bounded.next(t); e.Reason != renew.ReasonMaxHold {
		t.Fatalf("%+v", e)
	}
	// The bound of what began later is over; its own, if it has one, is the operator's.
	if l, err := w.Get(t.Context(), "x"); err != nil || len(l.Holders) != 1 {
		t.Errorf("%+v, %v", l, err)
	}
	s.End(renew.EndRequested)
	drain.LockID, drain.RequestID, drain.MaxHold = "z", "short", time.Millisecond
	s, told = w.open()
	defer s.End(renew.EndRequested)
	s.Acquire(t.Context(), &drain)
	told.next(t) // granted
	if e := told.next(t); e.Reason != renew.ReasonMaxHold {
		t.Errorf("%+v", e)
	}
}

// Whatever the routes do, a lock is held by one at a time over all backends, and
// its tokens rise.
func TestChangingRoutesNeverGrantTwice(t *testing.T) {
	w := newWorld(t)
	defer w.close(t)
	w.lead(t, "**", "a")
	const locks, clients, rounds = 4, 16, 60
	var holders, tokens [locks]atomic.Int64
	enter := func(n int, token int64) {
		if holders[n].Add(1) != 1 {
			t.Errorf("lock %d is held twice", n)
		}
		if last := tokens[n].Swap(token); token <= last {
			t.Errorf("lock %d: token %d after %d", n, token, last)
		}
	}
	stop := make(chan struct{})
	var changing, working sync.WaitGroup
	changing.Go(func() {
		for i := 0; ; i++ {
			select {
			case <-stop:
				return
			case <-time.After(time.Millisecond):
				w.lead(t, "**", []string{"b", "a"}[i%2])
			}
		}
	})
	var on [2]atomic.Int64
	for c := range clients {
		working.Go(func() {
			if c%2 == 0 { // a caller that renews itself
				for i := range rounds {
					n := (c + i) % locks
					l, err := w.Acquire(t.Context(), &backend.AcquireRequest{LockID: fmt.Sprint(n), RequestID: backend.NewSecret(), Wait: backend.Forever})
					if err != nil {
						t.Error(err)
						return
					}
					enter(n, l.Token)
					if w.at(t, l.LockID) == "b" {
						on[1].Add(1)
					} else {
						on[0].Add(1)
					}
					holders[n].Add(-1)
					w.release(t, l)
				}
				return
			}
			s, told := w.open()
			defer s.End(renew.EndRequested)
			for i := range rounds {
				n := (c + i) % locks
				id := backend.NewSecret()
				s.Acquire(t.Context(), &renew.AcquireRequest{AcquireRequest: backend.AcquireRequest{LockID: fmt.Sprint(n), RequestID: id, Wait: backend.Forever}})
				e := told.next(t)
				if e.Kind != renew.Granted {
					t.Errorf("%+v", e)
					return
				}
				enter(n, e.Lease.Token)
				holders[n].Add(-1)
				s.Release(&backend.ReleaseRequest{RequestID: id})
				if e := told.next(t); e.Kind != renew.Released {
					t.Errorf("%+v", e)
					return
				}
			}
		})
	}
	working.Wait()
	close(stop)
	changing.Wait()
	if on[0].Load() == 0 || on[1].Load() == 0 {
		t.Errorf("the locks did not move: %d grants on a, %d on b", on[0].Load(), on[1].Load())
	}
}
