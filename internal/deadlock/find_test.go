package deadlock

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// look is one look at a world, one lock after the other, so that a seed decides
// everything.
func (w *world) look(t *testing.T) *Finding {
	t.Helper()
	f := find(t.Context(), w.asStores(), 0, 1)
	if f.Err != nil || len(f.Failed) > 0 {
		t.Fatalf("looking failed: %v", f.Err)
	}
	return f
}

// suspects says whether one reading alone shows a cycle.
func (w *world) suspects(t *testing.T) bool {
	t.Helper()
	f := &Finding{}
	return len(newGraph(f.list(t.Context(), w.asStores())).knots(all)) > 0
}

// Ten thousand schedules in which owners take locks in order, so that nobody ever
// is in a deadlock: no alarm, although a single reading of the moving stores shows
// a cycle time and again.
func TestNoAlarmWithoutACycle(t *testing.T) {
	suspected := 0
	for seed := range uint64(10_000) {
		w := newWorld(seed, true)
		w.run(20)
		for range 3 {
			if f := w.look(t); len(f.Deadlocks) > 0 {
				t.Fatalf("seed %d: a false alarm: %+v", seed, f.Deadlocks)
			}
			if w.suspects(t) {
				suspected++
			}
		}
		if w.deadlocked() {
			t.Fatalf("seed %d: the world is deadlocked: the test is wrong", seed)
		}
	}
	if suspected < 20 {
		t.Errorf("a single reading showed a cycle %d times only: the schedules prove nothing", suspected)
	}
	t.Logf("a single reading would have given %d false alarms", suspected)
}

// Schedules without any order: whatever is found stood as a whole at some moment
// of the look, and when the world stands still, what is found is what there is,
// and ending the victims' waits ends it.
func TestWhatIsFoundStoodAndWhatStandsIsFound(t *testing.T) {
	moving, standing, free, broken := 0, 0, 0, 0
	for seed := range uint64(1_500) {
		w := newWorld(seed, false)
		w.run(40)
		for range 3 {
			w.past, w.record = []map[string]bool{w.waits()}, true
			f := w.look(t)
			w.record = false
			for _, d := range f.Deadlocks {
				if !stood(w.past, d.Waits) {
					t.Fatalf("seed %d: %+v never stood as a whole", seed, d.Waits)
				}
				moving++
			}
		}
		w.still = true
		for rounds := 0; ; rounds++ {
			f := w.look(t)
			if found := len(f.Deadlocks) > 0; found != w.deadlocked() {
				t.Fatalf("seed %d: found %+v, deadlocked %t", seed, f.Deadlocks, w.deadlocked())
			}
			if len(f.Deadlocks) == 0 {
				if rounds == 0 {
					free++
				}
				break
			}
			if rounds == 0 {
				standing++
			}
			victims := map[place]bool{}
			for _, d := range f.Deadlocks {
				if len(d.Waits) < 2 || d.Waits[d.Victim].Ticket != d.victim.place.ticket {
					t.Fatalf("seed %d: %+v", seed, d)
				}
				for i, wait := range d.Waits {
					if wait.For != d.Waits[(i+1)%len(d.Waits)].OwnerID {
						t.Fatalf("seed %d: no cycle: %+v", seed, d.Waits)
					}
				}
				if victims[d.victim.place] {
					t.Fatalf("seed %d: one place is twice a victim: %+v", seed, f.Deadlocks)
				}
				victims[d.victim.place] = true
				broken++
			}
			if other := reversed(t, w); !cmp.Equal(ids(f), ids(other)) {
				t.Fatalf("seed %d: another sidecar finds %v, not %v", seed, ids(other), ids(f))
			}
			for _, d := range f.Deadlocks {
				w.drop(d.victim.at, d.victim.place.request)
			}
		}
	}
	if min(moving, standing, free) < 100 {
		t.Errorf("%d deadlocks while moving, %d worlds stuck, %d not: the schedules prove nothing", moving, standing, free)
	}
	t.Logf("%d deadlocks were found while the world moved; %d worlds were stuck, %d not; %d victims", moving, standing, free, broken)
}

// reversed is what a sidecar finds whose configuration has the stores in another
// order.
func reversed(t *testing.T, w *world) *Finding {
	t.Helper()
	stores := w.asStores()
	slices.Reverse(stores)
	return find(t.Context(), stores, 0, 1)
}

