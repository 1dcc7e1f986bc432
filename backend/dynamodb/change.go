package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxTurn bounds the calls that are decided on one reading of a record.
const maxTurn = 64

// maxExpired bounds the expired leases that one write drops, each by a comparison
// of its own: an expression may have 4 KB and 300 operators, and a turn's calls need
// as many.
const maxExpired = 64

// turns let the calls of this driver at one lock that need the record be decided
// together: one read and one write for all that have come meanwhile. Apart, they
// would only refuse each other's writes.
type turns struct {
	running sync.WaitGroup

	mu sync.Mutex
	// waiting are the calls at each lock for which a turn is under way.
	waiting map[string][]*visit
}

// visit is a call's part of a turn.
type visit struct {
	// alone, if not nil, decides the call without the record, or says errRefused.
	alone func(ctx context.Context) error
	// decide makes of the record what the call wants, and says whether the answer
	// is a refusal. It is called again, with another record, when others were
	// first.
	decide func(r *record, at moment) (refusal error)
	// expiries are those that the answer tells of.
	expiries func() []driver.Ended
	// taken is set under the mutex when a turn begins with it, left when its caller
	// does not wait for the answer any more.
	taken, left bool
	done        chan error
}

// changed has decide make of the lock's record what it will, and returns when that
// is written. What decide returns is the answer.
func changed[T any](ctx context.Context, s *Store, lockID string, alone func(context.Context) (T, error), decide func(r *record, at moment) (T, error)) (T, error) {
	// It is the turn's until the visit is over: a turn may go on without its caller.
	var answer, none T
	v := &visit{done: make(chan error, 1)}
	if alone != nil {
		v.alone = func(ctx context.Context) (err error) {
			answer, err = alone(ctx)
			return err
		}
	}
	v.decide = func(r *record, at moment) (refusal error) {
		answer, refusal = decide(r, at)
		return refusal
	}
	v.expiries = func() []driver.Ended { return expiriesIn(answer) }
	if err := s.visit(ctx, lockID, v); err != nil {
		return none, err
	}
	return answer, nil
}

// visit waits until a turn has decided v, or ctx ends.
func (s *Store) visit(ctx context.Context, lockID string, v *visit) error {
	t := &s.turns
	t.mu.Lock()
	if s.closed.Load() {
		t.mu.Unlock()
		return driver.ErrClosed
	}
	if t.waiting == nil {
		t.waiting = make(map[string][]*visit)
	}
	others, running := t.waiting[lockID]
	t.waiting[lockID] = append(others, v)
	if !running {
		t.running.Go(func() { s.take(lockID) })
	}
	t.mu.Unlock()
	select {
	case err := <-v.done:
		return err
	case <-ctx.Done():
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	if v.taken {
		select {
		case err := <-v.done:
			return err
		default: // it goes on without its caller
			v.left = true
			return fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
		}
	}
	t.waiting[lockID] = slices.DeleteFunc(t.waiting[lockID], func(other *visit) bool { return other == v })
	return fmt.Errorf("%w: other calls at the lock are under way: %w", driver.ErrUnavailable, ctx.Err())
}

// take makes turns until no call waits.
func (s *Store) take(lockID string) {
	t := &s.turns
	for {
		t.mu.Lock()
		all := t.waiting[lockID]
		if len(all) == 0 {
			delete(t.waiting, lockID)
			t.mu.Unlock()
			return
		}
		turn := slices.Clone(all[:min(len(all), maxTurn)])
		t.waiting[lockID] = slices.Clone(all[len(turn):])
		for _, v := range turn {
			v.taken = true
		}
		t.mu.Unlock()
		s.turn(lockID, turn)
	}
}

// turn decides calls.
func (s *Store) turn(lockID string, turn []*visit) {
	ctx, cancel := s.bound(s.stopped)
	defer cancel()
	if len(turn) == 1 && turn[0].alone != nil && !s.latest.taken(s, lockID) {
		if err := turn[0].alone(ctx); !errors.Is(err, errRefused) {
			s.answer(lockID, turn[0], err)
			return
		}
	}
	refusals, err := s.together(ctx, lockID, turn)
	for i, v := range turn {
		if err != nil {
			s.answer(lockID, v, err)
		} else {
			s.answer(lockID, v, refusals[i])
		}
	}
}

// answer ends a visit. The expiries in an answer that nobody waits for any more are
// told by the next call.
func (s *Store) answer(lockID string, v *visit, err error) {
	s.turns.mu.Lock()
	v.done <- err
	left := v.left
	s.turns.mu.Unlock()
	if left && err == nil {
		s.ended.add(lockID, v.expiries())
	}
}

// together reads the record, decides calls one after the other, and writes what has
// become of it; when others were first, again. The first time it takes what this
// driver wrote a moment ago for the record, if it did: a write on the condition of
// its version proves that it was.
func (s *Store) together(ctx context.Context, lockID string, turn []*visit) (refusals []error, err error) {
	refusals = make([]error, len(turn))
	for guess := true; ; guess = false {
		r, at := s.latest.record(s, lockID, guess)
		guess = r != nil
		if !guess {
			if r, at, err = s.read(ctx, lockID); err != nil {
				return nil, err
			}
		}
		s.listen(ctx, r)
		served := false
		for i, v := range turn {
			refusals[i] = v.decide(r, at)
			served = served || refusals[i] == nil
		}
		if r.change.rest {
			if err := s.clear(ctx, lockID); err != nil {
				return nil, err
			}
			continue
		}
		// What has run out is dropped by whoever gains by it: refusals alone write
		// nothing.
		if !r.change.any && (!served || len(r.change.evicted) == 0 && !r.change.queue) {
			if guess {
				continue // only a write proves what was remembered
			}
			return refusals, nil
		}
		sent, err := s.write(ctx, r)
		switch {
		case err == nil:
			s.wrote(r, sent)
			if r.change.untold {
				s.ended.add(r.id, r.change.evicted)
			}
			return refusals, nil
		case !errors.Is(err, errRefused):
			return nil, err
		case ctx.Err() != nil:
			return nil, fmt.Errorf("%w: others change the lock all the time: %w", driver.ErrUnavailable, ctx.Err())
		}
	}
}

// clear drops expired leases, as many as one write can, when they are too many to
// be dropped beside what calls want.
func (s *Store) clear(ctx context.Context, lockID string) error {
	r, at, err := s.read(ctx, lockID)
	if err != nil {
		return err
	}
	if r.prune(s, at); len(r.change.expired) == 0 {
		return nil // others were first
	}
	sent, err := s.write(ctx, r)
	switch {
	case err == nil:
		s.wrote(r, sent)
		s.ended.add(r.id, r.change.evicted)
	case errors.Is(err, errRefused):
		return nil
	}
	return err
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
	for _, request := range r.change.left {
		s.places.drop(placeName{r.id, request})
	}
	for _, name := range r.change.silent {
		s.bury(name)
	}
	if !slices.ContainsFunc(r.waiters, func(w *waiter) bool { return w.driver == s.id }) {
		s.bury(beatName{r.id, s.id})
	}
	for _, h := range r.change.lose {
		s.hint(h)
	}
	for _, request := range r.change.cancelled {
		s.hint(driver.Hint{Kind: driver.HintGrantable, LockID: r.id, RequestID: request})
	}
	s.wake(r)
}
