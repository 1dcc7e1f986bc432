package conformance

import (
	"errors"
	"fmt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func editCases() []Case {
	return []Case{
		{Name: "Admin/QueueIsEditedAsDeclared", Guarantee: "A driver that declares it changes places for operators, another cannot; a ticket that no waiter has changes nothing.",
			Run: func(t *T) {
				lock := t.Lock("a")
				holder := t.Must(t.D, t.Request(lock, "holder"))
				first := t.Request(lock, "first")
				t.Queue(t.D, first)
				granted := ticketOf(t.Inspect(t.D, lock), "first")
				t.Release(t.D, holder)
				g := t.Await(t.D, first)
				for _, drop := range []bool{true, false} {
					for _, ticket := range []int64{granted, granted + 1000} {
						w, err := t.edit(&driver.EditPlaceRequest{LockID: lock, Ticket: ticket, Drop: drop})
						if want := map[bool]error{true: driver.ErrNoPlace, false: driver.ErrUnsupported}[t.caps.EditQueue]; !errors.Is(err, want) {
							t.Errorf("the driver declares %t; dropping (%t) the place of nobody: %+v, %v; want %v", t.caps.EditQueue, drop, w, err, want)
						}
					}
				}
				if _, err := t.Renew(t.D, g); err != nil {
					t.Errorf("the lease whose place it was: %v", err)
				}
			}},
		{Name: "Admin/DroppedPlaceIsTold", Guarantee: "A place that an operator drops is gone at once and stops nobody; its waiter's next attempt, under whatever key, fails as forced and makes no new place; leases are not touched.", Needs: []Need{NeedEdit},
			Run: func(t *T) {
				lock := t.Lock("a")
				holder := t.Must(t.D, t.Request(lock, "holder"))
				first, second := t.Request(lock, "first"), t.Request(lock, "second")
				t.Queue(t.D, first)
				t.Queue(t.D, second)
				ticket := ticketOf(t.Inspect(t.D, lock), "first")
				other := t.Open()
				w, err := t.editBy(other, &driver.EditPlaceRequest{LockID: lock, Ticket: ticket, Drop: true})
				if err != nil || w.OwnerID != "first" || w.Ticket != ticket || w.Position != 1 {
					t.Fatalf("dropped %+v, %v", w, err)
				}
				if l := t.Inspect(t.D, lock); len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "second" || len(l.Holders) != 1 {
					t.Errorf("the lock has %+v", l)
				}
				if w, err := t.editBy(other, &driver.EditPlaceRequest{LockID: lock, Ticket: ticket, Drop: true}); !errors.Is(err, driver.ErrNoPlace) {
					t.Errorf("dropped twice: %+v, %v", w, err)
				}
				for range 2 {
					first.Enqueue = true
					t.forced(first)
				}
				again := *first
				again.Key = driver.KeyOf("another attempt at it")
				t.forced(&again)
				if l := t.Inspect(t.D, lock); len(l.Waiters) != 1 {
					t.Errorf("after the waiter's repeats the lock has %+v", l.Waiters)
				}
				if _, err := t.Renew(t.D, holder); err != nil {
					t.Errorf("the holder: %v", err)
				}
				t.Release(t.D, holder)
				t.Await(t.D, second)
			}},
		{Name: "Admin/MovedPlaceIsOrderedByItsPriority", Guarantee: "A place that an operator gives another priority keeps its ticket and stands where that puts it, whatever priority its waiter repeats; the order of grants follows.", Needs: []Need{NeedEdit},
			Run: func(t *T) {
				lock := t.Lock("a")
				holder := t.Must(t.D, t.Request(lock, "holder"))
				first, second, third := t.Request(lock, "first"), t.Request(lock, "second"), t.Request(lock, "third", priority(9))
				for _, r := range []*driver.AcquireRequest{first, second, third} {
					t.Queue(t.D, r)
				}
				order := func(want ...string) {
					for i, w := range t.Inspect(t.D, lock).Waiters {
						if i >= len(want) || w.OwnerID != want[i] || w.Position != i+1 {
							t.Errorf("at %d stands %s, want the order %v", i+1, w.OwnerID, want)
						}
					}
				}
				order("third", "first", "second")
				move := func(owner string, priority, position int) {
					ticket := ticketOf(t.Inspect(t.D, lock), owner)
					w, err := t.editBy(t.Open(), &driver.EditPlaceRequest{LockID: lock, Ticket: ticket, Priority: priority})
					if err != nil || w.OwnerID != owner || w.Ticket != ticket || w.Priority != priority || w.Position != position {
						t.Fatalf("moved %s to the priority %d: %+v, %v; want it at %d", owner, priority, w, err, position)
					}
				}
				move("third", 0, 3)
				order("first", "second", "third")
				t.Queue(t.D, third) // with the priority 9
				order("first", "second", "third")
				move("second", 5, 1)
				move("second", 5, 1)
				order("second", "first", "third")
				t.Release(t.D, holder)
				for _, r := range []*driver.AcquireRequest{second, first, third} {
					t.Release(t.D, t.Await(t.D, r))
				}
			}},
		{Name: "Admin/FirstPlaceIsBeforeAll", Guarantee: "A place that an operator puts before all others stands there, however long the queue and whatever its priorities, and those that come later queue behind it.", Needs: []Need{NeedEdit},
			Run: func(t *T) {
				lock := t.Lock("a")
				holder := t.Must(t.D, t.Request(lock, "holder"))
				// The drain is later by more tickets than the priorities make good.
				var queue []*driver.AcquireRequest
				for i := range driver.MaxPriority*driver.PriorityStep + 3 {
					r := t.Request(lock, fmt.Sprint(i), priority(i%2*driver.MaxPriority))
					t.Queue(t.D, r)
					queue = append(queue, r)
				}
				drain := t.Request(lock, "drain")
				t.Queue(t.D, drain)
				ticket := ticketOf(t.Inspect(t.D, lock), "drain")
				w, err := t.editBy(t.Open(), &driver.EditPlaceRequest{LockID: lock, Ticket: ticket, Priority: driver.FirstPriority})
				if err != nil || w.OwnerID != "drain" || w.Ticket != ticket || w.Priority != driver.FirstPriority || w.Position != 1 {
					t.Fatalf("put first: %+v, %v", w, err)
				}
				t.Queue(t.D, t.Request(lock, "late", priority(driver.MaxPriority)))
				if l := t.Inspect(t.D, lock); l.Waiters[0].OwnerID != "drain" || l.Waiters[0].Priority != driver.FirstPriority || len(l.Waiters) != len(queue)+2 {
					t.Errorf("the queue is led by %+v, of %d", l.Waiters[0], len(l.Waiters))
				}
				t.Release(t.D, holder)
				t.Queue(t.D, queue[1])
				g := t.Await(t.D, drain)
				t.Queue(t.D, queue[1])
				t.Release(t.D, g)
				t.Release(t.D, t.Await(t.D, queue[1]))
			}},
	}
}

// forced repeats an acquire that an operator has ended.
func (t *T) forced(r *driver.AcquireRequest) {
	_, err := t.attempt(t.D, r)
	t.Lost(err, driver.CauseForced)
}

// edit changes a place by the driver of the case.
func (t *T) edit(req *driver.EditPlaceRequest) (*driver.Waiter, error) { return t.editBy(t.D, req) }

func (t *T) editBy(d driver.Driver, req *driver.EditPlaceRequest) (*driver.Waiter, error) {
	e, ok := driver.As[driver.QueueEditor](d)
	if !ok {
		return nil, driver.ErrUnsupported
	}
	return e.EditPlace(t.ctx, req)
}
