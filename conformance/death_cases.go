package conformance

import (
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func deathCases() []Case {
	return []Case{
		{Name: "Expiry/DeletedRecordIsLost", Guarantee: "A lease whose record was deleted by hand is lost: its renewal and release say so, and create nothing.", Needs: []Need{NeedWipe}, Alone: true,
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				if err := t.h.Wipe(t.ctx); err != nil {
					t.Fatalf("wipe: %v", err)
				}
				_, err := t.Renew(t.D, g)
				t.is(err, driver.ErrLost)
				_, err = t.D.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: g.req.RequestID})
				t.is(err, driver.ErrLost)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 0 {
					t.Errorf("holders %+v of a record that was deleted", l.Holders)
				}
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				_, err = t.Renew(t.D, g)
				t.is(err, driver.ErrLost)
				if next.Token <= g.Token {
					t.Errorf("token %d after %d", next.Token, g.Token)
				}
			}},
		{Name: "Expiry/LongDeadLeaseDelaysNoTry", Guarantee: "A lease that ended long ago does not cost repeated tries another lease time, nor any where expiry is declared to be at once.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "dead", t.brief))
				t.expire(g)
				t.pause(2 * t.TTL())
				asked := t.now()
				for tries := 1; ; tries++ {
					res, err := t.attempt(t.D, t.Request(t.Lock("a"), fmt.Sprint("try ", tries)))
					if err == nil && res.Lease != nil {
						return
					}
					if waited := t.now().Sub(asked); t.caps.ExpiryAtOnce || waited > t.caps.Lateness+t.grace() {
						t.Fatalf("try %d, %v after the first, was answered %+v, %v", tries, waited, res, err)
					}
					t.pause(20 * time.Millisecond)
				}
			}},
		{Name: "Expiry/AnEndedLeaseIsNotShown", Guarantee: "Inspect and List leave out a lease whose time is over, although nobody evicted it.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				t.expire(g)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 0 && t.caps.ExpiryAtOnce {
					t.Errorf("holders %+v", l.Holders)
				}
				if listed := t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("a"), PageSize: 10}); len(listed) != 0 && t.caps.ExpiryAtOnce {
					t.Errorf("listed %+v", listed)
				}
			}},
		{Name: "Expiry/AbandonedAcquireEndsByItself", Guarantee: "A grant whose answer was lost, and that nobody repeats, is gone within its TTL.",
			Run: func(t *T) {
				_, _ = t.D.Acquire(t.ctx, t.Request(t.Lock("a"), "lost", t.brief))
				granted := t.now() // not later
				_, refused := t.awaited(t.D, t.Request(t.Lock("a"), "next"))
				if late := refused.Sub(granted) - t.TTL() - t.caps.Lateness; late > t.grace() {
					t.Errorf("the next one still waited %v later than declared", late)
				}
			}},
		{Name: "Expiry/LateRetryIsRefused", Guarantee: "An acquire that is repeated after its lease has ended is refused with the cause, whether the lock is free or another's, and takes nothing.",
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one", t.brief)
				t.expire(t.Must(t.D, r))
				if t.caps.ExpiryAtOnce {
					_, err := t.attempt(t.D, r)
					t.Lost(err, driver.CauseExpired)
				}
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				_, err := t.attempt(t.D, r)
				t.Lost(err, driver.CauseExpired)
				r.Enqueue = true
				_, err = t.attempt(t.D, r)
				t.Lost(err, driver.CauseExpired)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token || len(l.Waiters) != 0 {
					t.Errorf("the lock is %+v, want the next holder alone", l)
				}
			}},
	}
}
