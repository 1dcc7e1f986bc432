package conformance

import (
	"fmt"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// cycle acquires and releases once and returns the token.
func (t *T) cycle(lock string, o ...option) int64 {
	g := t.Must(t.D, t.Request(lock, "one", o...))
	t.Release(t.D, g)
	return g.Token
}

// steps the clock of the tokens, until the case ends.
func (t *T) skewed(run func(skew func(time.Duration))) {
	defer t.h.Skew(0)
	run(t.h.Skew)
}

func tokenCases() []Case {
	return []Case{
		{Name: "Fencing/FirstAcquiresAtOnceAreDistinct", Guarantee: "A hundred first acquires of one shared lock at once are all granted, with a hundred tokens.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				drivers := []driver.Driver{t.D, t.Open(), t.Open()}
				var wg sync.WaitGroup
				for i := range 100 {
					wg.Go(func() {
						// attempt keeps account: no two requests share a token.
						res, err := t.attempt(drivers[i%len(drivers)], t.Request(t.Lock("a"), fmt.Sprint("reader ", i), shared))
						if err != nil || res.Lease == nil {
							t.Errorf("reader %d was answered %+v, %v", i, res, err)
						}
					})
				}
				wg.Wait()
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 100 {
					t.Errorf("%d holders, want 100", len(l.Holders))
				}
			}},
		{Name: "Fencing/NoDigitIsLostAcrossTwoToThe52", Guarantee: "Tokens around 2^52, where the clock is no longer believed, rise by one and are told exactly by every operation.",
			Run: func(t *T) {
				const start = driver.MaxClockToken - 3
				for i := range int64(6) {
					g := t.Must(t.D, t.Request(t.Lock("a"), "one", floor(start)))
					if g.Token != start+i {
						t.Fatalf("grant %d has the token %d, want %d", i, g.Token, start+i)
					}
					if again := t.Must(t.D, g.req); again.Token != g.Token {
						t.Errorf("the repeat says %d, the grant %d", again.Token, g.Token)
					}
					if l, err := t.Renew(t.D, g); err != nil || l.Token != g.Token {
						t.Errorf("the renewal of %d says %+v, %v", g.Token, l, err)
					}
					if l := t.Inspect(t.D, t.Lock("a")); l.Token != g.Token || len(l.Holders) != 1 || l.Holders[0].Token != g.Token {
						t.Errorf("inspect says %+v, want the token %d", l, g.Token)
					}
					if listed := t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("a"), PageSize: 1}); len(listed) != 1 || listed[0].Token != g.Token {
						t.Errorf("list says %+v, want the token %d", listed, g.Token)
					}
					t.Release(t.D, g)
				}
			}},
		{Name: "Fencing/RefusedFloorChangesNothing", Guarantee: "The floor of an attempt that is refused does not raise the lock's token.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Refused(t.D, t.Request(t.Lock("a"), "two", floor(driver.MaxClockToken-1)))
				if l := t.Inspect(t.D, t.Lock("a")); l.Token != g.Token {
					t.Errorf("the lock's token is %d, want %d", l.Token, g.Token)
				}
			}},
		{Name: "Fencing/TokenRisesAfterCollection", Guarantee: "Tokens rise although the record of the free lock was collected.", Needs: []Need{NeedCollect}, Alone: true,
			Run: func(t *T) {
				last := t.cycle(t.Lock("a"))
				if err := t.h.Collect(t.ctx); err != nil {
					t.Fatalf("collect: %v", err)
				}
				if l := t.Inspect(t.D, t.Lock("a")); l.Token != 0 {
					t.Errorf("the record was not collected, it has the token %d", l.Token)
				}
				if token := t.cycle(t.Lock("a")); token <= last {
					t.Errorf("token %d after %d", token, last)
				}
			}},
		{Name: "Fencing/HeldLocksAreNotCollected", Guarantee: "The record of a lock that is held outlives every retention.", Needs: []Need{NeedCollect}, Alone: true,
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				if err := t.h.Collect(t.ctx); err != nil {
					t.Fatalf("collect: %v", err)
				}
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
				t.Release(t.D, g)
			}},
		{Name: "Fencing/TokenRisesOverClockSteps", Guarantee: "While the record lives, steps of the clock forth and back by an hour never make a token fall.", Needs: []Need{NeedSkew}, Alone: true,
			Run: func(t *T) {
				t.skewed(func(skew func(time.Duration)) {
					last := t.cycle(t.Lock("a"))
					for _, ahead := range []time.Duration{-time.Hour, time.Hour, -time.Hour, 0, 10 * time.Minute, -10 * time.Minute} {
						skew(ahead)
						token := t.cycle(t.Lock("a"))
						if token <= last {
							t.Errorf("token %d after %d, with the clock %v ahead", token, last, ahead)
						}
						last = token
					}
				})
			}},
		{Name: "Fencing/TokenAheadOutlivesTheStepBack", Guarantee: "A token that was made by a clock ahead is remembered until the clock has passed it, also when idle records are collected.", Needs: []Need{NeedSkew, NeedCollect}, Alone: true,
			Run: func(t *T) {
				t.skewed(func(skew func(time.Duration)) {
					skew(time.Hour)
					last := t.cycle(t.Lock("a"))
					skew(0)
					t.leave(t.Request(t.Lock("a"), "nobody")) // looks at the record by the right clock
					if err := t.h.Collect(t.ctx); err != nil {
						t.Fatalf("collect: %v", err)
					}
					if token := t.cycle(t.Lock("a")); token <= last {
						t.Errorf("token %d after %d", token, last)
					}
				})
			}},
		{Name: "Fencing/ImplausibleClockNeverMints", Guarantee: "A clock beyond 2^52 µs does not become a token.", Needs: []Need{NeedSkew}, Alone: true,
			Run: func(t *T) {
				t.skewed(func(skew func(time.Duration)) {
					last := t.cycle(t.Lock("a"))
					skew(100 * 365 * 24 * time.Hour)
					if token := t.cycle(t.Lock("a")); token != last+1 {
						t.Errorf("token %d after %d, want the next number", token, last)
					}
				})
			}},
	}
}
