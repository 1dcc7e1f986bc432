package deadlock

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
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// sidecar is what a Detector needs of one.
type sidecar struct {
	stores  []*backend.Store
	d       *Detector
	looks   atomic.Int64
	mu      sync.Mutex
	fresh   []Deadlock
	refused []Deadlock
}

// told are the deadlocks that it was the first to show, and those that it broke.
func (s *sidecar) told() (fresh, refused []Deadlock) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return slices.Clone(s.fresh), slices.Clone(s.refused)
}

// fleet are sidecars over the same stores.
func fleet(t *testing.T, sidecars, stores int, resolve bool) (all []*sidecar) {
	t.Helper()
	var memories []*embedded.Memory
	for range stores {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		memories = append(memories, m)
	}
	ctx, cancel := context.WithCancel(t.Context())
	var running sync.WaitGroup
	for range sidecars {
		s := &sidecar{}
		for i, m := range memories {
			s.stores = append(s.stores, backend.New(m.Open(), backend.Options{Name: fmt.Sprint("store", i), Clock: driver.ProcessClock}))
		}
		s.d = New(Options{
			Stores: func() (locals []Local) {
				for _, one := range s.stores {
					locals = append(locals, one)
				}
				return locals
			},
			Policy: func() (bool, bool) { return true, resolve },
			Looked: func(_ *Finding, fresh []Deadlock) {
				s.looks.Add(1)
				s.mu.Lock()
				defer s.mu.Unlock()
				s.fresh = append(s.fresh, fresh...)
			},
			Refused: func(d *Deadlock) {
				s.mu.Lock()
				defer s.mu.Unlock()
				s.refused = append(s.refused, *d)
			},
		})
		running.Go(func() { _ = s.d.Run(ctx) })
		all = append(all, s)
	}
	t.Cleanup(func() {
		cancel()
		running.Wait()
		for _, s := range all {
			for _, one := range s.stores {
				_ = one.Close()
			}
		}
	})
	return all
}

// hold takes a lock that nobody has, until the test ends.
func hold(t *testing.T, s *backend.Store, lock, owner string) *backend.Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: lock, OwnerID: owner, TTL: time.Minute})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// Rings of owners, each at a sidecar of its own, over two stores: found within two
// seconds, one waiter is refused with the whole cycle, and once its owner gives up
// what it holds, everybody else gets through.
func TestRingsAreBroken(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		synctest.Test(t, func(t *testing.T) {
			f := fleet(t, n, 2, true)
			leases := make([]*backend.Lease, n)
			for i, s := range f {
				leases[i] = hold(t, s.stores[i%2], fmt.Sprint("lock", i), fmt.Sprint("owner", i))
				time.Sleep(time.Millisecond) // of the bubble: the tokens are different
			}
			start := time.Now()
			var refused atomic.Int64
			var waiting sync.WaitGroup
			for i, s := range f {
				waiting.Go(func() {
					next := (i + 1) % n
					give := func(at int, l *backend.Lease) {
						if _, err := f[at].stores[l.LockID[4]%2].Release(t.Context(), &backend.ReleaseRequest{LeaseRef: l.Ref(false)}); err != nil {
							t.Error(err)
						}
					}
					l, err := s.stores[next%2].Acquire(t.Context(), &backend.AcquireRequest{
						LockID: fmt.Sprint("lock", next), OwnerID: fmt.Sprint("owner", i), TTL: time.Minute, Wait: backend.Forever,
					})
					var deadlock *backend.DeadlockError
					switch {
					case err == nil:
						give(i, l)
					case errors.As(err, &deadlock) && errors.Is(err, driver.ErrDeadlock):
						if took := time.Since(start); took > 2*time.Second {
							t.Errorf("%d: found after %v", n, took)
						}
						if len(deadlock.Cycle) != n || i != n-1 {
							t.Errorf("%d: owner %d is refused with %+v, want the one with the youngest lease", n, i, deadlock.Cycle)
						}
						refused.Add(1)
					default:
						t.Errorf("owner %d: %v", i, err)
					}
					give(i, leases[i])
				})
			}
			waiting.Wait()
			if refused.Load() != 1 {
				t.Errorf("%d: %d were refused, want one", n, refused.Load())
			}
			told := map[string]bool{}
			for _, s := range f {
				fresh, _ := s.told()
				for _, d := range fresh {
					told[d.ID] = true
				}
			}
			if len(told) != 1 {
				t.Errorf("%d: told as %v, want one id", n, told)
			}
		})
	}
}

