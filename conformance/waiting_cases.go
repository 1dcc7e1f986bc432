package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// line queues requests one after the other behind a holder.
func (t *T) line(n int, of func(i int) *driver.AcquireRequest) (holder *grant, requests []*driver.AcquireRequest) {
	holder = t.Must(t.D, t.Request(t.Lock("a"), "holder"))
	for i := range n {
		r := of(i)
		if res := t.Queue(t.D, r); res.QueueLength != i+1 {
			t.Fatalf("waiter %d: queue length %d", i, res.QueueLength)
		}
		requests = append(requests, r)
	}
	return holder, requests
}

// serve releases lease after lease and returns the owners in the order of
// their grants. Everybody asks each time, the last ones first.
func (t *T) serve(holder *grant, waiting []*driver.AcquireRequest) (order []string) {
	waiting = slices.Clone(waiting)
	for len(waiting) > 0 {
		t.Release(t.D, holder)
		var next *grant
		deadline := t.now().Add(patience)
		for next == nil {
			for i := len(waiting) - 1; i >= 0; i-- {
				res, err := t.attempt(t.D, waiting[i])
				if err != nil {
					t.Fatalf("waiter %s: %v", waiting[i].OwnerID, err)
				}
				if res.Lease != nil {
					if next != nil {
						t.Fatalf("%s and %s were granted together", next.OwnerID, waiting[i].OwnerID)
					}
					next = &grant{res.Lease, waiting[i]}
				}
			}
			if t.now() > deadline {
				t.Fatalf("nobody was granted after %v", order)
			}
		}
		order = append(order, next.OwnerID)
		waiting = slices.DeleteFunc(waiting, func(r *driver.AcquireRequest) bool { return r == next.req })
		holder = next
	}
	t.Release(t.D, holder)
	return order
}

