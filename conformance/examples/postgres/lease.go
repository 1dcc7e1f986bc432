package postgres

import (
	"context"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Renew prolongs a lease.
func (s *Store) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return s.prolong(ctx, req, false)
}

// Adopt attaches the caller to a standing lease.
func (s *Store) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return s.prolong(ctx, req, true)
}

func (s *Store) prolong(ctx context.Context, req *driver.RenewRequest, adopt bool) (*driver.Lease, error) {
	return change(ctx, s, req.LockID, func(r *record, at moment) (*driver.Lease, error) {
		return r.prolong(req, max(req.TTL, s.o.MinTTL), adopt, at)
	})
}

// Release ends one hold.
func (s *Store) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return change(ctx, s, req.LockID, func(r *record, _ moment) (*driver.ReleaseResult, error) { return r.release(req) })
}

// Leave drops a place or a grant that nobody received.
func (s *Store) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	_, err := change(ctx, s, req.LockID, func(r *record, _ moment) (struct{}, error) {
		r.leave(req)
		return struct{}{}, nil
	})
	return err
}

// find is the lease that ref proves, by the order of comparisons that
// driver.LeaseRef describes. If it fails for a lease that is remembered, it also
// gives that lease's end.
func (r *record) find(ref driver.LeaseRef) (*lease, *end, error) {
	l := r.leaseOf(func(l *lease) bool { return l.Token == ref.Token })
	if l == nil {
		if other := r.leaseOf(func(l *lease) bool { return l.Key == ref.Key }); other != nil {
			return nil, nil, &driver.TokenError{Expected: other.Token, Actual: ref.Token}
		}
		e := r.endOf(func(e end) bool { return e.Token == ref.Token && e.Key == ref.Key })
		if e == nil {
			return nil, nil, driver.Lost(driver.CauseUnknown)
		}
		return nil, e, driver.Lost(e.Cause)
	}
	switch {
	case l.Key != ref.Key:
		return nil, nil, driver.ErrNotOwner
	case ref.Attach != 0 && ref.Attach != l.Attach:
		return nil, nil, driver.Lost(driver.CauseReattached)
	}
	return l, nil, nil
}

func (r *record) prolong(req *driver.RenewRequest, ttl time.Duration, adopt bool, at moment) (*driver.Lease, error) {
	l, _, err := r.find(req.LeaseRef)
	switch {
	case err != nil:
		return nil, err
	case l.Revoked:
		return nil, driver.Lost(driver.CauseForced)
	case adopt:
		l.Attach++
	}
	l.TTL = ttl
	l.Expires = max(l.Expires, at.now.add(ttl)) // never shorter
	return l.told(req.LockID, at), nil
}

func (r *record) release(req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	l, gone, err := r.find(req.LeaseRef)
	switch {
	case gone != nil && (gone.Cause == driver.CauseReleased || r.released(req)):
		return &driver.ReleaseResult{}, nil // repeated
	case err != nil:
		return nil, err
	case req.RequestID == "" && len(l.Holds) > 1:
		return nil, driver.ErrAmbiguousHold
	}
	request := req.RequestID
	if request == "" {
		request = l.Holds[0]
	}
	return &driver.ReleaseResult{HoldCount: r.dropHold(l, request, ""), OwnerID: l.Owner, Shared: l.Shared}, nil
}

// released says whether the hold was released before its lease ended otherwise.
func (r *record) released(req *driver.ReleaseRequest) bool {
	e := r.endOf(func(e end) bool { return e.Request == req.RequestID && e.Token == req.Token && e.Key == req.Key })
	return e != nil && e.Cause == driver.CauseReleased
}

// dropHold ends a hold, and the lease with its last one; it returns how many are
// left. A hold that is not there was released before. attempt is as in end.
func (r *record) dropHold(l *lease, request string, attempt driver.Key) int {
	i := slices.Index(l.Holds, request)
	if i < 0 {
		return len(l.Holds)
	}
	l.Holds = slices.Delete(l.Holds, i, i+1)
	r.remember(end{Request: request, Token: l.Token, Key: l.Key, Cause: driver.CauseReleased, Attempt: attempt})
	if len(l.Holds) == 0 {
		r.endLease(l, driver.CauseReleased)
	}
	return len(l.Holds)
}

func (r *record) leave(req *driver.LeaveRequest) {
	mine := func(key driver.Key) bool { return req.Key == "" || req.Key == key }
	if i := r.placeOf(req.RequestID); i >= 0 && mine(r.Places[i].Key) {
		r.dropPlace(req.RequestID)
	}
	if l := r.leaseOf(func(l *lease) bool { return slices.Contains(l.Holds, req.RequestID) }); l != nil {
		if mine(l.Key) {
			r.dropHold(l, req.RequestID, req.Key)
		}
		return
	}
	// An acquire that is still on its way must not be granted.
	if r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }) == nil {
		r.remember(end{Request: req.RequestID, Cause: driver.CauseReleased, Attempt: req.Key})
	}
}
