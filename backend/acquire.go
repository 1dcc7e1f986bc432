package backend

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// acquisition is an acquire on its way: one request id, one lease id, as many
// attempts as its waiting takes.
type acquisition struct {
	s       *Store
	ctx     context.Context
	req     *AcquireRequest
	attempt *driver.AcquireRequest
	leaseID string
	place   *place
	// older is the place of an attempt at the same request that this one has
	// superseded.
	older *place
	// keys are those under which the store may have something of the request
	// that this acquire has to undo: its own, and until the store has answered
	// it, which brings it up to date, those of the attempts that it superseded.
	keys   []driver.Key
	start  time.Time
	queued bool
	// asked is when the attempt was made whose answer is the outcome, or the
	// first of those before it whose outcome is unknown.
	asked time.Time
	// first is the ticket of the place that stands before all others, of a drain.
	first int64
	// ticket is the grant's, or of the place that the observer knows, which was
	// announced.
	ticket    int64
	announced bool
	told      struct {
		position, length int
		at               time.Time
	}
}

// reportEvery is the shortest time between two reports of a position.
const reportEvery = time.Second

// Acquire takes a lease. It waits as long as req.Wait and ctx allow, whichever
// ends first. A wait that ran out is a driver.ErrHeld. If ctx ends, the place
// or a grant that has just been made is given back, and ctx's error returned.
func (s *Store) Acquire(ctx context.Context, req *AcquireRequest) (*Lease, error) {
	q, err := s.begin(ctx, req)
	if err != nil {
		return nil, err
	}
	return q.run()
}

// AcquireAsync is Acquire without a goroutine that waits, unless the request
// has to queue. done is called once and must not block.
func (s *Store) AcquireAsync(ctx context.Context, req *AcquireRequest, done func(*Lease, error)) {
	q, err := s.begin(ctx, req)
	if err != nil {
		done(nil, err)
		return
	}
	if q.older != nil {
		go func() { done(q.run()) }()
		return
	}
	driver.AcquireAsync(ctx, s.d, q.attempt, func(res *driver.AcquireResult, err error) {
		if q.decided(res, err) {
			done(q.end(q.conclude(res, err)))
			return
		}
		go func() { done(q.end(q.await(res, err))) }()
	})
}

func (s *Store) begin(ctx context.Context, req *AcquireRequest) (*acquisition, error) {
	a, leaseID, err := s.attempt(req)
	if err != nil {
		return nil, fmt.Errorf("acquire %q: %w", req.LockID, err)
	}
	q := &acquisition{s: s, ctx: ctx, req: req, attempt: a, leaseID: leaseID, keys: []driver.Key{a.Key}, start: time.Now()}
	q.asked = q.start
	if d := req.Drain; d != nil {
		s.o.Observer.Happened(Event{Kind: Draining, LockID: req.LockID, OwnerID: a.OwnerID, RequestID: a.RequestID, Reason: d.Reason, By: d.By})
	}
	if a.Enqueue {
		// Before the first attempt, so that no hint falls between the two.
		q.place, q.older = s.waiters.enter(req.LockID, a.RequestID, req.OwnerID != "")
	}
	return q, nil
}

// end observes the outcome and wraps its error.
func (q *acquisition) end(l *Lease, err error) (*Lease, error) {
	if q.place != nil {
		if errors.Is(err, errSuperseded) {
			q.place.keys = q.keys
		}
		q.s.waiters.leave(q.req.LockID, q.attempt.RequestID, q.place)
	}
	if q.queued {
		q.s.queued.Add(-1)
		q.s.undos.drop()
		q.s.o.Observer.Waiting(-1)
	}
	q.s.o.Observer.Acquired(AcquireObservation{
		LockID: q.req.LockID, Shared: q.req.Shared, Wait: time.Since(q.start), Err: err,
		Contended: q.queued || errors.Is(err, driver.ErrHeld),
	})
	if err != nil {
		return nil, fmt.Errorf("acquire %q: %w", q.req.LockID, err)
	}
	q.s.o.Observer.Happened(Event{
		Kind: Acquired, LockID: l.LockID, OwnerID: l.OwnerID, RequestID: l.RequestID, Token: l.Token, Shared: l.Shared,
		HoldCount: len(l.Holds), Ticket: q.ticket, Priority: q.req.Priority, Sent: q.asked.Add(min(l.Remaining-l.TTL, 0)), TTL: l.TTL, ValidUntil: l.ValidUntil,
		ExpiresAt: l.ExpiresAt, Attach: l.Attach,
	})
	return l, nil
}

// decided says whether the attempt's outcome ends the acquire.
func (q *acquisition) decided(res *driver.AcquireResult, err error) bool {
	if err == nil {
		return res.Lease != nil
	}
	if !q.attempt.Enqueue || q.ctx.Err() != nil || q.place.isSuperseded() {
		return true
	}
	switch {
	case errors.Is(err, driver.ErrQuarantined):
		return false
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate):
		// A place in the queue outlives an outage; a first attempt tells the
		// caller at once.
		return !q.queued
	}
	return true
}

// conclude turns the deciding outcome into the acquire's.
func (q *acquisition) conclude(res *driver.AcquireResult, err error) (*Lease, error) {
	left := q.ctx.Err()
	if err == nil {
		q.answered(res)
	}
	switch {
	case q.place.isSuperseded():
		return nil, errSuperseded
	case err == nil && left == nil:
		q.ticket = res.Ticket
		return q.s.lease(res.Lease, q.leaseID, q.attempt.RequestID), nil
	case err == nil:
		// The grant met a caller that had gone.
		q.undo(reasonLeft(left))
		return nil, left
	case left != nil:
		q.undo(reasonLeft(left))
		return nil, errors.Join(left, sentUnknown(err))
	case !certain(err):
		q.undo(ReasonFailed)
		if !errors.Is(err, driver.ErrIndeterminate) {
			err = fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
		}
	case q.queued:
		q.undo(reasonFailed(err))
	}
	return nil, err
}

