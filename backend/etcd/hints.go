package etcd

import (
	"context"
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// hints are the waiters of this driver, each with what stands before it, and
// where its hints go. One watch a lock, on one stream of the client's, tells of
// what goes away; a driver's inbox tells of what happened to its leases.
type hints struct {
	s *Store

	mu sync.Mutex
	// sink is that of the Watch that runs, watching its context.
	sink     func(driver.Hint)
	watching context.Context
	running  *sync.WaitGroup
	locks    map[string]*queueWatch
	waiters  int
	purge    int
}

// queueWatch is a lock at which this driver has waiters.
type queueWatch struct {
	waiters map[string]*waiter
	// gone is the revision of the latest deletion that the watch told.
	gone int64
	// stop ends the watch; nil while there is none.
	stop context.CancelFunc
}

// waiter is one that waits for behind to go: the key of a place, or "" for the
// leases.
type waiter struct {
	place  place
	behind string
	until  driver.Instant
	// told: it has its hint, and has not asked since.
	told bool
}

func newHints(s *Store) *hints {
	return &hints{s: s, locks: make(map[string]*queueWatch), purge: observationsKept}
}

// place is the request's place as this driver wrote it last.
func (h *hints) place(lock, request string) *place {
	h.mu.Lock()
	defer h.mu.Unlock()
	if q := h.locks[lock]; q != nil {
		if w := q.waiters[request]; w != nil {
			p := w.place
			return &p
		}
	}
	return nil
}

// wait notes what a waiter saw before itself in the snapshot. What has gone since
// is told at once.
func (h *hints) wait(n *snapshot, p *place, behind string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	q := h.locks[n.id]
	if q == nil {
		q = &queueWatch{waiters: make(map[string]*waiter)}
		h.locks[n.id] = q
	}
	if q.waiters[p.Request] == nil {
		h.waiters++
	}
	now := h.s.o.Clock.Now()
	w := &waiter{place: *p, behind: behind, until: now.Add(p.lasts())}
	q.waiters[p.Request] = w
	switch {
	case h.sink == nil:
	case q.stop == nil:
		h.watch(n.id, q, n.rev+1)
	case q.gone > n.rev:
		h.tell(n.id, w)
	}
	h.shrink(now)
}

// left forgets a waiter.
func (h *hints) left(lock, request string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.drop(lock, request)
}

func (h *hints) drop(lock, request string) {
	q := h.locks[lock]
	if q == nil || q.waiters[request] == nil {
		return
	}
	h.waiters--
	if delete(q.waiters, request); len(q.waiters) == 0 {
		if q.stop != nil {
			q.stop()
		}
		delete(h.locks, lock)
	}
}

// shrink drops waiters that have not asked for longer than their places last.
func (h *hints) shrink(now driver.Instant) {
	if h.waiters < h.purge {
		return
	}
	for lock, q := range h.locks {
		for request, w := range q.waiters {
			if w.until <= now {
				h.drop(lock, request)
			}
		}
	}
	h.purge = max(observationsKept, 2*h.waiters)
}

// tell hints at a waiter, once until it asks again.
func (h *hints) tell(lock string, w *waiter) {
	if h.sink != nil && !w.told {
		w.told = true
		h.sink(driver.Hint{Kind: driver.HintGrantable, LockID: lock, RequestID: w.place.Request})
	}
}

// revoked hints at a lease of this driver's own.
func (h *hints) revoked(lock string, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.sink != nil {
		h.sink(driver.Hint{Kind: driver.HintRevoked, LockID: lock, Token: token})
	}
}
