package conformance

import (
	"fmt"
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
		{Name: "Waiting/DeadWaitersArePassedOverInOneStep", Guarantee: "Waiters whose places ran out do not delay the living, however many they are, and the living keep their order.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				for _, dead := range []int{1, 10, 50} {
					lock := t.Lock(fmt.Sprint(dead))
					holder := t.Must(t.D, t.Request(lock, "holder", ttl(30*time.Second)))
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
				holder := t.Must(t.D, t.Request(lock, "holder", ttl(30*time.Second)))
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
		{Name: "Waiting/PlaceIsKeptByRepeating", Guarantee: "A waiter that repeats in time keeps its place beyond its first deadline.", Needs: []Need{NeedPlaces},
			Run: func(t *T) {
				_, requests := t.line(2, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), fmt.Sprint(i), placeTTL(t.TTL()), ttl(30*time.Second))
				})
				for range 4 {
					t.pause(t.TTL() / 2)
					if res := t.Queue(t.D, requests[0]); res.Position != 1 {
						t.Fatalf("the first waiter stands at %d", res.Position)
					}
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Waiters) != 1 {
					t.Errorf("%d waiters, want the one that repeats", len(l.Waiters))
				}
			}},
	}
}
