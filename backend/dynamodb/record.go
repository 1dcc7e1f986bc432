package dynamodb

import (
	"cmp"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// record is all state of one lock, as it was read, and what a call makes of it.
type record struct {
	id string
	// exists says that there is an item; version is the one that was read.
	exists  bool
	version int64
	// last is the highest token granted, seq the last ticket.
	last, seq int64
	holders   []*holder
	// waiters are in order.
	waiters []*waiter
	// ends are the latest ends of holds, the newest last.
	ends []end

	change change
}

// change is what a call has done to a record.
type change struct {
	// any: something but the dropping of what has run out.
	any         bool
	last, queue bool
	ends        bool
	// put are leases that are new or others than was read, removed are gone.
	put, removed []*holder
	// expired are the removed ones that had expired. evicted are those of them that
	// no call has asked for by name; untold: none has reported them.
	expired []*holder
	evicted []driver.Ended
	untold  bool
	// rest: more has expired than one write can name.
	rest bool
	// left are the request ids of this driver's places that are given up: once that
	// is written, and not before, it knows them no more.
	left []string
	// cancelled are those of them that an operator has dropped: they are to learn it.
	cancelled []string
	// silent are drivers whose places were found dead by their silence.
	silent []beatName
	// proven are leases that the write itself proves: they count from its send.
	proven []*driver.Lease
	// lose are hints for the holders of leases that were changed under them.
	lose []driver.Hint
}

// holder is a lease.
type holder struct {
	owner    string
	token    int64
	key      driver.Key
	shared   bool
	holds    []string
	attach   int64
	beat     int64
	ttl      time.Duration
	revoked  bool
	metadata map[string]string
	// read is the beat that was read; 0: the lease is new.
	read int64
	// expires is when this driver knows it to have run out.
	expires driver.Instant
	// own: this driver made the beat, and since is from before it was sent.
	own   bool
	since driver.Instant
}

// waiter is a place in the queue.
type waiter struct {
	owner, request string
	ticket         int64
	priority       int
	shared         bool
	// key is of the latest attempt that asked for the place, driver the one that it
	// asked, ttl how long the place lasts.
	key    driver.Key
	driver string
	ttl    time.Duration
	// dies is when this driver knows it to be dead.
	dies driver.Instant
}

// end remembers how a hold ended. mark says which acquires it ends.
type end struct {
	mark  string
	token int64
	key   driver.Key
	cause driver.Cause
}

// moment is when a call decides.
type moment struct {
	now  driver.Instant
	wall time.Time
}

func (w *waiter) order() int64 { return driver.OrderKey(w.ticket, w.priority) }

func compareWaiters(a, b *waiter) int {
	return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.ticket, b.ticket))
}

// prune drops every lease that has expired, as far as one write can name them, and
// every dead place.
func (r *record) prune(s *Store, at moment) {
	for i := len(r.holders) - 1; i >= 0; i-- {
		if h := r.holders[i]; h.expires <= at.now {
			if len(r.change.expired) >= maxExpired {
				r.change.rest = true
				break
			}
			r.endLease(h, driver.CauseExpired)
			r.change.expired = append(r.change.expired, h)
			r.change.evicted, r.change.untold = append(r.change.evicted, h.ended(r.id, driver.CauseExpired)), true
		}
	}
	r.waiters = slices.DeleteFunc(r.waiters, func(w *waiter) bool {
		if w.dies > at.now {
			return false
		}
		r.change.queue = true
		if name := (beatName{r.id, w.driver}); w.driver != s.id && !slices.Contains(r.change.silent, name) {
			r.change.silent = append(r.change.silent, name)
		}
		return true
	})
}

// admits says whether the holders leave room for a lease of the mode.
func (r *record) admits(shared bool) bool {
	return len(r.holders) == 0 || shared && r.holders[0].shared
}

// first says whether no waiter stands before w: a shared one shares the head with
// the shared ones before it.
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

// grantable are the request ids of the waiters of the driver that could be granted.
func (r *record) grantable(driver string) (requests []string) {
	for i, w := range r.waiters {
		if !r.admits(w.shared) || i > 0 && !w.shared {
			break
		}
		if w.driver == driver {
			requests = append(requests, w.request)
		}
		if !w.shared {
			break
		}
	}
	return requests
}

func (r *record) position(w *waiter) int { return slices.Index(r.waiters, w) + 1 }

func (r *record) waiter(request string) *waiter {
	if i := slices.IndexFunc(r.waiters, func(w *waiter) bool { return w.request == request }); i >= 0 {
		return r.waiters[i]
	}
	return nil
}

func (r *record) enqueue(w *waiter) {
	i, _ := slices.BinarySearchFunc(r.waiters, w, compareWaiters)
	r.waiters = slices.Insert(r.waiters, i, w)
	r.change.any, r.change.queue = true, true
}

func (r *record) dequeue(w *waiter) {
	r.waiters = slices.DeleteFunc(r.waiters, func(other *waiter) bool { return other == w })
	r.change.any, r.change.queue = true, true
}

func (r *record) holderOf(match func(*holder) bool) *holder {
	if i := slices.IndexFunc(r.holders, match); i >= 0 {
		return r.holders[i]
	}
	return nil
}

// put marks a lease as changed.
func (r *record) put(h *holder) {
	r.change.any = true
	if !slices.Contains(r.change.put, h) {
		r.change.put = append(r.change.put, h)
	}
}

// remove takes a lease away, also one that another call of the turn has changed.
func (r *record) remove(h *holder) {
	r.holders = slices.DeleteFunc(r.holders, func(other *holder) bool { return other == h })
	r.change.put = slices.DeleteFunc(r.change.put, func(other *holder) bool { return other == h })
	r.change.removed = append(r.change.removed, h)
}

// endLease removes a lease and remembers its holds.
func (r *record) endLease(h *holder, cause driver.Cause) {
	r.remove(h)
	for _, request := range h.holds {
		r.remember(end{mark: requestMark(request), token: h.token, key: h.key, cause: cause})
	}
}

// kept are the ends of a record that was read and written.
const kept = driver.RememberedEnds

func (r *record) remember(e end) {
	r.ends = append(r.ends, e)
	r.ends = r.ends[max(0, len(r.ends)-kept):]
	r.change.ends = true
}

func (r *record) endOf(match func(end) bool) (end, bool) {
	for _, e := range slices.Backward(r.ends) {
		if match(e) {
			return e, true
		}
	}
	return end{}, false
}

// requestMark and attemptMark are of an end of all attempts at a request, and of the
// one with the key.
func requestMark(request string) string { return "r" + mark(request) }

func attemptMark(request string, key driver.Key) string {
	if key == "" {
		return requestMark(request)
	}
	return "a" + mark(request+"\x1f"+string(key))
}

// mark is what the record keeps of a request id, which is a secret.
func mark(text string) string { return string(driver.KeyOf(text))[:32] }

// ends says whether an acquire is one of those that e ended.
func (e end) ends(request string, key driver.Key) bool {
	return e.mark == requestMark(request) || key != "" && e.mark == attemptMark(request, key)
}

func (h *holder) ended(lockID string, cause driver.Cause) driver.Ended {
	return driver.Ended{LockID: lockID, OwnerID: h.owner, Token: h.token, Shared: h.shared, Cause: cause}
}

// name is of the lease among the observations.
func (h *holder) name(lockID string) leaseName { return leaseName{lockID, h.token} }
