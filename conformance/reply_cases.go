package conformance

import (
	"errors"
	"fmt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func replyCases() []Case {
	return []Case{
		{Name: "Idempotence/RepeatedAcquireIsOneHold", Guarantee: "Repeating an acquire gives the same lease and token and counts one hold.",
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				first := t.Must(t.D, r)
				again := t.Must(t.D, r)
				if again.Token != first.Token || len(again.Holds) != 1 {
					t.Errorf("repeated %+v, want one hold of token %d", again.Lease, first.Token)
				}
				t.Release(t.D, again)
				t.Must(t.D, t.Request(t.Lock("a"), "two"))
			}},
		{Name: "Idempotence/RepeatedReleaseChangesNothing", Guarantee: "Repeating a release gives the same answer and does not touch the next holder.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, g)
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				t.Release(t.D, g)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token {
					t.Errorf("the lock has %+v, want the next holder", l.Holders)
				}
			}},
		{Name: "Idempotence/LeaveUndoesAGrant", Guarantee: "A grant that nobody received is gone after Leave, and a repeat of its acquire is not granted again.",
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				t.Must(t.D, r)
				t.leave(r)
				t.leave(r)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 0 {
					t.Errorf("holders %+v after Leave", l.Holders)
				}
				if _, err := t.attempt(t.D, r); !errors.Is(err, driver.ErrLost) {
					t.Errorf("the undone acquire was answered %v, want LOST", err)
				}
			}},
		{Name: "Idempotence/LeaveBeforeALateAcquire", Guarantee: "An acquire that arrives after its Leave is not granted.",
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				t.leave(r)
				_, err := t.attempt(t.D, r)
				t.is(err, driver.ErrLost)
			}},
		{Name: "Idempotence/LeaveOfAnOlderAttemptTouchesNothing", Guarantee: "What undoes an attempt does not touch what a repeat under another secret has got since.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				first := t.Request(t.Lock("a"), "one")
				again := repeated(first)
				g := t.Must(t.D, again)
				t.leaveAttempt(first)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != g.Token {
					t.Fatalf("the lock has %+v, want the lease of the repeat", l.Holders)
				}
				if _, err := t.Renew(t.D, g); err != nil {
					t.Errorf("renew: %v", err)
				}
				waiting := t.Request(t.Lock("a"), "two")
				t.Queue(t.D, waiting)
				t.Queue(t.D, repeated(waiting))
				t.leaveAttempt(waiting)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 1 {
					t.Errorf("waiters %+v, want the repeat's place", l.Waiters)
				}
			}},
		{Name: "Idempotence/LeaveOfAnAttemptEndsThatAttempt", Guarantee: "After an attempt was undone, a late copy of it is refused, and a repeat of its request under another secret is served.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				for _, was := range []string{"granted", "waiting", "unknown"} {
					lock := t.Lock(was)
					first := t.Request(lock, "one")
					var holder *grant
					switch was {
					case "granted":
						t.Must(t.D, first)
					case "waiting":
						holder = t.Must(t.D, t.Request(lock, "holder"))
						t.Queue(t.D, first)
					}
					t.leaveAttempt(first)
					if l := t.Inspect(t.D, lock); len(l.Waiters) != 0 {
						t.Errorf("%s: waiters %+v after the attempt was undone", was, l.Waiters)
					}
					if holder != nil {
						t.Release(t.D, holder)
					}
					if _, err := t.attempt(t.D, first); !errors.Is(err, driver.ErrLost) {
						t.Errorf("%s: the late copy was answered %v, want LOST", was, err)
					}
					t.Release(t.D, t.Must(t.D, repeated(first)))
				}
			}},
		{Name: "Idempotence/ALateCopyTakesNoPlace", Guarantee: "A late copy of an undone attempt, and of its undo, leaves the place alone that a repeat under another secret has got since.", Needs: []Need{NeedKeys},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				first := t.Request(t.Lock("a"), "one")
				t.Queue(t.D, first)
				t.leaveAttempt(first)
				t.Queue(t.D, repeated(first))
				if _, err := t.attempt(t.D, first); !errors.Is(err, driver.ErrLost) {
					t.Errorf("the late copy was answered %v, want LOST", err)
				}
				t.leaveAttempt(first)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 1 {
					t.Errorf("waiters %+v, want the repeat's place", l.Waiters)
				}
			}},
		{Name: "Idempotence/SixteenEndsAreRemembered", Guarantee: "A release is recognised when repeated after fifteen others.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, g)
				for i := range driver.RememberedEnds - 1 {
					t.Release(t.D, t.Must(t.D, t.Request(t.Lock("a"), fmt.Sprint(i))))
				}
				t.Release(t.D, g)
			}},
		{Name: "Idempotence/LostRenewalReplyIsHarmless", Guarantee: "A renewal whose answer was lost is followed by one that succeeds.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				for range 3 {
					_, _ = t.Renew(t.D, g)
				}
				if l, err := t.Renew(t.D, g); err != nil || l.Token != g.Token || len(l.Holds) != 1 {
					t.Errorf("renewed to %+v, %v", l, err)
				}
			}},
		{Name: "Idempotence/LostGrantOfAWaiterIsRepeated", Guarantee: "A waiter whose grant's answer was lost gets the same lease by repeating, with the time that is left of it.",
			Run: func(t *T) {
				holder, requests := t.line(1, func(int) *driver.AcquireRequest { return t.Request(t.Lock("a"), "waiter") })
				t.Release(t.D, holder)
				first := t.Await(t.D, requests[0])
				latest := t.now().Add(first.TTL)
				t.pause(t.TTL())
				again := t.Must(t.D, requests[0])
				if again.Token != first.Token || len(again.Holds) != 1 {
					t.Errorf("repeated %+v, want one hold of token %d", again.Lease, first.Token)
				}
				if longer := again.Origin.Add(again.Remaining).Sub(latest); longer > 0 {
					t.Errorf("the repeat prolonged the lease by %v", longer)
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || len(l.Waiters) != 0 {
					t.Errorf("the lock is %+v, want one holder", l)
				}
			}},
		{Name: "Idempotence/LostAdoptReplyIsRepeated", Guarantee: "An adopt whose answer was lost is repeated, and the repeat's attachment is the one that counts.", Needs: []Need{NeedAttach},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				ref := g.ref()
				ref.Attach = 0
				_, _ = t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
				adopted, err := t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
				if err != nil {
					t.Fatalf("adopt: %v", err)
				}
				if _, err := t.Renew(t.D, &grant{adopted, g.req}); err != nil {
					t.Errorf("renew: %v", err)
				}
			}},
		{Name: "Idempotence/LeaveDropsAPlaceOnce", Guarantee: "Leave drops a waiter's place, repeating it changes nothing, and another's place stays.",
			Run: func(t *T) {
				_, requests := t.line(2, func(i int) *driver.AcquireRequest { return t.Request(t.Lock("a"), fmt.Sprint(i)) })
				t.leave(requests[0])
				t.leave(requests[0])
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "1" || len(l.Holders) != 1 {
					t.Errorf("the lock is %+v, want the holder and the other waiter", l)
				}
			}},
	}
}
