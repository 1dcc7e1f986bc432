package postgres

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire makes one attempt.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	return change(ctx, s, req.LockID, func(r *record, at moment) (*driver.AcquireResult, error) {
		res, err := r.acquire(req, max(req.TTL, s.o.MinTTL), s.o.Poll, at)
		if err == nil {
			res.Evicted = r.tell(req.LockID)
		}
		return res, err
	})
}

// acquire follows the steps that driver.Driver describes; prune was the first.
func (r *record) acquire(req *driver.AcquireRequest, ttl, poll time.Duration, at moment) (*driver.AcquireResult, error) {
	if l := r.leaseOf(func(l *lease) bool { return slices.Contains(l.Holds, req.RequestID) }); l != nil {
		return l.repeat(req, at)
	}
	if e := r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }); e != nil {
		return nil, driver.Lost(e.Cause)
	}
	if l := r.leaseOf(func(l *lease) bool { return l.Owner == req.OwnerID }); l != nil {
		r.dropPlace(req.RequestID)
		return r.reenter(l, req, ttl, at)
	}
	// A newcomer is ordered among the living before it can be granted.
	if len(r.Places) > 0 && req.Enqueue {
		if err := r.keepPlace(req, at.now); err != nil {
			return nil, err
		}
	}
	if r.first(req) && r.admits(req.Shared) {
		r.dropPlace(req.RequestID)
		return &driver.AcquireResult{Lease: r.grant(req, ttl, at.now).told(req.LockID, at)}, nil
	}
	if req.Enqueue {
		if err := r.keepPlace(req, at.now); err != nil {
			return nil, err
		}
		return r.queued(req, poll, at.now), nil
	}
	r.dropPlace(req.RequestID)
	return nil, r.held(at.now)
}

func (e end) ends(request string, key driver.Key) bool {
	return e.Request == request && (e.Attempt == "" || e.Attempt == key)
}

// repeat answers an acquire whose answer may have been lost.
func (l *lease) repeat(req *driver.AcquireRequest, at moment) (*driver.AcquireResult, error) {
	if l.Revoked {
		return nil, driver.Lost(driver.CauseForced)
	}
	if l.Key != req.Key {
		l.Key = req.Key
		l.Attach++
	}
	return &driver.AcquireResult{Lease: l.told(req.LockID, at)}, nil
}

// reenter adds a hold to the owner's own lease, or says that it holds it.
func (r *record) reenter(l *lease, req *driver.AcquireRequest, ttl time.Duration, at moment) (*driver.AcquireResult, error) {
	if !req.Reentrant || l.Key != req.Key || l.Shared != req.Shared || l.Revoked {
		return nil, &driver.HeldError{Holder: l.shown(at.now), QueueLength: len(r.Places), BySelf: true, OtherMode: l.Shared != req.Shared}
	}
	l.Holds = append(l.Holds, req.RequestID)
	l.TTL = max(l.TTL, ttl)
	l.Expires = max(l.Expires, at.now.add(l.TTL))
	return &driver.AcquireResult{Lease: l.told(req.LockID, at)}, nil
}

func (r *record) grant(req *driver.AcquireRequest, ttl time.Duration, now micros) *lease {
	r.Last = driver.NextToken(r.Last, req.TokenFloor, int64(now))
	l := &lease{
		Owner: req.OwnerID, Token: r.Last, Key: req.Key, Shared: req.Shared, Holds: []string{req.RequestID}, Attach: 1,
		TTL: ttl, Expires: now.add(ttl), Metadata: maps.Clone(req.Metadata),
	}
	r.Leases = append(r.Leases, l)
	return l
}

// keepPlace makes the request's place, or moves the deadline of the one it has.
func (r *record) keepPlace(req *driver.AcquireRequest, now micros) error {
	i := r.placeOf(req.RequestID)
	if i < 0 {
		if len(r.Places) == maxWaiters {
			return fmt.Errorf("%w: %d wait for the lock", driver.ErrLimit, maxWaiters)
		}
		r.Seq++
		p := &place{Owner: req.OwnerID, Request: req.RequestID, Ticket: r.Seq, Priority: req.Priority, Shared: req.Shared}
		i, _ = slices.BinarySearchFunc(r.Places, p, comparePlaces)
		r.Places = slices.Insert(r.Places, i, p)
	}
	r.Places[i].Key, r.Places[i].Deadline = req.Key, now.add(req.PlaceTTL)
	return nil
}

// first says whether no living waiter stands before the request: a shared one
// shares the head with the shared ones before it.
func (r *record) first(req *driver.AcquireRequest) bool {
	for _, p := range r.Places {
		if p.Request == req.RequestID {
			return true
		}
		if !req.Shared || !p.Shared {
			return false
		}
	}
	return len(r.Places) == 0 // a try among shared waiters is behind them
}

// admits says whether the leases that stand leave room for one more.
func (r *record) admits(shared bool) bool {
	return len(r.Leases) == 0 || shared && r.Leases[0].Shared
}

// queued describes the request's place and when to look again: at the poll, or
// when what stands before it may have run out.
func (r *record) queued(req *driver.AcquireRequest, poll time.Duration, now micros) *driver.AcquireResult {
	at := r.placeOf(req.RequestID)
	again := now.add(min(poll, req.PlaceTTL/2))
	res := &driver.AcquireResult{Position: at + 1, QueueLength: len(r.Places)}
	for _, l := range r.Leases {
		again = min(again, l.Expires)
		res.Holder = l.shown(now)
	}
	for _, p := range r.Places[:at] {
		again = min(again, max(p.Deadline, now.add(poll/4)))
	}
	res.RetryAfter = max(again.sub(now), time.Millisecond)
	return res
}

// held says who stands in the way.
func (r *record) held(now micros) error {
	e := &driver.HeldError{QueueLength: len(r.Places)}
	if len(r.Leases) > 0 {
		e.Holder = r.Leases[0].shown(now)
	}
	return e
}
