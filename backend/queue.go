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
	if err := validPriority(req.Priority); err != nil {
		return nil, err
	}
	d, ok := driver.As[driver.QueueEditor](s.d)
	if !ok || !s.caps.EditQueue {
		return nil, fmt.Errorf("changing a queue is %w", driver.ErrUnsupported)
	}
	return d.EditPlace(ctx, &driver.EditPlaceRequest{LockID: req.LockID, Ticket: req.Ticket, Drop: drop, Priority: req.Priority})
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
