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
		{Name: "Reentrancy/ARepeatCountsOnce", Guarantee: "A repeated re-entering acquire keeps its one hold, and the lease the longer of both TTLs.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				r := t.Request(t.Lock("a"), "one", reentrant(first), t.brief)
				for range 3 {
					g := t.Must(t.D, r)
					if len(g.Holds) != 2 || g.Token != first.Token {
						t.Errorf("re-entered %+v, want two holds of token %d", g.Lease, first.Token)
					}
					if g.TTL < lasting || g.Remaining < lasting/2 {
						t.Errorf("re-entering left %v of %v, the lease had %v", g.Remaining, g.TTL, lasting)
					}
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].HoldCount != 2 {
					t.Errorf("holders %+v, want one with two holds", l.Holders)
				}
			}},
		{Name: "Reentrancy/OthersAreRefusedAtEveryCount", Guarantee: "While any hold is left, others are refused, also those that wait.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				holds := []*grant{t.Must(t.D, t.Request(t.Lock("a"), "one"))}
				for range 4 {
					holds = append(holds, t.Must(t.D, t.Request(t.Lock("a"), "one", reentrant(holds[0]))))
				}
				waiter := t.Request(t.Lock("a"), "waiter")
				for _, hold := range holds {
					t.Queue(t.D, waiter)
					t.Refused(t.D, t.Request(t.Lock("a"), "other"))
					t.Release(t.D, hold)
				}
				t.Await(t.D, waiter)
			}},
		{Name: "Reentrancy/ReleasedHoldStaysReleased", Guarantee: "Repeating the release of one hold succeeds although the lease, with its other hold, was lost meanwhile; the other hold's release says lost.", Needs: []Need{NeedKeys, NeedEvict},
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				second := t.Must(t.D, t.Request(t.Lock("a"), "one", reentrant(first)))
				t.Release(t.D, first)
				if _, err := t.D.Evict(t.ctx, &driver.EvictRequest{LockID: first.LockID, Token: first.Token, Cause: driver.CauseForced}); err != nil {
					t.Fatalf("evict: %v", err)
				}
				t.Release(t.D, first)
				_, err := t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: second.ref(), RequestID: second.req.RequestID})
				t.Lost(err, driver.CauseForced)
				_, err = t.Renew(t.D, second)
				t.Lost(err, driver.CauseForced)
			}},
	}
}
