package dynamodb

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"slices"
	"time"

	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire makes one attempt: a single write if nobody holds the lock or waits.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	ctx, cancel := s.bound(ctx)
	defer cancel()
	pass, err := s.brake.enter(ctx, s.o.Clock)
	if err != nil {
		return nil, err
	}
	defer pass()
	if err := s.ready(ctx); err != nil {
		return nil, err
	}
	res, err := changed(ctx, s, req.LockID, func(ctx context.Context) (*driver.AcquireResult, error) {
		return s.atOnce(ctx, req)
	}, func(r *record, at moment) (*driver.AcquireResult, error) {
		r.prune(s, at)
		res, err := s.decide(r, at, req)
		if err == nil && r.change.untold {
			res.Evicted, r.change.untold = r.change.evicted, false
		}
		if !r.change.any {
			s.wake(r) // what another driver's release has made grantable
		}
		return res, err
	})
	s.brake.answered(err)
	if err != nil {
		return nil, err
	}
	res.Evicted = append(res.Evicted, s.ended.take(req.LockID, 0)...)
	if res.Lease == nil {
		s.sound(ctx, req.LockID, req.PlaceTTL)
	}
	return res, nil
}

// ttl is the one that a lease gets.
func (s *Store) ttl(asked time.Duration) time.Duration {
	return (max(asked, s.o.MinTTL) + time.Microsecond - 1).Truncate(time.Microsecond)
}

// atOnce is the acquire of a lock that nobody has: one write, or errRefused.
func (s *Store) atOnce(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	own, _ := s.wire.micros(s.o.Now())
	if own == 0 || s.places.deadline(placeName{req.LockID, req.RequestID}) != 0 {
		return nil, errRefused
	}
	h := s.lease(req, driver.NextToken(0, req.TokenFloor, own))
	_, sent, err := s.update(ctx, req.LockID, acquireCondition, acquireUpdate, nil, map[string]value{
		":f": number(driver.Format), ":zero": number(0), ":one": number(1), ":none": list(nil), ":token": number(h.token),
		":h":       object(map[string]value{tokenName(h.token): h.encode()}),
		":request": text(requestMark(req.RequestID)), ":attempt": text(attemptMark(req.RequestID, req.Key)),
	}, types.ReturnValueNone)
	if err != nil {
		return nil, err
	}
	s.leases.wrote(h.name(req.LockID), h.beat, h.ttl, sent)
	l := h.lease(req.LockID, moment{now: sent, wall: s.o.Now()})
	return &driver.AcquireResult{Lease: l}, nil
}

// lease is a new one.
func (s *Store) lease(req *driver.AcquireRequest, token int64) *holder {
	return &holder{
		owner: req.OwnerID, token: token, key: req.Key, shared: req.Shared, holds: []string{req.RequestID}, attach: 1, beat: s.beat(0),
		ttl: s.ttl(req.TTL), metadata: maps.Clone(req.Metadata),
	}
}

// decide follows the steps of driver.Driver.Acquire on a record without what has
// run out.
func (s *Store) decide(r *record, at moment, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if h := r.holderOf(func(h *holder) bool { return slices.Contains(h.holds, req.RequestID) }); h != nil {
		return s.repeat(r, h, at, req)
	}
	if e, ok := r.endOf(func(e end) bool { return e.ends(req.RequestID, req.Key) }); ok {
		return nil, driver.Lost(e.cause)
	}
	if h := r.holderOf(func(h *holder) bool { return h.owner == req.OwnerID }); h != nil {
		return s.reenter(r, h, at, req)
	}
	w := r.waiter(req.RequestID)
	ahead := len(r.waiters) > 0
	if w != nil {
		ahead = !r.first(w)
	} else if ahead && req.Enqueue {
		// A newcomer is ordered among the living before it can be granted.
		var err error
		if w, err = s.place(r, req); err != nil {
			return nil, err
		}
		ahead = !r.first(w)
	}
	switch {
	case !ahead && r.admits(req.Shared):
		h := s.lease(req, s.nextToken(r.last, req.TokenFloor))
		if r.full(sizeOf(h.encode())) {
			return nil, errFull
		}
		res := &driver.AcquireResult{}
		if w != nil {
			r.dequeue(w)
			r.change.left = append(r.change.left, req.RequestID)
			res.Ticket = w.ticket
		}
		r.last, r.change.last = h.token, true
		r.holders = append(r.holders, h)
		res.Lease = s.proven(r, h, at)
		return res, nil
	case req.Enqueue:
		if w == nil {
			var err error
			if w, err = s.place(r, req); err != nil {
				return nil, err
			}
		}
		if w.key != req.Key || micros(w.ttl) != micros(req.PlaceTTL) || w.driver != s.id {
			r.change.any, r.change.queue = true, true
			w.key, w.ttl, w.driver = req.Key, req.PlaceTTL, s.id
		}
		w.dies = at.now.Add(req.PlaceTTL)
		// Before the write: whoever reads the place here must find its deadline.
		s.places.keep(placeName{r.id, req.RequestID}, w.dies, at.now)
		return s.waits(r, w, at, req), nil
	}
	if w != nil {
		r.dequeue(w)
		r.change.left = append(r.change.left, req.RequestID)
	}
	return nil, r.held(at)
}

