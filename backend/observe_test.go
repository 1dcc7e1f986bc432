package backend_test

import (
	"context"
	"errors"
	"path/filepath"
	"slices"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/breaker"
)

// diary is an observer that remembers.
type diary struct {
	mu     sync.Mutex
	events []backend.Event
}

func (d *diary) Acquired(backend.AcquireObservation) {}
func (d *diary) Waiting(int)                         {}
func (d *diary) Happened(e backend.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	d.events = append(d.events, e)
}

// of returns the events of a kind.
func (d *diary) of(kind backend.Kind) (found []backend.Event) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, e := range d.events {
		if e.Kind == kind {
			found = append(found, e)
		}
	}
	return found
}

// recorded returns a store on d, with its diary, inside a synctest bubble.
func recorded(t *testing.T, d driver.Driver) (*backend.Store, *diary) {
	t.Helper()
	log := &diary{}
	s := backend.New(d, backend.Options{Clock: driver.ProcessClock, Observer: log})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, log
}

func TestObserverHearsEachChange(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		s, log := recorded(t, m.Open())
		l := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", OwnerID: "one", RequestID: "r1", TTL: 20 * time.Second})
		_, err = s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "try", RequestID: "try"})
		if !errors.Is(err, driver.ErrHeld) {
			t.Fatal(err)
		}
		_, _ = s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", OwnerID: "bounded", RequestID: "r2", Wait: 3 * time.Second})
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		go func() {
			defer close(left)
			_, _ = s.Acquire(ctx, &backend.AcquireRequest{LockID: "a", OwnerID: "leaver", RequestID: "r3", Wait: backend.Forever, Shared: true})
		}()
		time.Sleep(3 * time.Second) // longer than a poll: queued is told once
		cancel()
		<-left
		if _, err := s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: l.Ref(false), RequestID: l.RequestID}); err != nil {
			t.Fatal(err)
		}
		if err := s.Leave(t.Context(), "a", "r4"); err != nil {
			t.Fatal(err)
		}
		for _, immediate := range []bool{false, true} {
			f := mustAcquire(t, s, &backend.AcquireRequest{LockID: "f", OwnerID: "hung"})
			if _, err := s.ForceRelease(t.Context(), &backend.ForceReleaseRequest{LockID: "f", Token: f.Token, Immediate: immediate, Reason: "why"}); err != nil {
				t.Fatal(err)
			}
			if !immediate {
				_, _ = s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: f.Ref(false)})
			}
		}
		if got := log.of(backend.Acquired); len(got) != 3 || got[0].RequestID != "r1" || got[0].Token != l.Token || got[0].OwnerID != "one" || got[0].HoldCount != 1 {
			t.Errorf("acquired %+v", got)
		}
		if got := log.of(backend.Queued); len(got) != 2 || got[0].RequestID != "r2" || got[0].Position != 1 || !got[1].Shared || got[1].OwnerID != "leaver" {
			t.Errorf("queued %+v", got)
		}
		reasons := map[string]string{}
		for _, e := range log.of(backend.Abandoned) {
			reasons[e.RequestID] += e.Reason
		}
		if len(reasons) != 3 || reasons["r2"] != backend.ReasonTimeout || reasons["r3"] != backend.ReasonLeft || reasons["r4"] != backend.ReasonUndone {
			t.Errorf("abandoned %v", reasons)
		}
		if got := log.of(backend.Released); len(got) != 2 || got[0].OwnerID != "one" || got[0].Token != l.Token || got[0].HoldCount != 0 {
			t.Errorf("released %+v", got)
		}
		if got := log.of(backend.Revoked); len(got) != 1 || got[0].OwnerID != "hung" || got[0].Reason != "why" {
			t.Errorf("revoked %+v", got)
		}
		if got := log.of(backend.Ended); len(got) != 1 || got[0].Cause != driver.CauseForced || got[0].Reason != "why" {
			t.Errorf("ended %+v", got)
		}
	})
}

// A holder dies and nobody waits: one of three stores hears of it, behind its
// breaker, within two seconds.
func TestOneStoreHearsOfAnExpiryThatNobodyWaitsFor(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		var stores []*backend.Store
		var logs []*diary
		for range 3 {
			s, log := recorded(t, breaker.New(m.Open(), breaker.Options{}))
			stores, logs = append(stores, s), append(logs, log)
		}
		want := map[string]int64{}
		for i := range 9 {
			l := mustAcquire(t, stores[i%3], &backend.AcquireRequest{LockID: "dead/" + string(rune('a'+i)), OwnerID: "dead", TTL: 5 * time.Second})
			want[l.LockID] = l.Token
		}
		time.Sleep(7 * time.Second)
		got := slices.Concat(logs[0].of(backend.Ended), logs[1].of(backend.Ended), logs[2].of(backend.Ended))
		if len(got) != 9 {
			t.Errorf("%d expiries were told, want 9", len(got))
		}
		for _, e := range got {
			if want[e.LockID] != e.Token || e.Cause != driver.CauseExpired || e.OwnerID != "dead" {
				t.Errorf("told %+v", e)
			}
			delete(want, e.LockID)
		}
	})
}

