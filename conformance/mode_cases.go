package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func reentrant(g *grant) option {
	return func(r *driver.AcquireRequest) { r.Reentrant, r.Key = true, g.req.Key }
}

func modeCases() []Case {
	return here("mode_cases.go", []Case{
		{Name: "Modes/ReadersTogetherWriterAlone", Guarantee: "Shared leases stand together; an exclusive one stands alone.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				one := t.Must(t.D, t.Request(t.Lock("a"), "one", shared))
				two := t.Must(t.D, t.Request(t.Lock("a"), "two", shared))
				t.Refused(t.D, t.Request(t.Lock("a"), "writer"))
				t.Release(t.D, one)
				t.Refused(t.D, t.Request(t.Lock("a"), "writer"))
				t.Release(t.D, two)
				t.Must(t.D, t.Request(t.Lock("a"), "writer"))
				t.Refused(t.D, t.Request(t.Lock("a"), "reader", shared))
			}},
		{Name: "Modes/WaitingWriterStopsLaterReaders", Guarantee: "While a writer waits, a later reader is not granted, although readers hold the lock.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				reader := t.Must(t.D, t.Request(t.Lock("a"), "reader", shared, ttl(30*time.Second)))
				writer, late := t.Request(t.Lock("a"), "writer"), t.Request(t.Lock("a"), "late", shared)
				t.Queue(t.D, writer)
				t.Queue(t.D, late)
				t.Refused(t.D, t.Request(t.Lock("a"), "try", shared))
				t.Release(t.D, reader)
				g := t.Await(t.D, writer)
				t.Queue(t.D, late)
				t.Release(t.D, g)
				t.Await(t.D, late)
			}},
		{Name: "Modes/ReadersAtTheHeadGoTogether", Guarantee: "After a writer, the readers at the head of the queue are granted together, and those behind the next writer are not.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder", ttl(30*time.Second)))
				var readers []*driver.AcquireRequest
				for i := range 3 {
					readers = append(readers, t.Request(t.Lock("a"), fmt.Sprint("reader ", i), shared, ttl(30*time.Second)))
					t.Queue(t.D, readers[i])
				}
				writer, behind := t.Request(t.Lock("a"), "writer"), t.Request(t.Lock("a"), "behind", shared)
				t.Queue(t.D, writer)
				t.Queue(t.D, behind)
				t.Release(t.D, holder)
				for i := len(readers) - 1; i >= 0; i-- { // each may come first
					t.Await(t.D, readers[i])
				}
				t.Queue(t.D, behind)
				t.Queue(t.D, writer)
			}},
		{Name: "Modes/DeadReaderLetsTheWriterIn", Guarantee: "A reader that dies while another renews does not hold the writer up beyond its own TTL.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "dead", shared))
				living := t.Must(t.D, t.Request(t.Lock("a"), "living", shared))
				writer := t.Request(t.Lock("a"), "writer")
				t.Queue(t.D, writer)
				for range 4 {
					t.pause(t.TTL() / 3)
					if _, err := t.Renew(t.D, living); err != nil {
						t.Fatalf("renew: %v", err)
					}
				}
				t.Release(t.D, living)
				t.Await(t.D, writer)
			}},
		{Name: "Modes/NoUpgrade", Guarantee: "An owner that holds the lock in one mode is refused the other, clearly.", Needs: []Need{NeedShared},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", shared))
				if held := t.Refused(t.D, t.Request(t.Lock("a"), "one", reentrant(g))); !held.BySelf || !held.OtherMode {
					t.Errorf("refused by %+v, want the other mode of its own", held)
				}
			}},
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
	})
}
