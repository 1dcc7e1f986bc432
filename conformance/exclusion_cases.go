package conformance

import (
	"fmt"
	"strings"
	"sync"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func exclusionCases() []Case {
	return []Case{
		{Name: "Exclusion/FreeLockIsGrantedAtOnce", Guarantee: "A free lock is granted at the first attempt, also right after its release, ten times over.",
			Run: func(t *T) {
				for range 10 {
					t.Release(t.D, t.Must(t.D, t.Request(t.Lock("a"), "one")))
				}
			}},
		{Name: "Exclusion/SecondOwnerIsRefused", Guarantee: "While a lease stands, another owner's attempt is refused and told who holds the lock and for how long.",
			Run: func(t *T) {
				other := t.Open()
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				held := t.Refused(other, t.Request(t.Lock("a"), "two"))
				if held.Holder == nil || held.Holder.OwnerID != "one" || held.Holder.Remaining <= 0 || held.Holder.Remaining > g.TTL || held.BySelf {
					t.Errorf("refused by %+v, want the holder and its time", held)
				}
			}},
		{Name: "Exclusion/LocksAreIndependent", Guarantee: "Ids that differ in any byte are different locks.",
			Run: func(t *T) {
				longest := strings.Repeat("n", 254-len(t.Lock("")))
				for i, id := range []string{longest + "x", longest + "y", "a", "A", "a/b", "a:b", "{a}", "{a}b", "a%2Fb", "a%252Fb", "a.b", "a+b", "a=b", "a@b", "a~b", "l:a", "q:a", "i", "ab", "b"} {
					t.Must(t.D, t.Request(t.Lock(id), fmt.Sprint("owner ", i)))
				}
			}},
		{Name: "Exclusion/HundredContendersCountExactly", Guarantee: "Among 100 contenders on several drivers, a counter without atomicity of its own ends exact.", Busy: true,
			Run: func(t *T) {
				const contenders, openers = 100, 4
				var drivers []driver.Driver
				for range openers {
					drivers = append(drivers, t.Open())
				}
				var inside atomic.Int32
				counter := 0
				var wg sync.WaitGroup
				var once sync.Once
				for i := range contenders {
					wg.Go(func() {
						defer func() {
							if recover() != nil {
								once.Do(func() { t.Errorf("contender %d gave up", i) })
							}
						}()
						d := drivers[i%openers]
						g := t.Await(d, t.Request(t.Lock("a"), fmt.Sprint("owner ", i)))
						if inside.Add(1) != 1 {
							t.Errorf("two holders at once")
						}
						counter++ // guarded by the lock alone
						inside.Add(-1)
						t.Release(d, g)
					})
				}
				wg.Wait()
				if counter != contenders {
					t.Errorf("the counter is %d after %d increments", counter, contenders)
				}
			}},
		{Name: "Exclusion/ManyLocksAtOnce", Guarantee: "Many locks used by many workers at once keep exact totals each, a hundred times; fewer on a machine too slow for it, but a tenth at least.", Busy: true,
			Run: func(t *T) {
				const workers, locks = 8, 2
				rounds := t.times(100) // fewer on a slow machine
				end := t.now().Add(t.o.bound() / 3)
				totals, want := make([]int, locks), make([]atomic.Int64, locks)
				var wg sync.WaitGroup
				for w := range workers {
					wg.Go(func() {
						defer func() { _ = recover() }() // the failure is recorded
						for round := 0; round < rounds && (round == 0 || t.now() < end); round++ {
							for l := range locks {
								g := t.Await(t.D, t.Request(t.Lock(fmt.Sprint(l)), fmt.Sprint("worker ", w)))
								totals[l]++ // guarded by the lock alone
								want[l].Add(1)
								t.Release(t.D, g)
							}
						}
					})
				}
				wg.Wait()
				for l, n := range totals {
					want := int(want[l].Load())
					if n != want || n < workers {
						t.Errorf("lock %d was counted %d times, want %d, and each worker once at least", l, n, want)
					}
					t.enough(want, workers*rounds)
				}
			}},
		{Name: "Exclusion/TryLeavesNoPlace", Guarantee: "A refused attempt that did not ask for a place leaves none.",
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 0 {
					t.Errorf("waiters %+v", l.Waiters)
				}
			}},
	}
}
