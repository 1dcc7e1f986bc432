package conformance

import (
	"fmt"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func placeCases() []Case {
	return []Case{
		{Name: "Waiting/LastTryDropsThePlace", Guarantee: "A waiter whose repeated attempt does not ask for a place any more loses it.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				_, requests := t.line(1, func(int) *driver.AcquireRequest { return t.Request(t.Lock("a"), "waiter") })
				requests[0].Enqueue = false
				t.Refused(t.D, requests[0])
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 0 {
					t.Errorf("waiters %+v", l.Waiters)
				}
			}},
		{Name: "Waiting/DeadWaitersArePassedOverInOneStep", Guarantee: "Waiters whose places ran out do not delay the living, however many they are, and the living keep their order.", Busy: true, Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				for _, dead := range []int{1, 10, 50} {
					lock := t.Lock(fmt.Sprint(dead))
					holder := t.Must(t.D, t.Request(lock, "holder"))
					for i := range dead {
						t.Queue(t.D, t.Request(lock, fmt.Sprint("dead ", i), placeTTL(t.TTL())))
					}
					first, second := t.Request(lock, "first"), t.Request(lock, "second")
					t.Queue(t.D, first)
					t.Queue(t.D, second)
					t.pause(t.TTL() + 50*time.Millisecond)
					t.Release(t.D, holder)
					if res, err := t.attempt(t.D, second); err != nil || res.Lease != nil {
						t.Errorf("behind %d dead ones the second was answered %+v, %v", dead, res, err)
					}
					res, err := t.attempt(t.D, first)
					if err != nil || res.Lease == nil {
						t.Errorf("behind %d dead ones the first living waiter was answered %+v, %v; want the grant in one step", dead, res, err)
					}
				}
			}},
		{Name: "Waiting/MiddleWaiterDies", Guarantee: "A dead waiter in the middle grants nothing before the holder leaves.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				lock := t.Lock("a")
				holder := t.Must(t.D, t.Request(lock, "holder"))
				first, third := t.Request(lock, "first"), t.Request(lock, "third")
				t.Queue(t.D, first)
				t.Queue(t.D, t.Request(lock, "dead", placeTTL(t.TTL()/2)))
				t.Queue(t.D, third)
				t.pause(t.TTL())
				if res := t.Queue(t.D, third); res.Position != 2 {
					t.Errorf("the last one stands at %d, want 2", res.Position)
				}
				t.Release(t.D, holder)
				t.Await(t.D, first)
			}},
		{Name: "Waiting/TicketNamesThePlace", Guarantee: "A place is shown under one ticket, by Inspect and by List, for as long as it stands; the place of another request, and a later one of the same owner, has a higher ticket.",
			Run: func(t *T) {
				lock := t.Lock("a")
				t.Must(t.D, t.Request(lock, "holder"))
				ticket := func(owner string) int64 {
					page, err := t.D.List(t.ctx, &driver.ListRequest{Prefix: lock, Contended: true, PageSize: 1})
					if err != nil || len(page.Locks) != 1 {
						t.Fatalf("list: %+v, %v", page, err)
					}
					inspected, listed := ticketOf(t.Inspect(t.D, lock), owner), ticketOf(&page.Locks[0], owner)
					if inspected != listed {
						t.Errorf("the place of %s has the ticket %d, and %d in a listing", owner, inspected, listed)
					}
					return inspected
				}
				first, second := t.Request(lock, "first"), t.Request(lock, "second", priority(9))
				t.Queue(t.D, first)
				t.Queue(t.D, second)
				one, two := ticket("first"), ticket("second")
				t.Queue(t.D, first)
				if again := ticket("first"); one <= 0 || two <= one || again != one {
					t.Errorf("the first place has the ticket %d, after a repeat %d, the second one %d", one, again, two)
				}
				if err := t.D.Leave(t.ctx, &driver.LeaveRequest{LockID: lock, RequestID: first.RequestID}); err != nil {
					t.Fatalf("leave: %v", err)
				}
				t.Queue(t.D, t.Request(lock, "first"))
				if later := ticket("first"); later <= two {
					t.Errorf("a new place has the ticket %d, not above %d", later, two)
				}
			}},
		{Name: "Waiting/PlaceIsKeptByRepeating", Guarantee: "A waiter that repeats in time keeps its place beyond its first deadline.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				t.unlessLate(func(d time.Duration) (late bool) {
					lock := t.Lock(d.String())
					t.Must(t.D, t.Request(lock, "holder"))
					first := t.Request(lock, "first", placeTTL(d))
					end := t.now().Add(d)
					t.Queue(t.D, first)
					t.Queue(t.D, t.Request(lock, "dead", placeTTL(d)))
					living := t.Request(lock, "living")
					t.Queue(t.D, living)
					for range 8 {
						t.pause(d / 4)
						sent := t.now()
						if res := t.Queue(t.D, first); res.Position != 1 {
							if t.now() >= end {
								return true
							}
							t.Fatalf("the first waiter stands at %d", res.Position)
						}
						end = sent.Add(d)
					}
					if res := t.Queue(t.D, living); res.Position != 2 && t.now() < end {
						t.Errorf("the last waiter stands at %d, want 2: behind the one that repeats", res.Position)
					}
					return t.now() >= end
				})
			}},
		{Name: "Waiting/LivingKeepTheirOrderAmongTheDead", Guarantee: "When every other waiter dies, the living ones are granted in the order in which they queued.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				var living []*driver.AcquireRequest
				for i := range 20 {
					r := t.Request(t.Lock("a"), fmt.Sprintf("%02d", i))
					if i%2 == 1 {
						r.PlaceTTL = t.TTL()
					} else {
						living = append(living, r)
					}
					t.Queue(t.D, r)
				}
				t.pause(t.TTL() + 50*time.Millisecond)
				if order := t.serve(holder, living); !slices.IsSorted(order) || len(order) != len(living) {
					t.Errorf("granted in the order %v", order)
				}
			}},
		{Name: "Waiting/DiedInTheQueueIsNotGranted", Guarantee: "A waiter whose place ran out has no claim: it is not granted, and when it returns it stands behind those who lived.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				dead, living := t.Request(t.Lock("a"), "dead", placeTTL(t.TTL())), t.Request(t.Lock("a"), "living")
				t.Queue(t.D, dead)
				t.Queue(t.D, living)
				t.pause(t.TTL() + 50*time.Millisecond)
				t.Release(t.D, holder)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 0 || len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "living" {
					t.Errorf("the lock is %+v, want only the living waiter", l)
				}
				dead.PlaceTTL = lasting
				if res := t.Queue(t.D, dead); res.Position != 2 || res.QueueLength != 2 {
					t.Errorf("the returned one has the place %d of %d, want 2 of 2", res.Position, res.QueueLength)
				}
				t.Release(t.D, t.Await(t.D, living))
				t.Await(t.D, dead)
			}},
		{Name: "Waiting/NoPlaceRunsOutEarly", Guarantee: "No place of many runs out before its time, counted from its request.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				const n = 30
				ends := make(map[string]driver.Instant)
				for i := range n {
					r := t.Request(t.Lock("a"), fmt.Sprint(i), placeTTL(t.TTL()+time.Duration(i*37%n)*t.TTL()/n))
					ends[r.OwnerID] = t.now().Add(r.PlaceTTL)
					t.Queue(t.D, r)
				}
				for deadline := t.now().Add(patience); len(ends) > 0; t.pause(time.Millisecond) {
					standing := make(map[string]bool)
					for _, w := range t.Inspect(t.D, t.Lock("a")).Waiters {
						standing[w.OwnerID] = true
					}
					seen := t.now()
					for owner, end := range ends {
						if !standing[owner] && seen < end {
							t.Errorf("the place of %s ran out %v early", owner, end.Sub(seen))
						}
						if !standing[owner] {
							delete(ends, owner)
						}
					}
					if seen > deadline {
						t.Fatalf("%d places do not run out", len(ends))
					}
				}
			}},
		{Name: "Waiting/ShorterPlaceRunsOut", Guarantee: "A repeat that asks for a shorter place moves the place's end to it.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				r := t.Request(t.Lock("a"), "waiter")
				t.Queue(t.D, r)
				r.PlaceTTL = t.TTL() / 2
				t.Queue(t.D, r)
				t.pause(t.TTL())
				t.Release(t.D, holder)
				t.Must(t.D, t.Request(t.Lock("a"), "next"))
			}},
		{Name: "Waiting/PlaceSurvivesItsConnection", Guarantee: "A waiter whose driver went away keeps its place when it returns in time through another.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				holder := t.Must(t.D, t.Request(t.Lock("a"), "holder"))
				gone, err := t.h.Open(t.ctx)
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				first, second := t.Request(t.Lock("a"), "first"), t.Request(t.Lock("a"), "second")
				t.Queue(gone, first)
				t.Queue(t.D, second)
				if err := gone.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				if res := t.Queue(t.Open(), first); res.Position != 1 || res.QueueLength != 2 {
					t.Errorf("the returned one has the place %d of %d, want 1 of 2", res.Position, res.QueueLength)
				}
				if order := t.serve(holder, []*driver.AcquireRequest{first, second}); !slices.Equal(order, []string{"first", "second"}) {
					t.Errorf("granted in the order %v", order)
				}
			}},
		{Name: "Waiting/PlaceOfAHolderIsDropped", Guarantee: "A waiter whose owner meanwhile got the lock is refused as held by itself, and leaves no place behind that others would wait for.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				holder, requests := t.line(3, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), []string{"twice", "twice", "next"}[i])
				})
				t.Release(t.D, holder)
				g := t.Await(t.D, requests[0])
				if held := t.Refused(t.D, requests[1]); !held.BySelf {
					t.Errorf("refused by %+v, want itself", held)
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "next" {
					t.Errorf("waiters %+v, want the next one alone", l.Waiters)
				}
				t.Release(t.D, g)
				if order := t.serve(t.Await(t.D, requests[2]), nil); len(order) != 0 {
					t.Errorf("further grants %v", order)
				}
			}},
	}
}

// ticketOf is that of the owner's place; 0 if there is none.
func ticketOf(l *driver.Lock, owner string) int64 {
	for _, w := range l.Waiters {
		if w.OwnerID == owner {
			return w.Ticket
		}
	}
	return 0
}
