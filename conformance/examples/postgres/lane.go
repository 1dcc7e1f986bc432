package postgres

import (
	"context"
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A lane has the calls of this Store on one lock. While a transaction is under way
// those that come wait here, and the next transaction decides them all: a lock that
// many want costs one connection and one row, not as many as want it, and a release
// never waits behind them. The lanes are owned by the goroutines of run, which end
// when their lane is empty.
type lane struct{ waiting []*call }

type call struct {
	// decide keeps its own answer, which counts if err is nil.
	decide func(*record, micros)
	err    error
	done   chan struct{}
}

// change has decide look at a lock's record and change it while nobody else can,
// and returns what it answers once that is committed.
func change[T any](ctx context.Context, s *Store, lockID string, decide func(*record, moment) (T, error)) (T, error) {
	var nothing, result T
	var refusal error
	origin := s.o.Clock.Now()
	c := &call{done: make(chan struct{}), decide: func(r *record, now micros) { result, refusal = decide(r, moment{origin, now}) }}
	if err := ctx.Err(); err != nil {
		return nothing, s.undone(err)
	}
	if !s.enter(lockID, c) {
		return nothing, driver.ErrClosed
	}
	select {
	case <-c.done:
		if c.err != nil {
			return nothing, c.err
		}
		return result, refusal
	case <-ctx.Done():
	}
	if s.withdraw(lockID, c) {
		return nothing, s.undone(ctx.Err())
	}
	return nothing, fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
}

// enter adds a call to its lane, which has a goroutine from then on.
func (s *Store) enter(lockID string, c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return false
	}
	l := s.lanes[lockID]
	if l == nil {
		l = &lane{}
		s.lanes[lockID] = l
		s.running.Go(func() { s.run(lockID, l) })
	}
	l.waiting = append(l.waiting, c)
	return true
}

// withdraw takes back a call that nobody has begun.
func (s *Store) withdraw(lockID string, c *call) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.lanes[lockID]
	if l == nil || !slices.Contains(l.waiting, c) {
		return false
	}
	l.waiting = slices.DeleteFunc(l.waiting, func(other *call) bool { return other == c })
	return true
}

// run has transactions decide the calls of a lane until there are none.
func (s *Store) run(lockID string, l *lane) {
	for {
		s.mu.Lock()
		calls := l.waiting
		l.waiting = nil
		if len(calls) == 0 {
			delete(s.lanes, lockID)
			s.mu.Unlock()
			return
		}
		s.mu.Unlock()
		err := s.transact(lockID, calls)
		for _, c := range calls {
			c.err = err
			close(c.done)
		}
	}
}
