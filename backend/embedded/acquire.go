package embedded

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire makes one attempt, as driver.Driver describes it step by step.
func (d *Driver) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	return d.acquire(req).wait(ctx)
}

// acquire makes the attempt; what it returns waits for the disk.
func (d *Driver) acquire(req *driver.AcquireRequest) answer[*driver.AcquireResult] {
	return change(d, req.LockID, func(r *record, at moment) (*driver.AcquireResult, error) {
		res, err := d.attempt(r, at, req)
		if err == nil {
			res.Evicted = d.m.report(r, at)
		}
		return res, err
	})
}

func (d *Driver) attempt(r *record, at moment, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	ttl := max(req.TTL, d.m.o.MinTTL)
	if h := r.holderOf(func(h *holder) bool { return slices.Contains(h.holds, req.RequestID) }); h != nil {
		return d.repeat(r, h, at, req)
	}
	if e, ok := r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }); ok {
		return nil, driver.Lost(e.cause)
	}
	if h := r.holderOf(func(h *holder) bool { return h.owner == req.OwnerID }); h != nil {
		return d.reenter(r, h, at, req, ttl)
	}
	w := r.byRequest[req.RequestID]
	ahead := len(r.waiters) > 0
	if w != nil {
		ahead = !r.first(w)
	} else if ahead && req.Enqueue {
		// A newcomer is ordered among the living before it can be granted.
		w = d.place(r, at, req)
		ahead = !r.first(w)
	}
	switch {
	case !ahead && r.admits(req.Shared):
		res := &driver.AcquireResult{}
		if w != nil {
			r.dequeue(w)
			res.Ticket = w.ticket
		}
		res.Lease = d.grant(r, at, req, ttl).lease(r.id, at)
		return res, nil
	case req.Enqueue:
		if w == nil {
			w = d.place(r, at, req)
		}
		if w.key != req.Key || w.lasts != req.PlaceTTL {
			r.changed = true
		}
		w.deadline, w.to, w.key, w.lasts = at.now.Add(req.PlaceTTL), d, req.Key, req.PlaceTTL
		r.firstDeath = min(r.firstDeath, w.deadline)
		return d.queued(r, w, at, req), nil
	}
	if w != nil {
		r.dequeue(w)
		r.wake()
	}
	return nil, r.held(at)
}

// repeat answers an acquire whose reply may have been lost.
func (d *Driver) repeat(r *record, h *holder, at moment, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if h.revoked {
		return nil, driver.Lost(driver.CauseForced)
	}
	if h.key != req.Key {
		if h.to != d {
			r.tell(h)
		}
		h.key, h.to = req.Key, d
		h.attach++
		r.changed = true
	}
	return &driver.AcquireResult{Lease: h.lease(r.id, at)}, nil
}

// reenter adds a hold to the owner's own lease, or says that it holds it. A
// place that the request took before is of no use any more: left standing, it
// would keep others waiting until it ran out.
func (d *Driver) reenter(r *record, h *holder, at moment, req *driver.AcquireRequest, ttl time.Duration) (*driver.AcquireResult, error) {
	if w := r.byRequest[req.RequestID]; w != nil {
		r.dequeue(w)
		r.wake()
	}
	if !req.Reentrant || h.key != req.Key || h.shared != req.Shared || h.revoked {
		public := h.public(at)
		return nil, &driver.HeldError{Holder: &public, QueueLength: len(r.waiters), BySelf: true, OtherMode: h.shared != req.Shared}
	}
	r.changed = true
	h.holds = append(h.holds, req.RequestID)
	h.ttl = max(h.ttl, ttl)
	h.expires = max(h.expires, at.now.Add(h.ttl))
	return &driver.AcquireResult{Lease: h.lease(r.id, at)}, nil
}

// grant makes the lease.
func (d *Driver) grant(r *record, at moment, req *driver.AcquireRequest, ttl time.Duration) *holder {
	r.last = driver.NextToken(r.last, req.TokenFloor, at.wall.UnixMicro())
	h := &holder{
		owner: req.OwnerID, token: r.last, key: req.Key, shared: req.Shared, holds: []string{req.RequestID}, attach: 1,
		ttl: ttl, expires: at.now.Add(ttl), metadata: maps.Clone(req.Metadata), to: d,
	}
	r.holders = append(r.holders, h)
	r.changed = true
	return h
}

func (d *Driver) place(r *record, at moment, req *driver.AcquireRequest) *waiter {
	r.seq++
	w := &waiter{
		owner: req.OwnerID, request: req.RequestID, ticket: r.seq, order: driver.OrderKey(r.seq, req.Priority),
		priority: req.Priority, shared: req.Shared, deadline: at.now.Add(req.PlaceTTL), to: d,
	}
	r.enqueue(w)
	return w
}

// queued describes the place, and when to look again without a hint: a waiter
// that could be granted at the next expiry or death looks then, others poll.
func (d *Driver) queued(r *record, w *waiter, at moment, req *driver.AcquireRequest) *driver.AcquireResult {
	res := &driver.AcquireResult{Position: r.position(w), QueueLength: len(r.waiters), Ticket: w.ticket, RetryAfter: min(d.m.o.Poll, req.PlaceTTL/2)}
	if len(r.holders) > 0 {
		public := r.holders[0].public(at)
		res.Holder = &public
	}
	next := at.now.Add(res.RetryAfter)
	for _, h := range r.holders {
		next = min(next, h.expires)
	}
	if res.Position > 1 {
		next = min(next, max(r.firstDeath, at.now.Add(d.m.o.Poll/4)))
	}
	res.RetryAfter = max(next.Sub(at.now), time.Millisecond)
	return res
}

// held says who stands in the way.
func (r *record) held(at moment) error {
	e := &driver.HeldError{QueueLength: len(r.waiters)}
	if len(r.holders) > 0 {
		public := r.holders[0].public(at)
		e.Holder = &public
	}
	return e
}
