package embedded

import (
	"cmp"
	"container/list"
	"maps"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// record is all state of one lock.
type record struct {
	id string
	// last is the highest token granted, seq the last ticket.
	last, seq int64
	holders   []*holder
	// waiters are in order; byRequest finds them.
	waiters   []*waiter
	byRequest map[string]*waiter
	// firstDeath is not later than any waiter's deadline.
	firstDeath driver.Instant
	// ends are the latest ends of holds, the newest last.
	ends []end

	idle      *list.Element
	keepUntil time.Time
	// slot is the record's place in the shard's held, counted from 1; 0: none.
	slot int

	// evicted are the expired leases that no acquire or evict has reported yet,
	// so that each expiry is reported once. With a file they stay, and with them
	// those that were evicted, until somebody has told them.
	evicted []untold
	// unreported: the record is among the shard's unreported.
	unreported bool
	// hints collect what a call caused, until they are delivered.
	hints []addressed

	// changed: the record is not what was last handed to the disk, which is
	// image (nil: nothing).
	changed bool
	image   []byte
}

// holder is a lease.
type holder struct {
	owner    string
	token    int64
	key      driver.Key
	shared   bool
	holds    []string
	attach   int64
	ttl      time.Duration
	expires  driver.Instant
	revoked  bool
	metadata map[string]string
	to       *Driver
}

// waiter is a place in the queue.
type waiter struct {
	owner, request string
	ticket, order  int64
	priority       int
	shared         bool
	// key is of the latest attempt that asked for the place, lasts how long it
	// asked for.
	key      driver.Key
	lasts    time.Duration
	deadline driver.Instant
	to       *Driver
}

// end remembers how a hold ended; a tombstone of Leave has no token and no key.
type end struct {
	request string
	token   int64
	key     driver.Key
	cause   driver.Cause
	// attempt, if not empty, is the key of the attempt that was left: others at
	// the request have not ended.
	attempt driver.Key
}

// ends says whether an acquire is one of those that e ended.
func (e end) ends(request string, key driver.Key) bool {
	return e.request == request && (e.attempt == "" || e.attempt == key)
}

// untold is the end of a lease that is to be reported, not before again.
type untold struct {
	driver.Ended
	again driver.Instant
}

// addressed is a hint with the driver that it concerns, nil if that is gone.
type addressed struct {
	driver.Hint
	to *Driver
}

func newRecord(id string) *record { return &record{id: id} }

func (r *record) busy() bool { return len(r.holders) > 0 || len(r.waiters) > 0 }

// prune drops every expired holder and every dead waiter in one step.
func (r *record) prune(now driver.Instant) {
	before := len(r.holders) + len(r.waiters)
	for i := len(r.holders) - 1; i >= 0; i-- {
		if h := r.holders[i]; h.expires <= now {
			r.endLease(h, driver.CauseExpired)
			r.evicted = append(r.evicted, untold{Ended: h.ended(r.id, driver.CauseExpired)})
		}
	}
	if len(r.waiters) > 0 && r.firstDeath <= now {
		r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
			if w.deadline <= now {
				delete(r.byRequest, w.request)
				return true
			}
			return false
		})
		r.firstDeath = 1<<63 - 1
		for _, w := range r.waiters {
			r.firstDeath = min(r.firstDeath, w.deadline)
		}
	}
	if len(r.holders)+len(r.waiters) != before {
		r.changed = true
		r.wake()
	}
}

// wake hints at every waiter that could be granted now.
func (r *record) wake() {
	for i, w := range r.waiters {
		if !r.admits(w.shared) || i > 0 && !w.shared {
			return
		}
		r.hints = append(r.hints, addressed{driver.Hint{Kind: driver.HintGrantable, LockID: r.id, RequestID: w.request}, w.to})
		if !w.shared {
			return
		}
	}
}

