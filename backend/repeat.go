package backend

import (
	"github.com/locksidecar/locksidecar/backend/driver"
)

// A client that lost its connection asks again under the same request id, while
// the attempt on the old connection may still be under way in this process. The
// newer attempt supersedes the older one: it waits until that one has ended, so
// that the store meets the two in their order, and takes over what it got. The
// older one undoes nothing.

// errSuperseded is the outcome of the older attempt.
var errSuperseded = driver.Lost(driver.CauseReattached)

// run makes the attempts in the calling goroutine.
func (q *acquisition) run() (*Lease, error) {
	if err := q.follow(); err != nil {
		return q.end(nil, err)
	}
	res, err := q.s.d.Acquire(q.ctx, q.attempt)
	return q.end(q.await(res, err))
}

// follow waits until the older attempt at the request has ended.
func (q *acquisition) follow() error {
	if q.older == nil {
		return nil
	}
	select {
	case <-q.older.left:
		return nil
	case <-q.place.superseded:
		return errSuperseded
	case <-q.s.stopped.Done():
		return driver.ErrClosed
	case <-q.ctx.Done():
		// What the older attempt has is nobody's now.
		q.s.undos.add(&driver.LeaveRequest{LockID: q.req.LockID, RequestID: q.attempt.RequestID})
		q.abandoned(reasonLeft(q.ctx.Err()))
		return q.ctx.Err()
	}
}

// isSuperseded says whether a newer attempt has come. An acquire that does not
// wait has no place, and is not superseded.
func (p *place) isSuperseded() bool {
	if p == nil {
		return false
	}
	select {
	case <-p.superseded:
		return true
	default:
		return false
	}
}