// ids are the deadlocks and their victims.
func ids(f *Finding) (all []string) {
	for _, d := range f.Deadlocks {
		all = append(all, fmt.Sprint(d.ID, " ", d.Victim, " ", d.victim.place))
	}
	return all
}

// stood says whether there was a moment at which all waits did.
func stood(past []map[string]bool, waits []backend.Wait) bool {
	return slices.ContainsFunc(past, func(at map[string]bool) bool {
		for _, w := range waits {
			if !at[name(w.Backend, w.LockID, w.OwnerID, w.Ticket, w.For, w.Token)] {
				return false
			}
		}
		return true
	})
}

// fixed is a store that does not change.
type fixed struct {
	name  string
	locks []driver.Lock
	// page is the largest page size that is taken; 0: any.
	page int
	err  error
	// vanish: what was listed is gone when it is read again.
	vanish bool
}

func (s *fixed) Name() string { return s.name }

func (s *fixed) List(_ context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	if s.page > 0 && req.PageSize > s.page {
		return nil, &backend.InvalidError{Field: "page_size"}
	}
	from := 0
	_, _ = fmt.Sscan(req.PageToken, &from)
	to := min(len(s.locks), from+req.PageSize)
	page := &driver.ListPage{Locks: slices.Clone(s.locks[from:to])}
	if to < len(s.locks) {
		page.NextPageToken = fmt.Sprint(to)
	}
	return page, s.err
}

func (s *fixed) Get(_ context.Context, id string) (*driver.Lock, error) {
	for i := range s.locks {
		if s.locks[i].LockID == id && !s.vanish {
			return &s.locks[i], s.err
		}
	}
	return &driver.Lock{LockID: id}, s.err
}

func held(id string, holders []driver.Holder, waiters ...driver.Waiter) driver.Lock {
	for i := range waiters {
		waiters[i].Ticket, waiters[i].RequestID, waiters[i].Position = int64(i+1), fmt.Sprint(id, "-", i), i+1
	}
	return driver.Lock{LockID: id, Holders: holders, Waiters: waiters}
}

func by(owner string, token int64) []driver.Holder {
	return []driver.Holder{{OwnerID: owner, Token: token}}
}

// ring is a cycle of n owners over two stores: each holds a lock of its own and
// waits for that of the next.
func ring(n int) []Store {
	a, b := &fixed{name: "a"}, &fixed{name: "b"}
	for i := range n {
		l := held(fmt.Sprint("lock", (i+1)%n), by(fmt.Sprint("owner", (i+1)%n), int64(100+(i+1)%n)), driver.Waiter{OwnerID: fmt.Sprint("owner", i)})
		if i%2 == 0 {
			a.locks = append(a.locks, l)
		} else {
			b.locks = append(b.locks, l)
		}
	}
	return []Store{a, b}
}

func TestRingsAreFoundOverStores(t *testing.T) {
	for _, n := range []int{2, 3, 5, 64, 5000} {
		f := Find(t.Context(), ring(n), 0)
		if len(f.Deadlocks) != 1 || len(f.Deadlocks[0].Waits) != n || f.Truncated || f.Locks != n || f.Waiters != n {
			t.Fatalf("%d: found %d deadlocks of %d locks and %d waiters", n, len(f.Deadlocks), f.Locks, f.Waiters)
		}
		d := f.Deadlocks[0]
		if d.Waits[0].OwnerID != "owner0" || d.Waits[0].For != "owner1" || d.Waits[0].LockID != "lock1" || d.Waits[0].Token != 101 || d.Waits[0].Backend != "a" {
			t.Errorf("%d: it begins with %+v", n, d.Waits[0])
		}
		// The youngest lease is that of the owner with the highest token.
		if v := d.Waits[d.Victim]; v.OwnerID != fmt.Sprint("owner", n-1) {
			t.Errorf("%d: the victim is %+v", n, v)
		}
	}
}

