package backend

import (
	"errors"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A client that lost its connection asks again under the same request id, while
// the attempt on the old connection may still be under way in this process. The
// newer attempt supersedes the older one: it waits until that one has ended, so
// that the store meets the two in their order, and takes over what it got. The
// older one undoes nothing; if the newer one is given up, it undoes both.

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

// follow waits until the older attempt at the request has ended. An acquire that
// ends before keeps its place until then: a newer one has to wait for it too.
func (q *acquisition) follow() (err error) {
	if q.older == nil {
		return nil
	}
	select {
	case <-q.older.left:
		q.keys = append(slices.Clip(q.older.keys), q.attempt.Key)
		return nil
	case <-q.place.superseded:
		err = errSuperseded
	case <-q.s.stopped.Done():
		err = driver.ErrClosed
	case <-q.ctx.Done():
		err = q.ctx.Err()
		q.abandoned(reasonLeft(err))
	}
	p, superseded := q.place, errors.Is(err, errSuperseded)
	q.place = nil
	q.s.undos.hold()
	go func() { // it ends with the older attempt, whose call is bounded
		defer q.s.undos.drop()
		<-q.older.left
		if superseded {
			p.keys = q.older.keys
		} else { // what the older attempt has is nobody's now
			q.leave(q.older.keys)
		}
		q.s.waiters.leave(q.req.LockID, q.attempt.RequestID, p)
	}()
	return err
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
