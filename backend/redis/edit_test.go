package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// The script finds the one place with the ticket, drops or moves it, and what it
// leaves is what every other script expects.
func TestOperatorsEditTheQueue(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	holder := request("a", "holder")
	lease := granted(t, s, holder)
	edit := func(ticket int64, drop bool, priority int) (*driver.Waiter, error) {
		return s.EditPlace(t.Context(), &driver.EditPlaceRequest{LockID: "a", Ticket: ticket, Drop: drop, Priority: priority})
	}
	if _, err := edit(1, true, 0); !errors.Is(err, driver.ErrNoPlace) {
		t.Errorf("without a queue: %v", err)
	}
	var waiters []*driver.AcquireRequest
	for _, name := range []string{"one", "two", "three"} {
		r := request("a", name)
		r.Enqueue, r.PlaceTTL = true, time.Minute
		if res, err := s.Acquire(t.Context(), r); err != nil || res.Lease != nil {
			t.Fatalf("%+v, %v", res, err)
		}
		waiters = append(waiters, r)
	}
	if w, err := edit(3, false, 2); err != nil || w.OwnerID != waiters[2].OwnerID || w.Position != 1 || w.Priority != 2 || w.Ticket != 3 || w.Remaining <= 0 {
		t.Errorf("moved %+v, %v", w, err)
	}
	if w, err := edit(2, true, 0); err != nil || w.OwnerID != waiters[1].OwnerID || w.Position != 3 || w.RequestID != waiters[1].RequestID {
		t.Errorf("dropped %+v, %v", w, err)
	}
	if _, err := s.Acquire(t.Context(), waiters[1]); causeOf(err) != driver.CauseForced {
		t.Errorf("the dropped one: %v", err)
	}
	l, err := s.Inspect(t.Context(), "a")
	if err != nil || len(l.Waiters) != 2 || l.Waiters[0].Ticket != 3 || l.Waiters[0].Priority != 2 || l.Waiters[1].Ticket != 1 {
		t.Errorf("the queue is %+v, %v", l.Waiters, err)
	}
	if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(holder, lease), RequestID: holder.RequestID}); err != nil {
		t.Fatal(err)
	}
	if res, err := s.Acquire(t.Context(), waiters[0]); err != nil || res.Lease != nil || res.Position != 2 {
		t.Errorf("the first one: %+v, %v; want it behind the moved one", res, err)
	}
	if res, err := s.Acquire(t.Context(), waiters[2]); err != nil || res.Lease == nil {
		t.Errorf("the moved one: %+v, %v", res, err)
	}
}