func TestGraphOfModesAndQueues(t *testing.T) {
	shared := func(owner string) driver.Waiter { return driver.Waiter{OwnerID: owner, Shared: true} }
	exclusive := func(owner string) driver.Waiter { return driver.Waiter{OwnerID: owner} }
	for _, c := range []struct {
		name  string
		locks []driver.Lock
		want  []string
	}{
		{"a shared waiter does not wait for shared holders", []driver.Lock{
			held("x", []driver.Holder{{OwnerID: "a", Token: 1, Shared: true}}, shared("b")), held("y", by("b", 2), exclusive("a")),
		}, nil},
		{"but for the exclusive one before it", []driver.Lock{
			held("x", []driver.Holder{{OwnerID: "a", Token: 1, Shared: true}}, exclusive("w"), shared("b")), held("y", by("b", 2), exclusive("a")),
		}, []string{"a b w"}},
		{"an exclusive waiter waits for every shared holder", []driver.Lock{
			held("x", []driver.Holder{{OwnerID: "n", Token: 1, Shared: true}, {OwnerID: "a", Token: 2, Shared: true}}, exclusive("b")), held("y", by("b", 3), exclusive("a")),
		}, []string{"a b"}},
		{"upgrade of two readers by other locks", []driver.Lock{
			held("x", []driver.Holder{{OwnerID: "a", Token: 1, Shared: true}, {OwnerID: "b", Token: 2, Shared: true}}, exclusive("c")), held("y", by("c", 3), exclusive("a"), exclusive("b")),
		}, []string{"a c", "b c"}},
		{"queues alone, of owners who need both", []driver.Lock{
			held("x", by("h", 1), exclusive("a"), exclusive("b")), held("y", by("i", 2), exclusive("b"), exclusive("a")),
		}, []string{"a b"}},
		{"shared places do not wait for each other", []driver.Lock{
			held("x", by("h", 1), shared("a"), shared("b")), held("y", by("i", 2), shared("b"), shared("a")),
		}, nil},
		{"nobody waits for itself", []driver.Lock{held("x", by("a", 1), exclusive("a"))}, nil},
		{"two rings apart", []driver.Lock{
			held("x", by("a", 1), exclusive("b")), held("y", by("b", 2), exclusive("a")), held("z", by("c", 3), exclusive("d")), held("w", by("d", 4), exclusive("c")),
		}, []string{"a b", "c d"}},
	} {
		t.Run(c.name, func(t *testing.T) {
			f := Find(t.Context(), []Store{&fixed{name: "s", locks: c.locks}}, 0)
			var got []string
			for _, d := range f.Deadlocks {
				var owners []string
				for _, w := range d.Waits {
					owners = append(owners, w.OwnerID)
				}
				slices.Sort(owners)
				text := fmt.Sprint(owners)
				got = append(got, text[1:len(text)-1])
			}
			slices.Sort(got)
			// Where cycles overlap, one victim may break several.
			if c.name == "upgrade of two readers by other locks" {
				if len(got) == 1 && got[0] != "a c" && got[0] != "b c" || len(got) == 0 {
					t.Errorf("found %q", got)
				}
				return
			}
			if diff := cmp.Diff(c.want, got); diff != "" {
				t.Errorf("(-want +got):\n%s", diff)
			}
		})
	}
}

func TestLimitsAndFailuresAreTold(t *testing.T) {
	full := &fixed{name: "full", page: 100}
	for i := range MaxLocks + 1 {
		full.locks = append(full.locks, held(fmt.Sprintf("lock%05d", i), by("h", 1), driver.Waiter{OwnerID: "anon-0123456789abcdef"}))
	}
	if f := Find(t.Context(), []Store{full}, 0); !f.Truncated || f.Locks != MaxLocks || f.Waiters != 0 || f.Err != nil {
		t.Errorf("%d locks, %d waiters, truncated %t, %v", f.Locks, f.Waiters, f.Truncated, f.Err)
	}
	down := errors.New("down")
	stores := append(ring(3), &fixed{name: "c", err: down})
	if f := Find(t.Context(), stores, 0); len(f.Deadlocks) != 1 || !errors.Is(f.Err, down) || !slices.Equal(f.Failed, []string{"c"}) {
		t.Errorf("with a store that is down: %+v", f)
	}
	gone := ring(2)
	gone[1].(*fixed).vanish = true
	if f := Find(t.Context(), gone, 0); len(f.Deadlocks) != 0 || f.Err != nil {
		t.Errorf("with a lock that was freed meanwhile: %+v", f)
	}
	many := &fixed{name: "many"}
	for i := range 2*MaxFound + 2 {
		many.locks = append(many.locks, held(fmt.Sprintf("lock%03d", i), by(fmt.Sprintf("o%03d", i), int64(i+1)), driver.Waiter{OwnerID: fmt.Sprintf("o%03d", i^1)}))
	}
	if f := Find(t.Context(), []Store{many}, 0); len(f.Deadlocks) != MaxFound || !f.Truncated {
		t.Errorf("%d deadlocks, truncated %t", len(f.Deadlocks), f.Truncated)
	}
}
