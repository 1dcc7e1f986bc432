package backend

import (
	"context"
	"hash/maphash"
	"math/rand/v2"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// waiterShards spreads the waiting requests over mutexes: every acquire that
// may wait enters and leaves one.
const waiterShards = 64

// waiters finds the waiting acquire that a hint is for.
type waiters struct {
	shards [waiterShards]struct {
		mu     sync.Mutex
		places map[placeName]*place
	}
}

type placeName struct{ lockID, requestID string }

// place is where an acquire waits for a hint. A hint that nobody has taken yet
// stays.
type place struct {
	lockID string
	wake   chan struct{}
	// superseded is closed when a newer attempt at the request has come, left
	// when this one has ended.
	superseded, left chan struct{}
	// refusal is why the acquire is to wait no longer; a hint tells that it is there.
	refusal atomic.Pointer[DeadlockError]
	// since is when the acquire began, or the attempt at it that it superseded, named
	// that it names its owner. length is
	// that of the queue when the place was last seen in it; 0: it was not yet.
	since  time.Time
	named  bool
	length atomic.Int32
	// keys are those under which a superseded attempt, or one before it, may
	// have something in the store: what became of it is up to the newer attempt.
	// They are set before left is closed.
	keys []driver.Key
}

func (p *place) hint() {
	select {
	case p.wake <- struct{}{}:
	default:
	}
}

var waiterSeed = maphash.MakeSeed()

func shardOf(requestID string) uint64 { return maphash.String(waiterSeed, requestID) % waiterShards }

// enter makes a place, and supersedes the one of an older attempt at the same
// request, if there is one.
func (w *waiters) enter(lockID, requestID string, named bool) (p, older *place) {
	p = &place{
		lockID: lockID, wake: make(chan struct{}, 1), superseded: make(chan struct{}), left: make(chan struct{}),
		since: time.Now(), named: named,
	}
	s, name := &w.shards[shardOf(requestID)], placeName{lockID, requestID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.places == nil {
		s.places = make(map[placeName]*place)
	}
	if older = s.places[name]; older != nil {
		close(older.superseded)
		p.since = older.since
	}
	s.places[name] = p
	return p, older
}

// leave ends the place, and forgets it unless a newer attempt has taken over.
func (w *waiters) leave(lockID, requestID string, p *place) {
	s, name := &w.shards[shardOf(requestID)], placeName{lockID, requestID}
	s.mu.Lock()
	defer s.mu.Unlock()
	close(p.left)
	if s.places[name] == p {
		delete(s.places, name)
	}
}

func (w *waiters) find(lockID, requestID string) *place {
	s := &w.shards[shardOf(requestID)]
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.places[placeName{lockID, requestID}]
}

func (w *waiters) all() (places []*place) {
	for i := range w.shards {
		s := &w.shards[i]
		s.mu.Lock()
		for _, p := range s.places {
			places = append(places, p)
		}
		s.mu.Unlock()
	}
	return places
}

// rewatch is the longest pause before a broken watch is taken up again.
const rewatch = 500 * time.Millisecond

// watch passes the store's hints on until the store is closed.
func (s *Store) watch(hints func(context.Context, func(driver.Hint)) error) {
	for s.stopped.Err() == nil {
		err := hints(s.stopped, s.hint)
		if s.stopped.Err() != nil {
			return
		}
		s.o.Logger.Warn("the watch for hints ended, waiters poll until it is back", driver.LogBackend, s.o.Name, driver.LogError, err)
		t := time.NewTimer(rewatch/2 + time.Duration(rand.Int64N(int64(rewatch/2))))
		select {
		case <-t.C:
		case <-s.stopped.Done():
		}
		t.Stop()
	}
}

func (s *Store) hint(h driver.Hint) {
	switch h.Kind {
	case driver.HintGrantable:
		if p := s.waiters.find(h.LockID, h.RequestID); p != nil {
			p.hint()
		}
	case driver.HintRevoked:
		if f := s.revoked.Load(); f != nil {
			(*f)(h.LockID, h.Token)
		}
	case driver.HintResync:
		for _, p := range s.waiters.all() {
			// Spread, so that a fleet does not fall upon a store that is just
			// back.
			time.AfterFunc(time.Duration(rand.Int64N(int64(s.caps.Poll)/2+1)), p.hint)
		}
	}
}
