package conformance

import (
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func identityCases() []Case {
	return []Case{
		{Name: "Identity/OnlyTheKeyProvesTheLease", Guarantee: "Who knows owner and token, and not the secret, neither renews nor releases nor adopts.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				thief := g.ref()
				thief.Key = driver.KeyOf("guessed")
				_, err := t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: thief, TTL: t.TTL()})
				t.is(err, driver.ErrNotOwner)
				_, err = t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: thief, RequestID: g.req.RequestID})
				t.is(err, driver.ErrNotOwner)
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
			}},
		{Name: "Identity/AdoptFencesTheOlderAttachment", Guarantee: "After an adopt, the older attachment's renewals and releases have no effect.", Needs: []Need{NeedAttach},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				ref := g.ref()
				ref.Attach = 0
				adopted, err := t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
				if err != nil || adopted.Token != g.Token || adopted.Attach <= g.Attach {
					t.Fatalf("adopted %+v, %v; want token %d and a higher attach number", adopted, err, g.Token)
				}
				_, err = t.Renew(t.D, g)
				t.Lost(err, driver.CauseReattached)
				_, err = t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: g.req.RequestID})
				t.Lost(err, driver.CauseReattached)
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
				if _, err := t.Renew(t.D, &grant{adopted, g.req}); err != nil {
					t.Errorf("the adopter's renewal: %v", err)
				}
			}},
		{Name: "Identity/OfTwoAdoptsOneRemains", Guarantee: "When two adopt at once, one attachment remains.", Needs: []Need{NeedAttach},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(10*time.Second)))
				ref := g.ref()
				ref.Attach = 0
				var wg sync.WaitGroup
				leases := make([]*driver.Lease, 2)
				for i, d := range []driver.Driver{t.D, t.Open()} {
					wg.Go(func() { leases[i], _ = d.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second}) })
				}
				wg.Wait()
				alive := 0
				for _, l := range leases {
					if l == nil {
						continue
					}
					if _, err := t.Renew(t.D, &grant{l, g.req}); err == nil {
						alive++
					}
				}
				if alive != 1 {
					t.Errorf("%d attachments can renew, want one", alive)
				}
			}},
		{Name: "Identity/RepeatUnderAnotherKeyTakesTheLeaseOver", Guarantee: "A repeated acquire with another secret gets the lease under it, and fences the older attachment.", Needs: []Need{NeedAttach, NeedKeys},
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				g := t.Must(t.D, r)
				again := *r
				again.Key = driver.KeyOf("another")
				taken := t.Must(t.D, &again)
				if taken.Token != g.Token || taken.Attach <= g.Attach {
					t.Errorf("repeated %+v, want token %d and a higher attach number", taken.Lease, g.Token)
				}
				_, err := t.Renew(t.D, g)
				t.is(err, driver.ErrNotOwner)
				if _, err := t.Renew(t.D, taken); err != nil {
					t.Errorf("renewal under the new secret: %v", err)
				}
			}},
	}
}
