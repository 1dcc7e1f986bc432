package conformance

import (
	"github.com/locksidecar/locksidecar/backend/driver"
)

func holdCases() []Case {
	return []Case{
		{Name: "Reentrancy/CountsUpAndDown", Guarantee: "Further holds keep the token and raise the count; the lock is free only when every hold is released.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				second := t.Must(t.D, t.Request(t.Lock("a"), "one", reentrant(first)))
				if second.Token != first.Token || len(second.Holds) != 2 {
					t.Errorf("re-entered %+v, want a second hold of token %d", second.Lease, first.Token)
				}
				for range 2 { // repeated, it takes no second hold
					t.Release(t.D, second)
					t.Refused(t.D, t.Request(t.Lock("a"), "other"))
				}
				t.Release(t.D, first)
				if next := t.Must(t.D, t.Request(t.Lock("a"), "other")); next.Token <= first.Token {
					t.Errorf("token %d after %d", next.Token, first.Token)
				}
			}},
		{Name: "Reentrancy/SelfIsRefusedUnlessReentrant", Guarantee: "An owner that holds the lock and does not re-enter is refused at once, waiting or not, and told that it is itself.",
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "one"))
				for _, r := range []*driver.AcquireRequest{t.Request(t.Lock("a"), "one"), t.Request(t.Lock("a"), "one", enqueue)} {
					if held := t.Refused(t.D, r); !held.BySelf {
						t.Errorf("refused by %+v, want itself", held)
					}
				}
			}},
		{Name: "Reentrancy/NeedsTheLeasesKey", Guarantee: "Who does not know the lease's secret cannot re-enter it under its owner's name.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "one"))
				r := t.Request(t.Lock("a"), "one")
				r.Reentrant = true
				if held := t.Refused(t.D, r); !held.BySelf {
					t.Errorf("refused by %+v, want itself", held)
				}
			}},
		{Name: "Reentrancy/ReleaseMustNameItsHold", Guarantee: "With several holds, a release that names none is refused.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Must(t.D, t.Request(t.Lock("a"), "one", reentrant(first)))
				_, err := t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: first.ref()})
				t.is(err, driver.ErrAmbiguousHold)
			}},
	}
}
