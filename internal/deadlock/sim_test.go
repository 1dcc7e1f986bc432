package deadlock

import (
	"cmp"
	"context"
	"fmt"
	"math/rand/v2"
	"slices"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// world is a fleet's stores as a model: locks that are held and waited for by the
// rules of the driver's contract, and owners who act at random, by a seed. While
// a store is read the world goes on.
type world struct {
	rand   *rand.Rand
	stores []*simStore
	locks  []*simLock
	owners []*simOwner
	// ordered: owners take locks in one order, so that they never deadlock.
	ordered bool
	tokens  int64
	request int
	// still: nothing happens any more.
	still bool
	// past has the waits that stood after each event since it was cleared.
	past   []map[string]bool
	record bool
}

type simStore struct {
	w    *world
	name string
}

type simLock struct {
	driver.Lock
	store *simStore
	seq   int64
}

type simOwner struct {
	id string
	// places are the requests of the owner that wait, by the lock's number.
	places map[int]string
}

func newWorld(seed uint64, ordered bool) *world {
	w := &world{rand: rand.New(rand.NewPCG(seed, 1)), ordered: ordered, tokens: 1000}
	for i := range 1 + w.rand.IntN(3) {
		w.stores = append(w.stores, &simStore{w, fmt.Sprint("store", i)})
	}
	for i := range 2 + w.rand.IntN(4) {
		// One id may be in several stores: those are different locks.
		w.locks = append(w.locks, &simLock{Lock: driver.Lock{LockID: fmt.Sprint("lock", i%3)}, store: w.stores[w.rand.IntN(len(w.stores))]})
	}
	slices.SortFunc(w.locks, func(a, b *simLock) int {
		return cmp.Or(strings.Compare(a.store.name, b.store.name), strings.Compare(a.LockID, b.LockID))
	})
	w.locks = slices.CompactFunc(w.locks, func(a, b *simLock) bool { return a.store == b.store && a.LockID == b.LockID })
	w.rand.Shuffle(len(w.locks), func(i, j int) { w.locks[i], w.locks[j] = w.locks[j], w.locks[i] })
	for i := range 2 + w.rand.IntN(5) {
		w.owners = append(w.owners, &simOwner{id: fmt.Sprintf("owner%02d", i), places: map[int]string{}})
	}
	return w
}

func (w *world) run(events int) {
	for range events {
		w.event()
	}
}

// event lets one owner do one thing.
func (w *world) event() {
	if w.still {
		return
	}
	o := w.owners[w.rand.IntN(len(w.owners))]
	waiting := sortedKeys(o.places)
	switch {
	case len(waiting) > 0 && (w.ordered || w.rand.IntN(8) > 0):
		w.poll(o, waiting[w.rand.IntN(len(waiting))])
	case w.rand.IntN(3) == 0:
		w.release(o)
	default:
		w.acquire(o)
	}
	if w.record {
		w.past = append(w.past, w.waits())
	}
}

func sortedKeys(m map[int]string) (keys []int) {
	for k := range m {
		keys = append(keys, k)
	}
	slices.Sort(keys)
	return keys
}

func (w *world) holds(o *simOwner, n int) bool {
	return slices.ContainsFunc(w.locks[n].Holders, func(h driver.Holder) bool { return h.OwnerID == o.id })
}

// poll repeats a waiting acquire, or now and then gives it up.
func (w *world) poll(o *simOwner, n int) {
	l := w.locks[n]
	i := slices.IndexFunc(l.Waiters, func(x driver.Waiter) bool { return x.RequestID == o.places[n] })
	me := l.Waiters[i]
	first := true
	for _, before := range l.Waiters[:i] {
		first = first && me.Shared && before.Shared
	}
	switch {
	case first && l.admits(me.Shared):
		l.Waiters = slices.Delete(l.Waiters, i, i+1)
		delete(o.places, n)
		w.grant(o, l, me.Shared)
	case w.rand.IntN(6) == 0:
		l.Waiters = slices.Delete(l.Waiters, i, i+1)
		delete(o.places, n)
	}
}

func (l *simLock) admits(shared bool) bool {
	return len(l.Holders) == 0 || shared && l.Holders[0].Shared
}

func (w *world) grant(o *simOwner, l *simLock, shared bool) {
	w.tokens++
	l.Token = w.tokens
	l.Holders = append(l.Holders, driver.Holder{OwnerID: o.id, Token: w.tokens, Shared: shared})
}

func (w *world) release(o *simOwner) {
	if len(o.places) > 0 {
		return // it needs what it waits for first
	}
	for _, n := range w.rand.Perm(len(w.locks)) {
		if w.holds(o, n) {
			l := w.locks[n]
			l.Holders = slices.DeleteFunc(l.Holders, func(h driver.Holder) bool { return h.OwnerID == o.id })
			return
		}
	}
}

// acquire takes a lock or a place. In an ordered world it is one after all that
// the owner has; else an owner may wait for several at a time.
func (w *world) acquire(o *simOwner) {
	n := w.rand.IntN(len(w.locks))
	for i := range w.locks {
		if w.holds(o, i) && (i == n || w.ordered && i > n) {
			return
		}
	}
	if _, waits := o.places[n]; waits || w.ordered && len(o.places) > 0 {
		return
	}
	l, shared := w.locks[n], w.rand.IntN(5) < 2
	if l.admits(shared) && len(l.Waiters) == 0 {
		w.grant(o, l, shared)
		return
	}
	w.request++
	l.seq++
	o.places[n] = fmt.Sprint("request", w.request)
	me := driver.Waiter{OwnerID: o.id, RequestID: o.places[n], Ticket: l.seq, Shared: shared, Priority: w.rand.IntN(4) / 3}
	l.Waiters = append(l.Waiters, me)
	slices.SortStableFunc(l.Waiters, func(a, b driver.Waiter) int {
		return cmp.Or(cmp.Compare(driver.OrderKey(a.Ticket, a.Priority), driver.OrderKey(b.Ticket, b.Priority)), cmp.Compare(a.Ticket, b.Ticket))
	})
}

// drop ends a place from outside.
func (w *world) drop(at location, request string) {
	for n, l := range w.locks {
		if l.LockID == at.lock && l.store == w.stores[at.store] {
			l.Waiters = slices.DeleteFunc(l.Waiters, func(x driver.Waiter) bool { return x.RequestID == request })
			for _, o := range w.owners {
				if o.places[n] == request {
					delete(o.places, n)
				}
			}
		}
	}
}

// name is a wait as text; all of it is of the truth.
func name(store, lock, from string, ticket int64, to string, token int64) string {
	return fmt.Sprint(store, " ", lock, " ", from, " ", ticket, " ", to, " ", token)
}

// waits are all that stand now, by the plain rule: every conflicting holder and
// every conflicting waiter before.
func (w *world) waits() map[string]bool {
	all := map[string]bool{}
	for _, l := range w.locks {
		for i, x := range l.Waiters {
			for _, h := range l.Holders {
				if h.OwnerID != x.OwnerID && !(h.Shared && x.Shared) {
					all[name(l.store.name, l.LockID, x.OwnerID, x.Ticket, h.OwnerID, h.Token)] = true
				}
			}
			for _, v := range l.Waiters[:i] {
				if v.OwnerID != x.OwnerID && !(v.Shared && x.Shared) {
					all[name(l.store.name, l.LockID, x.OwnerID, x.Ticket, v.OwnerID, 0)] = true
				}
			}
		}
	}
	return all
}

// deadlocked says by plain search whether somebody waits for itself now.
func (w *world) deadlocked() bool {
	next := map[string][]string{}
	for wait := range w.waits() {
		f := strings.Fields(wait)
		next[f[2]] = append(next[f[2]], f[4])
	}
	for start := range next {
		seen, todo := map[string]bool{}, []string{start}
		for len(todo) > 0 {
			at := todo[len(todo)-1]
			todo = todo[:len(todo)-1]
			for _, to := range next[at] {
				if to == start {
					return true
				}
				if !seen[to] {
					seen[to] = true
					todo = append(todo, to)
				}
			}
		}
	}
	return false
}

func (s *simStore) Name() string { return s.name }

// List shows one lock a page, and the world goes on before and after.
func (s *simStore) List(_ context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	s.w.run(s.w.rand.IntN(10))
	page := &driver.ListPage{}
	var ids []string
	for _, l := range s.w.locks {
		if l.store == s && l.LockID > req.PageToken && len(l.Waiters) > 0 {
			ids = append(ids, l.LockID)
		}
	}
	slices.Sort(ids)
	if len(ids) > 0 {
		page.Locks = []driver.Lock{*s.look(ids[0])}
		if len(ids) > 1 {
			page.NextPageToken = ids[0]
		}
	}
	s.w.run(s.w.rand.IntN(10))
	return page, nil
}

func (s *simStore) Get(_ context.Context, lockID string) (*driver.Lock, error) {
	s.w.run(s.w.rand.IntN(10))
	return s.look(lockID), nil
}

func (s *simStore) look(lockID string) *driver.Lock {
	for _, l := range s.w.locks {
		if l.store == s && l.LockID == lockID {
			seen := l.Lock
			seen.Holders, seen.Waiters = slices.Clone(l.Holders), slices.Clone(l.Waiters)
			return &seen
		}
	}
	return &driver.Lock{LockID: lockID}
}

func (w *world) asStores() (stores []Store) {
	for _, s := range w.stores {
		stores = append(stores, s)
	}
	return stores
}