// keeper is a driver whose acknowledgements can be made to fail.
type keeper struct {
	driver.Driver
	mu    sync.Mutex
	fail  error
	found []driver.Ended
	told  []driver.Ended
}

func (k *keeper) Sweep(context.Context) ([]driver.Ended, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	found := k.found
	k.found = nil
	return found, nil
}

func (k *keeper) Told(_ context.Context, ends []driver.Ended) error {
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.fail == nil {
		k.told = append(k.told, ends...)
	}
	return k.fail
}

// What the observer knows is acknowledged until the store has heard it, at the
// latest when the store closes.
func TestEndsAreAcknowledgedUntilTheStoreHears(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d, err := embedded.New(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		first := driver.Ended{LockID: "a", Token: 1, Cause: driver.CauseExpired}
		last := driver.Ended{LockID: "b", Token: 2, Cause: driver.CauseExpired}
		k := &keeper{Driver: d, fail: driver.ErrUnavailable, found: []driver.Ended{first}}
		log := &diary{}
		s := backend.New(k, backend.Options{Clock: driver.ProcessClock, Observer: log})
		time.Sleep(2 * time.Second)
		k.mu.Lock()
		k.fail = nil
		k.mu.Unlock()
		time.Sleep(time.Second)
		k.mu.Lock()
		if !slices.Equal(k.told, []driver.Ended{first}) {
			t.Errorf("acknowledged %+v", k.told)
		}
		k.fail, k.found = driver.ErrUnavailable, []driver.Ended{last}
		k.mu.Unlock()
		time.Sleep(time.Second)
		k.mu.Lock()
		k.fail = nil
		k.mu.Unlock()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if !slices.Equal(k.told, []driver.Ended{first, last}) || len(log.of(backend.Ended)) != 2 {
			t.Errorf("acknowledged %+v of %+v", k.told, log.of(backend.Ended))
		}
	})
}

// A store without an observer, as a command of an operator has it, leaves to a
// sidecar what has ended: what nobody asked for, what its own acquire stepped over,
// and what it ended by force.
func TestWithoutAnObserverEndsAreLeftToTheNext(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks.db")
	open := func(o backend.Observer) *backend.Store {
		d, err := embedded.New(embedded.Options{Path: path})
		if err != nil {
			t.Fatal(err)
		}
		return backend.New(d, backend.Options{Observer: o, MinTTL: time.Millisecond})
	}
	s := open(nil)
	want := map[int64]driver.Cause{}
	var dead []*backend.Lease
	for _, id := range []string{"unasked", "stepped-over"} {
		dead = append(dead, mustAcquire(t, s, &backend.AcquireRequest{LockID: id, OwnerID: "dead", TTL: time.Millisecond}))
		want[dead[len(dead)-1].Token] = driver.CauseExpired
	}
	next := mustAcquire(t, s, &backend.AcquireRequest{LockID: "stepped-over", OwnerID: "next", Wait: backend.Forever})
	forced := mustAcquire(t, s, &backend.AcquireRequest{LockID: "forced", OwnerID: "hung"})
	if _, err := s.ForceRelease(t.Context(), &backend.ForceReleaseRequest{LockID: "forced", Token: forced.Token, Immediate: true, Reason: "why"}); err != nil {
		t.Fatal(err)
	}
	want[forced.Token] = driver.CauseForced
	if next.Token <= dead[1].Token {
		t.Errorf("the token %d follows %d", next.Token, dead[1].Token)
	}
	time.Sleep(600 * time.Millisecond) // two sweeps, which would have taken them
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	log := &diary{}
	s = open(log)
	for end := time.Now().Add(time.Minute); len(log.of(backend.Ended)) < len(want) && time.Now().Before(end); time.Sleep(10 * time.Millisecond) {
	}
	for _, e := range log.of(backend.Ended) {
		if want[e.Token] != e.Cause {
			t.Errorf("told %+v", e)
		}
		delete(want, e.Token)
	}
	if err := s.Close(); err != nil || len(want) > 0 {
		t.Errorf("not told: %v; %v", want, err)
	}
}

// gone is a driver whose grant meets a caller that has left.
type gone struct {
	driver.Driver
	leave context.CancelFunc
}

func (g *gone) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := g.Driver.Acquire(ctx, r)
	g.leave()
	return res, err
}

func (g *gone) Unwrap() driver.Driver { return nil } // hides the abilities

// An expiry that came with a grant which nobody received is told.
func TestExpiryThatCameWithAnUndeliveredGrantIsTold(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		before, _ := recorded(t, &gone{m.Open(), func() {}})
		dead := mustAcquire(t, before, &backend.AcquireRequest{LockID: "a", TTL: time.Second})
		time.Sleep(2 * time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		s, log := recorded(t, &gone{m.Open(), cancel})
		if _, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, context.Canceled) {
			t.Fatal(err)
		}
		if got := log.of(backend.Ended); len(got) != 1 || got[0].Token != dead.Token {
			t.Errorf("ended %+v", got)
		}
		if got := log.of(backend.Abandoned); len(got) != 1 || got[0].Reason != backend.ReasonLeft {
			t.Errorf("abandoned %+v", got)
		}
	})
}
