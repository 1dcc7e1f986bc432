package conformance

import (
	"fmt"
	"strings"
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
				drivers := []driver.Driver{t.D, t.Open()}
				for round := range 20 {
					g := t.Must(t.D, t.Request(t.Lock(fmt.Sprint(round)), "one"))
					ref := g.ref()
					ref.Attach = 0
					leases := make([]*driver.Lease, len(drivers))
					t.each(len(drivers), func(i int) {
						var err error
						if leases[i], err = drivers[i].Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: 10 * time.Second}); err != nil {
							t.Fatalf("adopt: %v", err)
						}
					})
					alive := 0
					for _, l := range leases {
						if _, err := t.Renew(t.D, &grant{l, g.req}); err == nil {
							alive++
						} else {
							t.Lost(err, driver.CauseReattached)
						}
					}
					if alive != 1 {
						t.Fatalf("%d attachments can renew, want one", alive)
					}
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
		{Name: "Identity/AdoptNeedsTheLeasesSecret", Guarantee: "Who knows owner and token, and not the secret, does not adopt.", Needs: []Need{NeedAttach},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				thief := driver.LeaseRef{LockID: g.LockID, Key: driver.KeyOf("guessed"), Token: g.Token}
				_, err := t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: thief, TTL: t.TTL()})
				t.is(err, driver.ErrNotOwner)
				if _, err := t.Renew(t.D, g); err != nil {
					t.Errorf("the holder's renewal: %v", err)
				}
			}},
		{Name: "Identity/AdoptCreatesNothing", Guarantee: "A lease that was released, has expired or never was cannot be adopted.", Needs: []Need{NeedAttach},
			Run: func(t *T) {
				released, expired := t.Must(t.D, t.Request(t.Lock("a"), "one")), t.Must(t.D, t.Request(t.Lock("b"), "one", t.brief))
				t.Release(t.D, released)
				t.expire(expired)
				never := &grant{&driver.Lease{LockID: t.Lock("c"), Token: released.Token}, released.req}
				for _, g := range []*grant{released, expired, never} {
					ref := g.ref()
					ref.Attach = 0
					_, err := t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
					t.is(err, driver.ErrLost)
					if l := t.Inspect(t.D, g.LockID); len(l.Holders) != 0 {
						t.Errorf("the adopt made %+v", l.Holders)
					}
				}
			}},
		{Name: "Identity/SecretsAreNotShown", Guarantee: "Neither Inspect, nor List, nor a refusal shows a lease's secret or the request ids of its holds.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				listed := t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("a"), PageSize: 10})
				held := t.Refused(t.D, t.Request(t.Lock("a"), "two"))
				thief := g.ref()
				thief.Key = driver.KeyOf("guessed")
				_, notOwner := t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: thief, TTL: t.TTL()})
				stale := g.ref()
				stale.Token--
				_, staleToken := t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: stale, TTL: t.TTL()})
				said := fmt.Sprintf("%+v %+v %+v %+v %v %v %v", t.Inspect(t.D, t.Lock("a")), listed, held, held.Holder, held, notOwner, staleToken)
				for what, secret := range map[string]string{"lease's key": string(g.req.Key), "request id": g.req.RequestID} {
					if strings.Contains(said, secret) {
						t.Errorf("the %s is shown: %s", what, said)
					}
				}
			}},
	}
}