// answered notes a lease or a place, which is under this attempt's key now.
func (q *acquisition) answered(res *driver.AcquireResult) {
	q.keys = q.keys[len(q.keys)-1:]
	q.s.tell(Event{}, res.Evicted...)
}

// sentUnknown keeps nothing of an error but that it was one of a store.
func sentUnknown(err error) error {
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return nil
	}
	return err
}

// reasonFailed is why a wait failed that the store ended.
func reasonFailed(err error) string {
	var lost *driver.LostError
	if errors.As(err, &lost) && lost.Cause == driver.CauseForced {
		return ReasonForced
	}
	return ReasonFailed
}

// certain says whether an error proves that nothing was done. One that joins
// the outcomes of several attempts is as uncertain as the worst of them.
func certain(err error) bool {
	if errors.Is(err, driver.ErrIndeterminate) {
		return false
	}
	for _, s := range driver.Sentinels() {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// await waits in the queue until the acquire is decided. res and err are the
// first attempt's.
func (q *acquisition) await(res *driver.AcquireResult, err error) (*Lease, error) {
	var bound <-chan time.Time
	if q.req.Wait > 0 {
		t := time.NewTimer(q.req.Wait - time.Since(q.start))
		defer t.Stop()
		bound = t.C
	}
	var retry *time.Timer
	for !q.decided(res, err) {
		if !q.queued {
			q.queued = true
			q.s.queued.Add(1)
			q.s.undos.hold()
			q.s.o.Observer.Waiting(1)
		}
		pause := q.s.jitter(q.s.caps.Poll)
		if err == nil {
			q.answered(res)
			q.announce(res)
			q.goFirst(res)
			q.report(res)
			pause = min(pause, res.RetryAfter)
		}
		if retry == nil {
			retry = time.NewTimer(pause)
			defer retry.Stop()
		} else {
			retry.Reset(pause)
		}
		select {
		case <-q.place.wake:
			if refusal := q.place.refusal.Load(); refusal != nil {
				q.undo(ReasonDeadlock)
				return nil, refusal
			}
		case <-q.place.superseded:
			return nil, errSuperseded
		case <-retry.C:
		case <-bound:
			return q.lastTry(err)
		case <-q.ctx.Done():
			q.undo(reasonLeft(q.ctx.Err()))
			return nil, q.ctx.Err()
		case <-q.s.stopped.Done():
			q.undo(ReasonLeft)
			return nil, driver.ErrClosed
		}
		q.ask(err)
		res, err = q.s.d.Acquire(q.ctx, q.attempt)
	}
	return q.conclude(res, err)
}

// ask notes that an attempt is made. One before it that failed may have been
// granted.
func (q *acquisition) ask(before error) {
	if before == nil {
		q.asked = time.Now()
	}
}

// lastTry ends a bounded wait: it takes the lock or drops the place.
func (q *acquisition) lastTry(before error) (*Lease, error) {
	last := *q.attempt
	last.Enqueue = false
	q.ask(before)
	res, err := q.s.d.Acquire(q.ctx, &last)
	if errors.Is(err, driver.ErrHeld) {
		q.abandoned(ReasonTimeout)
		return nil, err // the place went with the refusal
	}
	return q.conclude(res, err)
}

// undo gives back, in the background, what the store may keep of this acquire:
// not what a repeat of its request has got since, which the caller may have been
// told of.
func (q *acquisition) undo(reason string) {
	q.leave(q.keys)
	q.abandoned(reason)
}

func (q *acquisition) leave(keys []driver.Key) {
	for _, key := range keys {
		q.s.undos.add(&driver.LeaveRequest{LockID: q.req.LockID, RequestID: q.attempt.RequestID, Key: key})
	}
}

func (q *acquisition) abandoned(reason string) {
	q.s.o.Observer.Happened(Event{
		Kind: Abandoned, LockID: q.req.LockID, OwnerID: q.attempt.OwnerID, RequestID: q.attempt.RequestID,
		Shared: q.req.Shared, Reason: reason, Ticket: q.ticket,
	})
}

// announce tells the observer a new place.
func (q *acquisition) announce(res *driver.AcquireResult) {
	if !q.announced || q.ticket != res.Ticket {
		q.announced, q.ticket = true, res.Ticket
		q.s.o.Observer.Happened(Event{
			Kind: Queued, LockID: q.req.LockID, OwnerID: q.attempt.OwnerID, RequestID: q.attempt.RequestID,
			Shared: q.req.Shared, Position: res.Position, QueueLength: res.QueueLength, Ticket: res.Ticket, Priority: q.req.Priority, Sent: q.asked,
		})
	}
}

// report tells the caller its position when it moved, at most once a second.
func (q *acquisition) report(res *driver.AcquireResult) {
	position, length := res.Position, res.QueueLength
	q.place.length.Store(int32(min(length, 1<<31-1))) //nolint:gosec // not negative
	if q.req.OnQueued == nil || position == q.told.position && length == q.told.length {
		return
	}
	now := time.Now()
	if q.told.position != 0 && now.Sub(q.told.at) < reportEvery {
		return
	}
	q.told.position, q.told.length, q.told.at = position, length, now
	q.req.OnQueued(position, length)
}

// jitter spreads a pause over its last quarter, so that waiters which queued
// together do not poll together.
func (s *Store) jitter(d time.Duration) time.Duration {
	return d - time.Duration(rand.Int64N(int64(d)/4+1))
}