// tell hints at the holder that its lease has changed under it.
func (r *record) tell(h *holder) {
	r.hints = append(r.hints, addressed{driver.Hint{Kind: driver.HintRevoked, LockID: r.id, Token: h.token}, h.to})
}

// admits says whether the holders leave room for a lease of the mode.
func (r *record) admits(shared bool) bool {
	return len(r.holders) == 0 || shared && r.holders[0].shared
}

// first says whether no living waiter stands before w: a shared one shares the
// head with the shared ones before it.
func (r *record) first(w *waiter) bool {
	for _, other := range r.waiters {
		if other == w {
			return true
		}
		if !w.shared || !other.shared {
			return false
		}
	}
	return false
}

func (r *record) position(w *waiter) int {
	i, _ := slices.BinarySearchFunc(r.waiters, w, compareWaiters)
	return i + 1
}

func compareWaiters(a, b *waiter) int {
	return cmp.Or(cmp.Compare(a.order, b.order), cmp.Compare(a.ticket, b.ticket))
}

func (r *record) enqueue(w *waiter) {
	i, _ := slices.BinarySearchFunc(r.waiters, w, compareWaiters)
	r.waiters = slices.Insert(r.waiters, i, w)
	if r.byRequest == nil {
		r.byRequest = make(map[string]*waiter)
	}
	r.byRequest[w.request] = w
	r.changed = true
	if len(r.waiters) == 1 || w.deadline < r.firstDeath {
		r.firstDeath = w.deadline
	}
}

func (r *record) dequeue(w *waiter) {
	i, _ := slices.BinarySearchFunc(r.waiters, w, compareWaiters)
	r.waiters = slices.Delete(r.waiters, i, i+1)
	delete(r.byRequest, w.request)
	r.changed = true
}

func (r *record) holderOf(match func(*holder) bool) *holder {
	if i := slices.IndexFunc(r.holders, match); i >= 0 {
		return r.holders[i]
	}
	return nil
}

// endLease removes a lease and remembers its holds.
func (r *record) endLease(h *holder, cause driver.Cause) {
	r.changed = true
	r.holders = slices.DeleteFunc(r.holders, func(other *holder) bool { return other == h })
	for _, request := range h.holds {
		r.remember(end{request: request, token: h.token, key: h.key, cause: cause})
	}
}

func (r *record) remember(e end) {
	r.changed = true
	if len(r.ends) == driver.RememberedEnds {
		r.ends = slices.Delete(r.ends, 0, 1)
	}
	r.ends = append(r.ends, e)
}

func (r *record) endOf(match func(end) bool) (end, bool) {
	for _, e := range slices.Backward(r.ends) {
		if match(e) {
			return e, true
		}
	}
	return end{}, false
}

func (h *holder) ended(lockID string, cause driver.Cause) driver.Ended {
	return driver.Ended{LockID: lockID, OwnerID: h.owner, Token: h.token, Shared: h.shared, Cause: cause}
}

// lease describes h as the call that came at origin proves it.
func (h *holder) lease(lockID string, at moment) *driver.Lease {
	remaining := h.expires.Sub(at.now)
	return &driver.Lease{
		LockID: lockID, OwnerID: h.owner, Token: h.token, Shared: h.shared, Holds: slices.Clone(h.holds),
		Attach: h.attach, TTL: h.ttl, Remaining: remaining, Origin: at.now, ExpiresAt: at.wall.Add(remaining),
		Metadata: maps.Clone(h.metadata),
	}
}

// public is h as everybody may see it.
func (h *holder) public(at moment) driver.Holder {
	remaining := h.expires.Sub(at.now)
	return driver.Holder{
		OwnerID: h.owner, Token: h.token, Shared: h.shared, HoldCount: len(h.holds), Attach: h.attach, TTL: h.ttl,
		Remaining: remaining, ExpiresAt: at.wall.Add(remaining), Revoked: h.revoked, Metadata: maps.Clone(h.metadata),
	}
}
