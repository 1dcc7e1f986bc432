package conformance

import (
	"fmt"
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func fencingCases() []Case {
	return []Case{
		{Name: "Fencing/TokenRisesAfterRelease", Guarantee: "Each grant's token is greater than every earlier one's of its lock.",
			Run: func(t *T) {
				last := int64(0)
				for range 20 {
					g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
					if g.Token <= last {
						t.Fatalf("token %d after %d", g.Token, last)
					}
					last = g.Token
					t.Release(t.D, g)
				}
			}},
		{Name: "Fencing/TokenRisesAfterExpiry", Guarantee: "The token after an expired lease is greater than that lease's.",
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				second := t.Await(t.D, t.Request(t.Lock("a"), "two"))
				if second.Token <= first.Token {
					t.Errorf("token %d after %d", second.Token, first.Token)
				}
			}},
		{Name: "Fencing/TokenRisesAfterEviction", Guarantee: "The token after a lease that was ended by force is greater than that lease's.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				if _, err := t.D.Evict(t.ctx, &driver.EvictRequest{LockID: first.LockID, Token: first.Token, Cause: driver.CauseForced}); err != nil {
					t.Fatalf("evict: %v", err)
				}
				if second := t.Must(t.D, t.Request(t.Lock("a"), "two")); second.Token <= first.Token {
					t.Errorf("token %d after %d", second.Token, first.Token)
				}
			}},
		{Name: "Fencing/TokenRisesOverReopening", Guarantee: "Another driver on the same store continues the tokens.",
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, first)
				if second := t.Must(t.Open(), t.Request(t.Lock("a"), "two")); second.Token <= first.Token {
					t.Errorf("token %d after %d", second.Token, first.Token)
				}
			}},
		{Name: "Fencing/TokenRisesAfterAWipe", Guarantee: "Tokens rise although the store lost its data.", Needs: []Need{NeedWipe}, Alone: true,
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, first)
				if err := t.h.Wipe(t.ctx); err != nil {
					t.Fatalf("wipe: %v", err)
				}
				if second := t.Must(t.D, t.Request(t.Lock("a"), "two")); second.Token <= first.Token {
					t.Errorf("token %d after %d", second.Token, first.Token)
				}
			}},
		{Name: "Fencing/TokensOfAllGrantsAreDistinct", Guarantee: "A hundred grants that follow each other on several drivers have a hundred tokens.", Busy: true,
			Run: func(t *T) {
				seen := make(map[int64]bool)
				drivers := []driver.Driver{t.D, t.Open(), t.Open()}
				var mu sync.Mutex
				var wg sync.WaitGroup
				for i := range 100 {
					wg.Go(func() {
						defer func() { _ = recover() }() // the failure is recorded
						d := drivers[i%len(drivers)]
						g := t.Await(d, t.Request(t.Lock("a"), fmt.Sprint(i)))
						mu.Lock()
						seen[g.Token] = true
						mu.Unlock()
						t.Release(d, g)
					})
				}
				wg.Wait()
				if len(seen) != 100 {
					t.Errorf("%d tokens for 100 grants", len(seen))
				}
			}},
		{Name: "Fencing/FloorIsKeptExactly", Guarantee: "A token is at least the floor of its request, and no digit of it is lost, up to 2^52.",
			Run: func(t *T) {
				for i, f := range []int64{4_000_000_000_000_001, 4_503_599_627_370_495} {
					lock := t.Lock(fmt.Sprint(i))
					g := t.Must(t.D, t.Request(lock, "one", floor(f)))
					if g.Token != f {
						t.Errorf("token %d with the floor %d", g.Token, f)
					}
					if got := t.Inspect(t.D, lock).Token; got != g.Token {
						t.Errorf("the lock's token is %d, the lease's %d", got, g.Token)
					}
					t.Release(t.D, g)
					if next := t.Must(t.D, t.Request(lock, "two")); next.Token != f+1 {
						t.Errorf("token %d after %d", next.Token, f)
					}
				}
			}},
		{Name: "Fencing/RenewalKeepsTheToken", Guarantee: "A renewal does not change the token.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				l, err := t.Renew(t.D, g)
				if err != nil || l.Token != g.Token {
					t.Errorf("renewed to %+v, %v; want token %d", l, err, g.Token)
				}
			}},
		{Name: "Fencing/SharedGrantsHaveTokensOfTheirOwn", Guarantee: "Shared leases that stand together have different, rising tokens.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				last := int64(0)
				for i := range 5 {
					g := t.Must(t.D, t.Request(t.Lock("a"), fmt.Sprint("reader ", i), shared))
					if g.Token <= last {
						t.Errorf("token %d after %d", g.Token, last)
					}
					last = g.Token
				}
			}},
		{Name: "Fencing/RenewWithAStaleTokenFails", Guarantee: "A renewal with a token that is not the lease's fails as stale.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				ref := g.ref()
				ref.Token--
				_, err := t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
				t.is(err, driver.ErrStaleToken)
			}},
	}
}