// proven marks a lease as one that the write proves and describes it.
func (s *Store) proven(r *record, h *holder, at moment) *driver.Lease {
	r.put(h)
	h.since, h.own, h.expires = at.now, true, at.now.Add(h.ttl)
	l := h.lease(r.id, at)
	r.change.proven = append(r.change.proven, l)
	return l
}

// repeat answers an acquire whose reply may have been lost. What this driver has
// not proven by an answer of its own is proven by raising the heartbeat: the lease
// was only found, and others may have watched it for long.
func (s *Store) repeat(r *record, h *holder, at moment, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if h.revoked {
		return nil, driver.Lost(driver.CauseForced)
	}
	if h.key != req.Key {
		r.change.lose = append(r.change.lose, driver.Hint{Kind: driver.HintRevoked, LockID: r.id, Token: h.token})
		h.key = req.Key
		h.attach++
		r.put(h)
	}
	if h.own {
		return &driver.AcquireResult{Lease: h.lease(r.id, at)}, nil
	}
	h.beat = s.beat(h.beat)
	return &driver.AcquireResult{Lease: s.proven(r, h, at)}, nil
}

// reenter adds a hold to the owner's own lease, or says that it holds it. A place
// that the request took before is of no use any more.
func (s *Store) reenter(r *record, h *holder, at moment, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if w := r.waiter(req.RequestID); w != nil {
		r.dequeue(w)
		r.change.left = append(r.change.left, req.RequestID)
	}
	if !req.Reentrant || h.key != req.Key || h.shared != req.Shared || h.revoked {
		public := h.public(at)
		return nil, &driver.HeldError{Holder: &public, QueueLength: len(r.waiters), BySelf: true, OtherMode: h.shared != req.Shared}
	}
	if r.full(len(req.RequestID)) {
		return nil, errFull
	}
	h.holds = append(h.holds, req.RequestID)
	h.ttl = max(h.ttl, s.ttl(req.TTL))
	h.beat = s.beat(h.beat)
	return &driver.AcquireResult{Lease: s.proven(r, h, at)}, nil
}

func (s *Store) place(r *record, req *driver.AcquireRequest) (*waiter, error) {
	if len(r.waiters) >= maxWaiters {
		return nil, fmt.Errorf("%w: %d acquires wait for the lock", driver.ErrLimit, len(r.waiters))
	}
	w := &waiter{
		owner: req.OwnerID, request: req.RequestID, ticket: r.seq + 1, priority: req.Priority, shared: req.Shared, key: req.Key, driver: s.id, ttl: req.PlaceTTL,
		dies: never,
	}
	// With room for the lease that it is to become.
	if r.full(sizeOf(w.encode()) + sizeOf(s.lease(req, r.last).encode())) {
		return nil, errFull
	}
	r.seq++
	r.enqueue(w)
	return w, nil
}

// nextToken is the token of a new grant. A clock that differs from the servers'
// makes none: the next number is used, and their own time for a lock that has no
// number yet.
func (s *Store) nextToken(last, floor int64) int64 {
	own, store := s.wire.micros(s.o.Now())
	s.alarm.set(s, own == 0, store)
	if own == 0 && last == 0 {
		own = store
	}
	return driver.NextToken(last, floor, own)
}

// waits describes the place, and when to look again: the first ones often, because
// nobody tells them, and whoever is behind a place that may be dead, or a lease that
// may have run out, when that is known.
func (s *Store) waits(r *record, w *waiter, at moment, req *driver.AcquireRequest) *driver.AcquireResult {
	poll := min(s.o.Poll, req.PlaceTTL/2)
	res := &driver.AcquireResult{Position: r.position(w), QueueLength: len(r.waiters), Ticket: w.ticket}
	pause := min(poll, poll/4*time.Duration(min(res.Position, 4)))
	next := at.now.Add(pause - rand.N(pause/8+1)) // those that queued together do not poll together
	if len(r.holders) > 0 {
		public := r.holders[0].public(at)
		res.Holder = &public
		if res.Position == 1 {
			for _, h := range r.holders {
				next = min(next, h.expires)
			}
		}
	}
	for _, before := range r.waiters[:res.Position-1] {
		next = min(next, max(before.dies, at.now.Add(poll/8)))
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

// lease describes h as it counts from since.
func (h *holder) lease(lockID string, at moment) *driver.Lease {
	since := at.now
	if h.own {
		since = h.since
	}
	if since == 0 {
		since = at.now
	}
	return &driver.Lease{
		LockID: lockID, OwnerID: h.owner, Token: h.token, Shared: h.shared, Holds: slices.Clone(h.holds), Attach: h.attach, TTL: h.ttl,
		Remaining: h.ttl, Origin: since, ExpiresAt: at.wall.Add(h.ttl - at.now.Sub(since)), Metadata: maps.Clone(h.metadata),
	}
}

// public is h as everybody may see it. What remains is this driver's view: the
// lease may have less.
func (h *holder) public(at moment) driver.Holder {
	remaining := max(h.expires.Sub(at.now), time.Microsecond)
	return driver.Holder{
		OwnerID: h.owner, Token: h.token, Shared: h.shared, HoldCount: len(h.holds), Attach: h.attach, TTL: h.ttl,
		Remaining: remaining, ExpiresAt: at.wall.Add(remaining), Revoked: h.revoked, Metadata: maps.Clone(h.metadata),
	}
}
