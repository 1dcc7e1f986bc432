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
		{Name: "Expiry/NeverEarly", Guarantee: "No rival is granted before the lease's time, counted from its grant, is over.",
			Run: func(t *T) {
				for i := range 10 {
					lock := t.Lock(fmt.Sprint(i))
					first := t.Must(t.D, t.Request(lock, "one"))
					second := t.Await(t.D, t.Request(lock, "two"))
					if early := first.Origin.Add(first.Remaining).Sub(t.now()); early > 0 {
						t.Fatalf("the rival was granted %v early (token %d)", early, second.Token)
					}
				}
			}},
		{Name: "Expiry/NotLaterThanDeclared", Guarantee: "A rival that asks is granted within the declared lateness after the lease's end.",
			Run: func(t *T) {
				first := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Await(t.D, t.Request(t.Lock("a"), "two"))
				// The suite's own polling and a busy machine are not the driver's.
				late := t.now().Sub(first.Origin.Add(first.Remaining)) - t.caps.Lateness
				if late > 2*time.Second {
					t.Errorf("the rival was granted %v later than declared", late)
				}
			}},
		{Name: "Expiry/RenewalProlongs", Guarantee: "A lease that is renewed in time stands many times its TTL.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				for range 6 {
					t.pause(t.TTL() / 2)
					l, err := t.Renew(t.D, g)
					if err != nil {
						t.Fatalf("renew: %v", err)
					}
					if l.Remaining < t.TTL()-time.Millisecond {
						t.Errorf("%v remain after a renewal to %v", l.Remaining, t.TTL())
					}
				}
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
			}},
		{Name: "Expiry/RenewalNeverShortens", Guarantee: "A renewal with a shorter TTL does not bring the end nearer.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(20*time.Second)))
				g.req.TTL = t.TTL()
				l, err := t.Renew(t.D, g)
				if err != nil || l.Remaining < 15*time.Second {
					t.Errorf("renewed to %+v, %v; the lease had 20s", l, err)
				}
			}},
		{Name: "Expiry/RenewDoesNotRevive", Guarantee: "Renewing a lease that has ended fails and creates nothing.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, g)
				_, err := t.Renew(t.D, g)
				t.is(err, driver.ErrLost)
				expired := t.Must(t.D, t.Request(t.Lock("b"), "one"))
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
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.expire(g)
				_, err := t.Renew(t.D, g)
				t.Lost(err, driver.CauseExpired)
			}},
		{Name: "Expiry/LateReleaseFreesNobodyElse", Guarantee: "A release that comes after the lease ended says so and leaves the next holder alone.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.expire(g)
				next := t.Must(t.D, t.Request(t.Lock("a"), "two", ttl(20*time.Second)))
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