func waitingCases() []Case {
	return []Case{
		{Name: "Waiting/FIFOAmong64", Guarantee: "At equal priority 64 waiters are granted in the order in which they queued.", Busy: true,
			Run: func(t *T) {
				holder, requests := t.line(64, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), fmt.Sprintf("%02d", i))
				})
				if order := t.serve(holder, requests); !slices.IsSorted(order) {
					t.Errorf("granted in the order %v", order)
				}
			}},
		{Name: "Waiting/NoBarging", Guarantee: "A newcomer never overtakes a living waiter: neither a try nor a waiter of the same priority.",
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				waiter := t.Request(t.Lock("a"), "waiter")
				t.Queue(t.D, waiter)
				t.Release(t.D, holder)
				t.Refused(t.D, t.Request(t.Lock("a"), "barger"))
				late := t.Request(t.Lock("a"), "late")
				t.Queue(t.D, late)
				t.Await(t.D, waiter)
			}},
		{Name: "Waiting/PositionsAreTold", Guarantee: "Position and queue length are right at every step.",
			Run: func(t *T) {
				holder, requests := t.line(5, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), fmt.Sprint(i))
				})
				check := func(want ...string) {
					l := t.Inspect(t.D, t.Lock("a"))
					var got []string
					for i, w := range l.Waiters {
						got = append(got, w.OwnerID)
						if w.Position != i+1 {
							t.Errorf("%s is told the position %d, stands at %d", w.OwnerID, w.Position, i+1)
						}
					}
					if !slices.Equal(got, want) {
						t.Errorf("the queue is %v, want %v", got, want)
					}
				}
				check("0", "1", "2", "3", "4")
				// A driver may not tell tickets; what it tells is right.
				for i, w := range t.Inspect(t.D, t.Lock("a")).Waiters {
					if res := t.Queue(t.D, requests[i]); res.Ticket != 0 && res.Ticket != w.Ticket {
						t.Errorf("%s is told the ticket %d, has %d", w.OwnerID, res.Ticket, w.Ticket)
					}
				}
				t.leave(requests[1])
				check("0", "2", "3", "4")
				t.Release(t.D, holder)
				t.Await(t.D, requests[0])
				check("2", "3", "4")
			}},
		{Name: "Waiting/RepeatKeepsOnePlace", Guarantee: "Repeating a waiting acquire keeps its one place.",
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				r := t.Request(t.Lock("a"), "waiter")
				t.Queue(t.D, r)
				if res := t.Queue(t.D, r); res.Position != 1 || res.QueueLength != 1 {
					t.Errorf("repeated: %+v, want one place", res)
				}
			}},
		{Name: "Waiting/LeaverLeavesAtOnce", Guarantee: "A waiter that leaves is gone at once, and nobody is granted early for it.",
			Run: func(t *T) {
				_, requests := t.line(3, func(i int) *driver.AcquireRequest { return t.Request(t.Lock("a"), fmt.Sprint(i)) })
				t.leave(requests[0])
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 2 || len(l.Holders) != 1 {
					t.Errorf("after the leave %+v", l)
				}
				if res := t.Queue(t.D, requests[1]); res.Position != 1 {
					t.Errorf("the next one stands at %d", res.Position)
				}
			}},
		{Name: "Waiting/ExpiredHolderIsFollowedByTheFirst", Guarantee: "When the holder's lease expires, the first waiter is granted by asking again.",
			Run: func(t *T) {
				t.unlessLate(func(d time.Duration) (late bool) {
					lock := t.Lock(d.String())
					holder := t.Must(t.D, t.Request(lock, "holder", ttl(2*d)))
					first, second := t.Request(lock, "first", enqueue), t.Request(lock, "second")
					res, err := t.attempt(t.D, first)
					if err != nil {
						t.Fatalf("queueing first: %v", err)
					}
					if res.Lease != nil {
						if t.now() < holder.Origin.Add(holder.Remaining) {
							t.Errorf("first was granted before the holder's end")
						}
						return true
					}
					t.Queue(t.D, second)
					t.Await(t.D, first)
					t.Queue(t.D, second)
					return false
				})
			}},
		{Name: "Waiting/PriorityOvertakesABoundedNumber", Guarantee: "A level of priority is a head start of PriorityStep places, no more: the lowest is served.", Busy: true,
			Run: func(t *T) {
				const low = driver.PriorityStep + 4
				holder, requests := t.line(low, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), fmt.Sprintf("low %02d", i))
				})
				high := t.Request(t.Lock("a"), "high", priority(1))
				t.Queue(t.D, high)
				order := t.serve(holder, append(requests, high))
				at := slices.Index(order, "high")
				if overtaken := low - at; overtaken < driver.PriorityStep-1 || overtaken > driver.PriorityStep {
					t.Errorf("priority 1 overtook %d of %v", overtaken, order)
				}
				order = slices.Delete(order, at, at+1)
				if !slices.IsSorted(order) {
					t.Errorf("equal priorities changed their order: %v", order)
				}
			}},
		{Name: "Waiting/HintsReachTheNextWaiter", Guarantee: "Where the driver declares hints, a release wakes the next waiter.", Needs: []Need{NeedWatch},
			Run: func(t *T) {
				d := t.Open()
				next := t.watch(d)
				t.hinted(next, func(n int) driver.Hint {
					lock := t.Lock(fmt.Sprint(n))
					g := t.Must(t.D, t.Request(lock, "holder"))
					r := t.Request(lock, "waiter")
					t.Queue(d, r)
					t.Release(t.D, g)
					return driver.Hint{Kind: driver.HintGrantable, LockID: lock, RequestID: r.RequestID}
				})
			}},
		{Name: "Waiting/PollIsEnough", Guarantee: "A waiter that no hint reaches is granted within the declared poll interval by repeating when it was told to.",
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				r := t.Request(t.Lock("a"), "waiter")
				res := t.Queue(t.D, r)
				if res.RetryAfter <= 0 || res.RetryAfter > t.caps.Poll {
					t.Errorf("told to repeat after %v, the poll interval is %v", res.RetryAfter, t.caps.Poll)
				}
				t.Release(t.D, holder)
				released := t.now()
				for {
					t.pause(res.RetryAfter)
					sent := t.now()
					again, err := t.attempt(t.D, r)
					if err != nil {
						t.Fatalf("repeat: %v", err)
					}
					if res = again; res.Lease != nil {
						return
					}
					if late := sent.Sub(released) - t.caps.Poll; late > t.grace() {
						t.Fatalf("not granted %v after the poll interval", late)
					}
				}
			}},
		{Name: "Waiting/RepeatComesBeforeTheDeadline", Guarantee: "A waiter is told to repeat before its place runs out.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				r := t.Request(t.Lock("a"), "waiter", placeTTL(t.TTL()))
				if res := t.Queue(t.D, r); res.RetryAfter <= 0 || res.RetryAfter > r.PlaceTTL {
					t.Errorf("told to repeat after %v, the place lasts %v", res.RetryAfter, r.PlaceTTL)
				}
			}},
	}
}

// leave gives up whatever the request has.
func (t *T) leave(r *driver.AcquireRequest) { t.undo(r, "") }

// leaveAttempt gives up what this attempt at the request has.
func (t *T) leaveAttempt(r *driver.AcquireRequest) { t.undo(r, r.Key) }

func (t *T) undo(r *driver.AcquireRequest, key driver.Key) {
	if err := t.D.Leave(t.ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID, Key: key}); err != nil {
		t.Fatalf("leave: %v", err)
	}
}

// repeated is the request as another attempt makes it: under another secret.
func repeated(r *driver.AcquireRequest) *driver.AcquireRequest {
	again := *r
	again.Key = driver.KeyOf("repeat of " + r.RequestID)
	return &again
}
