package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// is wants an error of the kind.
func (t *T) is(err, want error) {
	if !errors.Is(err, want) {
		t.Errorf("error %v, want %q", err, want)
	}
}

func expiryCases() []Case {
	return []Case{
		{Name: "Expiry/NeverEarly", Guarantee: "No rival is granted before the lease's time, counted from its grant, is over, fifty times over.",
			Run: func(t *T) {
				t.each(50, func(i int) {
					for round := range t.times(1) {
						lock := t.Lock(fmt.Sprint(i, "/", round))
						first := t.Must(t.D, t.Request(lock, "one", t.brief))
						second := t.Await(t.D, t.Request(lock, "two"))
						if early := first.Origin.Add(first.Remaining).Sub(t.now()); early > 0 {
							t.Fatalf("the rival was granted %v early (token %d)", early, second.Token)
						}
					}
				})
			}},
		{Name: "Expiry/NotLaterThanDeclared", Guarantee: "A rival that asks is granted within the declared lateness after the lease's end.",
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				_, refused := t.awaited(t.D, t.Request(t.Lock("a"), "two"))
				late := refused.Sub(first.Origin.Add(first.Remaining)) - t.caps.Lateness
				if late > t.grace() {
					t.Errorf("the rival still waited %v later than declared", late)
				}
			}},
		{Name: "Expiry/RenewalProlongs", Guarantee: "A lease that is renewed in time stands many times its TTL.",
			Run: func(t *T) {
				t.unlessLate(func(d time.Duration) (late bool) {
					g := t.Must(t.D, t.Request(t.Lock(d.String()), "one", ttl(d)))
					end := g.Origin.Add(g.Remaining)
					for range 12 {
						t.pause(d / 4)
						l, err := t.Renew(t.D, g)
						switch {
						case err != nil && t.now() >= end:
							return true
						case err != nil:
							t.Fatalf("renew: %v", err)
						case l.Remaining < d-time.Millisecond:
							t.Errorf("%v remain after a renewal to %v", l.Remaining, d)
						}
						end = l.Origin.Add(l.Remaining)
					}
					res, err := t.attempt(t.D, t.Request(g.LockID, "two"))
					if err == nil && res.Lease != nil && t.now() < end {
						t.Errorf("a rival was granted %+v before the renewed lease's end", res.Lease)
					}
					return t.now() >= end
				})
			}},
		{Name: "Expiry/RenewalNeverShortens", Guarantee: "A renewal with a shorter TTL does not bring the end nearer.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				g.req.TTL = t.TTL()
				l, err := t.Renew(t.D, g)
				if err != nil || l.Remaining < lasting/2 {
					t.Errorf("renewed to %+v, %v; the lease had %v", l, err, lasting)
				}
			}},
		{Name: "Expiry/RenewDoesNotRevive", Guarantee: "Renewing a lease that has ended fails and creates nothing.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, g)
				_, err := t.Renew(t.D, g)
				t.is(err, driver.ErrLost)
				expired := t.Must(t.D, t.Request(t.Lock("b"), "one", t.brief))
				t.expire(expired)
				next := t.Must(t.D, t.Request(t.Lock("b"), "two"))
				_, err = t.Renew(t.D, expired)
				t.is(err, driver.ErrLost)
				if l := t.Inspect(t.D, t.Lock("b")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token {
					t.Errorf("the lock has %+v, want only the next holder", l.Holders)
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 0 {
					t.Errorf("the renewal made %+v", l.Holders)
				}
			}},
		{Name: "Expiry/RenewFailsFromTheMomentOfExpiry", Guarantee: "Where the driver declares it, an expired lease cannot be renewed although nobody evicted it.",
			Run: func(t *T) {
				if !t.caps.ExpiryAtOnce {
					return // then the lease may still stand, and no promise is broken
				}
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				t.expire(g)
				_, err := t.Renew(t.D, g)
				t.Lost(err, driver.CauseExpired)
			}},
		{Name: "Expiry/LateReleaseFreesNobodyElse", Guarantee: "A release that comes after the lease ended says so and leaves the next holder alone.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				t.expire(g)
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				_, err := t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: g.req.RequestID})
				t.is(err, driver.ErrLost)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token {
					t.Errorf("the lock has %+v, want the next holder", l.Holders)
				}
			}},
		{Name: "Expiry/SmallTTLIsRoundedUpAndReported", Guarantee: "A TTL below the smallest is rounded up, and the lease says so.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(t.caps.MinTTL/2)))
				if g.TTL < t.caps.MinTTL || g.Remaining < t.caps.MinTTL-time.Millisecond {
					t.Errorf("ttl %v, remaining %v; the smallest is %v", g.TTL, g.Remaining, t.caps.MinTTL)
				}
			}},
	}
}
