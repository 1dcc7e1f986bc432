package embedded

import (
	"context"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// find returns the lease that ref proves. For a lease that ended it also returns its
// end.
func (r *record) find(ref driver.LeaseRef) (h *holder, ended *end, err error) {
	h, err = driver.Proven(ref, r.holders, (*holder).proof, func() driver.Cause {
		e, ok := r.endOf(func(e end) bool { return e.token == ref.Token && e.key == ref.Key })
		if !ok {
			return driver.CauseUnknown
		}
		ended = &e
		return e.cause
	})
	return h, ended, err
}

func (h *holder) proof() driver.Proof {
	return driver.Proof{Token: h.token, Key: h.key, Attach: h.attach}
}

// Renew prolongs a lease.
func (d *Driver) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return d.prolong(ctx, req, false)
}

// Adopt attaches the caller to a standing lease.
func (d *Driver) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return d.prolong(ctx, req, true)
}

func (d *Driver) prolong(ctx context.Context, req *driver.RenewRequest, adopt bool) (*driver.Lease, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return d.prolonged(req, adopt).wait(ctx)
}

func (d *Driver) prolonged(req *driver.RenewRequest, adopt bool) answer[*driver.Lease] {
	return change(d, req.LockID, func(r *record, at moment) (*driver.Lease, error) {
		h, _, err := r.find(req.LeaseRef)
		if err != nil {
			return nil, err
		}
		if h.revoked {
			return nil, driver.Lost(driver.CauseForced)
		}
		r.changed = true
		if adopt {
			r.tell(h)
			h.attach++
			h.to = d
		}
		h.ttl = max(req.TTL, d.m.o.MinTTL)
		h.expires = max(h.expires, at.now.Add(h.ttl))
		return h.lease(r.id, at), nil
	})
}

// RenewMany renews one by one, and waits for the disk, if there is one, once.
func (d *Driver) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	results := make([]driver.RenewResult, len(reqs))
	if err := d.check(ctx); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	answers := make([]answer[*driver.Lease], len(reqs))
	for i := range reqs {
		answers[i] = d.prolonged(&reqs[i], false)
	}
	for i, a := range answers {
		results[i].Lease, results[i].Err = a.wait(ctx)
	}
	return results
}

// Release ends one hold.
func (d *Driver) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return d.release(req).wait(ctx)
}

func (d *Driver) release(req *driver.ReleaseRequest) answer[*driver.ReleaseResult] {
	return change(d, req.LockID, func(r *record, _ moment) (*driver.ReleaseResult, error) {
		h, e, lost := r.find(req.LeaseRef)
		switch {
		case e != nil && (e.cause == driver.CauseReleased || r.released(req)):
			return &driver.ReleaseResult{}, nil // repeated
		case lost != nil:
			return nil, lost
		case req.RequestID == "" && len(h.holds) > 1:
			return nil, driver.ErrAmbiguousHold
		}
		request := req.RequestID
		if request == "" {
			request = h.holds[0]
		}
		res := &driver.ReleaseResult{HoldCount: r.dropHold(h, request), OwnerID: h.owner, Shared: h.shared}
		if req.Attach == 0 && res.HoldCount == 0 {
			r.tell(h)
		}
		return res, nil
	})
}

// released says whether the hold was released before its lease ended otherwise.
func (r *record) released(req *driver.ReleaseRequest) bool {
	e, ok := r.endOf(func(e end) bool { return e.request == req.RequestID && e.token == req.Token && e.key == req.Key })
	return ok && e.cause == driver.CauseReleased
}

// dropHold ends a hold, and the lease with its last one; it returns the number
// of holds left. A hold that is not there was released before.
func (r *record) dropHold(h *holder, request string) int {
	i := slices.Index(h.holds, request)
	if i < 0 {
		return len(h.holds)
	}
	if len(h.holds) == 1 {
		r.endLease(h, driver.CauseReleased)
		r.wake()
		return 0
	}
	h.holds = slices.Delete(h.holds, i, i+1)
	r.remember(end{request: request, token: h.token, key: h.key, cause: driver.CauseReleased})
	return len(h.holds)
}

// Leave drops a place or an undelivered grant, and leaves a tombstone.
func (d *Driver) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	if err := d.check(ctx); err != nil {
		return err
	}
	_, err := change(d, req.LockID, func(r *record, _ moment) (none, error) {
		mine := func(key driver.Key) bool { return req.Key == "" || req.Key == key }
		if w := r.byRequest[req.RequestID]; w != nil && mine(w.key) {
			r.dequeue(w)
			r.wake()
		}
		if h := r.holderOf(func(h *holder) bool { return slices.Contains(h.holds, req.RequestID) }); h != nil {
			if !mine(h.key) {
				return none{}, nil
			}
			if r.dropHold(h, req.RequestID) == 0 && h.to != d {
				r.tell(h)
			}
			r.ends[len(r.ends)-1].attempt = req.Key
			return none{}, nil
		}
		if _, ok := r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }); !ok {
			r.remember(end{request: req.RequestID, cause: driver.CauseReleased, attempt: req.Key})
		}
		return none{}, nil
	}).wait(ctx)
	return err
}
