package backend

import (
	"context"
	"fmt"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// CancelWaiter ends another's wait, and returns its place as it was. The waiting
// acquire fails with a driver.LostError, cause forced, when its sidecar asks again.
func (s *Store) CancelWaiter(ctx context.Context, req *WaiterRequest) (*driver.Waiter, error) {
	w, err := s.editPlace(ctx, req, true)
	if err != nil {
		return nil, fmt.Errorf("cancel-waiter %q: %w", req.LockID, err)
	}
	s.o.Observer.Happened(req.event(Cancelled, w))
	return w, nil
}

// Reprioritize gives another's place another priority, and returns it as it is now.
func (s *Store) Reprioritize(ctx context.Context, req *WaiterRequest) (*driver.Waiter, error) {
	w, err := s.editPlace(ctx, req, false)
	if err != nil {
		return nil, fmt.Errorf("reprioritize %q: %w", req.LockID, err)
	}
	s.o.Observer.Happened(req.event(Reprioritized, w))
	return w, nil
}

func (s *Store) editPlace(ctx context.Context, req *WaiterRequest, drop bool) (*driver.Waiter, error) {
	if err := ValidLockID(req.LockID); err != nil {
		return nil, err
	}
	if req.Ticket <= 0 {
		return nil, &InvalidError{"ticket", fmt.Sprintf("is %d", req.Ticket), "the ticket of the waiter, as Get shows it"}
	}
	priority := req.Priority
	if err := validPriority(priority); err != nil {
		return nil, err
	}
	if req.First {
		if priority != 0 {
			return nil, &InvalidError{"priority", "is set beside first", "one of them"}
		}
		priority = driver.FirstPriority
	}
	return s.edit(ctx, &driver.EditPlaceRequest{LockID: req.LockID, Ticket: req.Ticket, Drop: drop, Priority: priority})
}

func (s *Store) edit(ctx context.Context, req *driver.EditPlaceRequest) (*driver.Waiter, error) {
	d, ok := driver.As[driver.QueueEditor](s.d)
	if !ok || !s.caps.EditQueue {
		return nil, fmt.Errorf("changing a queue is %w", driver.ErrUnsupported)
	}
	return d.EditPlace(ctx, req)
}

// goFirst moves the place of a drain, and every place that it gets anew, before all
// others. If that fails, the next attempt does it.
func (q *acquisition) goFirst(res *driver.AcquireResult) {
	if q.req.Drain == nil || q.first == res.Ticket {
		return
	}
	w, err := q.s.edit(q.ctx, &driver.EditPlaceRequest{LockID: q.req.LockID, Ticket: res.Ticket, Priority: driver.FirstPriority})
	if err != nil {
		return
	}
	q.first, res.Position = res.Ticket, w.Position
	q.s.o.Observer.Happened((&WaiterRequest{LockID: q.req.LockID, Reason: q.req.Drain.Reason, By: q.req.Drain.By}).event(Reprioritized, w))
}

func (r *WaiterRequest) event(k Kind, w *driver.Waiter) Event {
	return Event{
		Kind: k, LockID: r.LockID, OwnerID: w.OwnerID, RequestID: w.RequestID, Shared: w.Shared, Reason: r.Reason, By: r.By,
		Ticket: w.Ticket, Priority: w.Priority, Position: w.Position,
	}
}

func validPriority(p int) error {
	if p < 0 || p > driver.MaxPriority {
		return &InvalidError{"priority", fmt.Sprintf("is %d", p), fmt.Sprintf("0 to %d", driver.MaxPriority)}
	}
	return nil
}
