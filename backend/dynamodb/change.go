package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// changed reads the lock's record, lets decide make of it what it will, and writes
// that if it is something else; when others were first, again. What decide returns
// is the answer, once the write is done. decide is called with a record of its own
// each time.
func changed[T any](ctx context.Context, s *Store, lockID string, decide func(r *record, at moment) (T, error)) (answer T, err error) {
	var none T
	for {
		r, at, err := s.read(ctx, lockID)
		if err != nil {
			return none, err
		}
		s.listen(ctx, r)
		answer, refusal := decide(r, at)
		// What has run out is dropped by whoever gains by it: a refusal alone
		// writes nothing.
		if refusal != nil && !r.change.any || refusal == nil && !r.change.any && len(r.change.evicted) == 0 && !r.change.queue {
			return answer, refusal
		}
		sent, err := s.write(ctx, r)
		switch {
		case err == nil:
			s.wrote(r, sent)
			if refusal != nil {
				s.ended.add(r.id, r.change.evicted)
			}
			return answer, refusal
		case !errors.Is(err, errRefused):
			return none, err
		case ctx.Err() != nil:
			return none, fmt.Errorf("%w: others change the lock all the time: %w", driver.ErrUnavailable, ctx.Err())
		}
	}
}

// wrote notes what a write has proven, and tells the waiters and holders of this
// driver.
func (s *Store) wrote(r *record, sent driver.Instant) {
	for _, h := range r.change.put {
		if h.beat != h.read { // else this driver has proven nothing
			s.leases.wrote(h.name(r.id), h.beat, h.ttl, sent)
		}
	}
	for _, l := range r.change.proven {
		l.Origin = sent
	}
	for _, h := range r.change.removed {
		s.leases.forget(h.name(r.id))
	}
	for _, name := range r.change.silent {
		s.bury(name)
	}
	if r.change.queue && !slices.ContainsFunc(r.waiters, func(w *waiter) bool { return w.driver == s.id }) {
		s.bury(beatName{r.id, s.id})
	}
	for _, h := range r.change.lose {
		s.hint(h)
	}
	s.wake(r)
}

// unreported are expiries that a call has written whose answer was a refusal, so
// that it could not tell of them: the next one at the lock does.
type unreported struct {
	mu  sync.Mutex
	all map[string][]driver.Ended
}

// maxUnreported bounds the locks that have such ends.
const maxUnreported = 4096

func (u *unreported) add(lockID string, ends []driver.Ended) {
	if len(ends) == 0 {
		return
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.all == nil {
		u.all = make(map[string][]driver.Ended)
	}
	if len(u.all) < maxUnreported || u.all[lockID] != nil {
		u.all[lockID] = append(u.all[lockID], ends...)
	}
}

// take returns the ends of a lock that are to be told, or the one with the token.
func (u *unreported) take(lockID string, token int64) (taken []driver.Ended) {
	u.mu.Lock()
	defer u.mu.Unlock()
	var left []driver.Ended
	for _, e := range u.all[lockID] {
		if token == 0 || e.Token == token {
			taken = append(taken, e)
		} else {
			left = append(left, e)
		}
	}
	if len(left) > 0 {
		u.all[lockID] = left
	} else {
		delete(u.all, lockID)
	}
	return taken
}