// Without the policy the deadlock stands and is shown, by whoever has a waiter in
// it and to whoever asks; when it has ended nothing is shown.
func TestDeadlockIsShownUntilItEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		f := fleet(t, 3, 2, false)
		one, two, third := f[0], f[1], f[2]
		hold(t, one.stores[0], "x", "a")
		hold(t, two.stores[1], "y", "b")
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		wait := func(ctx context.Context, s *backend.Store, lock, owner string) {
			waiting.Go(func() {
				_, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: lock, OwnerID: owner, Wait: backend.Forever})
				if !errors.Is(err, context.Canceled) && !errors.Is(err, driver.ErrClosed) {
					t.Errorf("%s got %v", owner, err)
				}
			})
		}
		wait(ctx, one.stores[1], "y", "a")
		wait(t.Context(), two.stores[0], "x", "b")
		time.Sleep(5 * time.Second)
		for _, s := range []*sidecar{one, two} {
			if got, _ := s.d.Latest(); len(got.Deadlocks) != 1 || len(got.Deadlocks[0].Waits) != 2 {
				t.Errorf("shown: %+v", got)
			}
			if fresh, refused := s.told(); len(fresh) != 1 || len(refused) != 0 {
				t.Errorf("told %d times, refused %d", len(fresh), len(refused))
			}
		}
		if third.looks.Load() != 0 {
			t.Errorf("a sidecar without waiters looked %d times", third.looks.Load())
		}
		// Where nobody waits what was found is forgotten, but who asked is told.
		third.d.o.Looked = func(*Finding, []Deadlock) { time.Sleep(2 * tick) }
		status := &lockpb.Status{}
		found, at := third.d.Look(t.Context())
		if third.d.Describe(status, found, at); len(status.GetDeadlocks()) != 1 {
			t.Errorf("a sidecar that is asked finds %+v", status)
		}
		if got, _ := third.d.Latest(); len(got.Deadlocks) != 0 {
			t.Errorf("it is not forgotten: %+v", got)
		}
		cancel()
		time.Sleep(5 * time.Second)
		if got, _ := one.d.Latest(); len(got.Deadlocks) != 0 {
			t.Errorf("it has ended, shown: %+v", got)
		}
		for _, s := range two.stores {
			_ = s.Close() // ends the other wait
		}
		waiting.Wait()
	})
}

// cut is a store that cannot be read while it is down.
type cut struct {
	Local
	down atomic.Bool
}

func (c *cut) List(ctx context.Context, r *driver.ListRequest) (*driver.ListPage, error) {
	if c.down.Load() {
		return nil, driver.ErrUnavailable
	}
	return c.Local.List(ctx, r)
}

// A deadlock that a look could not see, because a store failed, is not told again.
func TestDeadlockThatWasOutOfSightIsToldOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		s := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
		at := &cut{Local: s}
		var told []Deadlock
		d := New(Options{
			Stores: func() []Local { return []Local{at} }, Policy: func() (bool, bool) { return true, false },
			Looked: func(_ *Finding, fresh []Deadlock) { told = append(told, fresh...) },
		})
		hold(t, s, "x", "a")
		hold(t, s, "y", "b")
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		for lock, owner := range map[string]string{"y": "a", "x": "b"} {
			waiting.Go(func() {
				_, _ = s.Acquire(ctx, &backend.AcquireRequest{LockID: lock, OwnerID: owner, Wait: backend.Forever})
			})
		}
		synctest.Wait()
		for _, down := range []bool{false, true, true, false, false} {
			at.down.Store(down)
			if f, _ := d.Look(ctx); len(f.Deadlocks) == 0 != down {
				t.Errorf("down %t: found %+v", down, f)
			}
		}
		if len(told) != 1 {
			t.Errorf("told %d times", len(told))
		}
		cancel()
		waiting.Wait()
		_ = s.Close()
	})
}

