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
		{Name: "Idempotence/SixteenEndsAreRemembered", Guarantee: "A release is recognised when repeated after fifteen others.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.Release(t.D, g)
				for i := range driver.RememberedEnds - 1 {
					t.Release(t.D, t.Must(t.D, t.Request(t.Lock("a"), fmt.Sprint(i))))
				}
				t.Release(t.D, g)
			}},
	}
}
