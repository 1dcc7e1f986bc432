package etcd

import (
	"context"
	"sync"
)

// cached bounds the locks of which the driver remembers what it saw last.
const cached = 8192

// locks are those that calls of this driver are at: one at a time decides about
// a lock, so that they do not refuse each other's transactions. Calls that only
// read, and renewals, do not come here.
type locks struct {
	mu   sync.Mutex
	open map[string]*local
}

// local is what the driver has of a lock.
type local struct {
	turn chan struct{}
	uses int
	// known is the last snapshot that had no waiters, as a guess: whoever uses it
	// makes a transaction on its condition. nil is that of a new lock.
	known *snapshot
}

func newLocks() *locks { return &locks{open: make(map[string]*local)} }

// enter waits for the caller's turn at the lock.
func (l *locks) enter(ctx context.Context, id string) (at *local, leave func(), err error) {
	l.mu.Lock()
	at = l.open[id]
	if at == nil {
		at = &local{turn: make(chan struct{}, 1)}
		l.open[id] = at
	}
	at.uses++
	l.mu.Unlock()
	select {
	case at.turn <- struct{}{}:
		return at, func() { <-at.turn; l.leave(id, at) }, nil
	case <-ctx.Done():
		l.leave(id, at)
		return nil, nil, ctx.Err()
	}
}

func (l *locks) leave(id string, at *local) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if at.uses--; at.uses > 0 {
		return
	}
	if at.known == nil {
		delete(l.open, id)
		return
	}
	if len(l.open) <= cached {
		return
	}
	for other, o := range l.open { // any of them
		if o.uses == 0 {
			delete(l.open, other)
			return
		}
	}
}