// Who asks again and again where nobody looks by itself is shown the same deadlock,
// which is told once.
func TestDeadlockThatIsAskedForIsToldOnce(t *testing.T) {
	for _, detect := range []bool{false, true} { // with it, nobody waits at this sidecar
		synctest.Test(t, func(t *testing.T) {
			m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
			if err != nil {
				t.Fatal(err)
			}
			here := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
			there := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
			s := here
			if detect {
				s = there
			}
			var told, forgotten atomic.Int64
			d := New(Options{
				Stores: func() []Local { return []Local{here} }, Policy: func() (bool, bool) { return detect, false },
				Looked: func(f *Finding, fresh []Deadlock) {
					told.Add(int64(len(fresh)))
					if len(f.Deadlocks) == 0 {
						forgotten.Add(1)
					}
				},
			})
			hold(t, s, "x", "a")
			hold(t, s, "y", "b")
			ctx, cancel := context.WithCancel(t.Context())
			var running sync.WaitGroup
			for lock, owner := range map[string]string{"y": "a", "x": "b"} {
				running.Go(func() {
					_, _ = s.Acquire(ctx, &backend.AcquireRequest{LockID: lock, OwnerID: owner, Wait: backend.Forever})
				})
			}
			running.Go(func() { _ = d.Run(ctx) })
			synctest.Wait()
			for range 3 {
				if f, _ := d.Look(ctx); len(f.Deadlocks) != 1 {
					t.Errorf("detect %t: found %+v", detect, f)
				}
				time.Sleep(2 * tick)
			}
			if told.Load() != 1 || forgotten.Load() != 3 {
				t.Errorf("detect %t: told %d times, forgotten %d times, want once and after each look", detect, told.Load(), forgotten.Load())
			}
			cancel()
			running.Wait()
			_, _ = here.Close(), there.Close()
		})
	}
}

// What was told is remembered within a bound, and of that which is still seen nothing
// is told again.
func TestToldDeadlocksAreBounded(t *testing.T) {
	var known told
	for i := range 10 * remembered {
		found := []Deadlock{{ID: "stands"}, {ID: fmt.Sprint("of a moment ", i)}}
		if fresh := known.fresh(found); (i == 0) != (len(fresh) == 2) || fresh[len(fresh)-1].ID != found[1].ID {
			t.Fatalf("look %d: told %+v", i, fresh)
		}
		if len(known) > remembered {
			t.Fatalf("%d are remembered", len(known))
		}
	}
}

// After a change of a backend's options its store is there twice, and those who
// waited before wait at the older one.
func TestDeadlockAtAReplacedBackendIsBroken(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		open := func() *backend.Store { return backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock}) }
		fresh, older := open(), open()
		d := New(Options{
			Stores: func() []Local { return []Local{fresh, older} }, Policy: func() (bool, bool) { return true, true },
			Looked: func(*Finding, []Deadlock) {}, Refused: func(*Deadlock) {},
		})
		hold(t, older, "x", "a")
		time.Sleep(time.Millisecond)
		hold(t, older, "y", "b")
		ctx, cancel := context.WithCancel(t.Context())
		var waiting sync.WaitGroup
		waiting.Go(func() {
			_, _ = older.Acquire(ctx, &backend.AcquireRequest{LockID: "y", OwnerID: "a", Wait: backend.Forever})
		})
		refused := make(chan error, 1)
		waiting.Go(func() {
			_, err := older.Acquire(ctx, &backend.AcquireRequest{LockID: "x", OwnerID: "b", Wait: backend.Forever})
			refused <- err
		})
		synctest.Wait()
		d.Look(ctx)
		synctest.Wait()
		select {
		case err := <-refused:
			if !errors.Is(err, driver.ErrDeadlock) {
				t.Errorf("refused with %v", err)
			}
		default:
			t.Error("nobody was refused")
		}
		cancel()
		waiting.Wait()
		_, _ = older.Close(), fresh.Close()
	})
}

// A fleet of a hundred sidecars that stand by for one lock looks about as often as
// one sidecar would; those which did not name an owner never do.
func TestFleetSharesTheLooks(t *testing.T) {
	for _, named := range []bool{true, false} {
		synctest.Test(t, func(t *testing.T) {
			f := fleet(t, 100, 1, true)
			hold(t, f[0].stores[0], "leader", "first")
			ctx, cancel := context.WithCancel(t.Context())
			var waiting sync.WaitGroup
			for i, s := range f {
				req := &backend.AcquireRequest{LockID: "leader", Wait: backend.Forever}
				if named {
					req.OwnerID = fmt.Sprint("standby", i)
				}
				waiting.Go(func() { _, _ = s.stores[0].Acquire(ctx, req) })
			}
			time.Sleep(40 * time.Second)
			looks := int64(0)
			for _, s := range f {
				looks += s.looks.Load()
			}
			// Each looks every 30 s or somewhat more often: 133 to some 300 in 40 s, and at
			// first anywhere within it.
			if named && (looks < 100 || looks > 400) || !named && looks != 0 {
				t.Errorf("named %t: %d looks in 40 s", named, looks)
			}
			cancel()
			waiting.Wait()
		})
	}
}
