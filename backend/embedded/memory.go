package embedded

import (
	"container/list"
	"fmt"
	"hash/maphash"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The defaults of Options, and what is fixed.
const (
	defaultMinTTL    = time.Second
	defaultPoll      = 2 * time.Second
	defaultRetention = 24 * time.Hour
	// maxTTL is the longest lease (the same for every store).
	maxTTL = 60 * time.Second
	// shardCount spreads the locks over mutexes; a power of two well above the
	// processors of a host.
	shardCount = 64
	// sweep is how many idle records a call looks at, so that collecting them
	// keeps pace with making them and no call pays for many.
	sweep = 2
)

// Options configure a Memory. The zero value is usable.
type Options struct {
	// Clock measures leases and places; nil means driver.BootClock.
	Clock driver.Clock
	// Now is the wall clock, for tokens and for display; nil means time.Now.
	Now func() time.Time
	// MinTTL is the smallest TTL; 0 means 1 s. A smaller request is rounded up.
	MinTTL time.Duration
	// Poll bounds a waiter's sleep; 0 means 2 s.
	Poll time.Duration
	// Retention is how long the token of a free lock is remembered; 0 means
	// 24 h. After it only the clock keeps tokens rising, so it should exceed
	// the backward step of the wall clock that is to be survived.
	Retention time.Duration
}

// Memory is a store of locks. Several drivers may be opened on it.
type Memory struct {
	o      Options
	seed   maphash.Seed
	shards [shardCount]shard
}

// shard is a share of the locks under one mutex.
type shard struct {
	mu    sync.Mutex
	locks map[string]*record
	// idle lists the records of free locks; the first is looked at next.
	idle list.List
}

// NewMemory makes an empty store.
func NewMemory(o Options) (*Memory, error) {
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{{"MinTTL", &o.MinTTL, defaultMinTTL}, {"Poll", &o.Poll, defaultPoll}, {"Retention", &o.Retention, defaultRetention}} {
		if *d.value < 0 {
			return nil, fmt.Errorf("embedded: Options.%s is %v: %w, it must not be negative", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if o.MinTTL > maxTTL {
		return nil, fmt.Errorf("embedded: Options.MinTTL is %v: %w, it must not exceed %v", o.MinTTL, driver.ErrInvalid, maxTTL)
	}
	m := &Memory{o: o, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].locks = make(map[string]*record)
	}
	return m, nil
}

// Open returns a driver on the memory. Closing it leaves the memory as it is.
func (m *Memory) Open() *Driver { return &Driver{m: m, ended: make(chan struct{})} }

// Wipe forgets everything, as a store that lost its data does.
func (m *Memory) Wipe() {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.locks = make(map[string]*record)
		s.idle.Init()
		s.mu.Unlock()
	}
}

func (m *Memory) shard(lockID string) *shard {
	return &m.shards[maphash.String(m.seed, lockID)%shardCount]
}

// moment is one reading of both clocks.
type moment struct {
	now  driver.Instant
	wall time.Time
}

func (m *Memory) moment() moment { return moment{m.o.Clock.Now(), m.o.Now()} }

// update runs f on the record of a lock, made if there is none, and delivers
// the hints that f left in it once no mutex is held. Whoever looks first drops
// what has run out.
func (m *Memory) update(lockID string, f func(r *record, at moment)) {
	s := m.shard(lockID)
	s.mu.Lock()
	at := m.moment()
	r := s.locks[lockID]
	if r == nil {
		r = newRecord(lockID)
		s.locks[lockID] = r
	}
	r.prune(at.now)
	f(r, at)
	hints := r.hints
	r.hints = nil
	s.settle(r, at, m.o.Retention)
	s.mu.Unlock()
	for _, h := range hints {
		h.to.hint(h.Hint)
	}
}

// view runs f on the record of a lock, nil if there is none, for reading.
func (m *Memory) view(lockID string, f func(r *record, at moment)) {
	s := m.shard(lockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	f(s.locks[lockID], m.moment())
}

// settle files the record as idle or busy, and collects a few idle ones whose
// retention has passed. The retention counts from the latest call, so that what
// it wrote (an end, a tombstone) is kept as long, and from the token too, so that
// a token made by a clock that ran ahead outlives the step back.
func (s *shard) settle(r *record, at moment, retention time.Duration) {
	switch busy := len(r.holders) > 0 || len(r.waiters) > 0; {
	case !busy && r.last == 0 && len(r.ends) == 0:
		delete(s.locks, r.id) // a call that found nothing leaves nothing
	case busy && r.idle != nil:
		s.idle.Remove(r.idle)
		r.idle = nil
	case !busy:
		from := at.wall
		if t := time.UnixMicro(r.last); t.After(from) {
			from = t
		}
		r.keepUntil = from.Add(retention)
		if r.idle == nil {
			r.idle = s.idle.PushBack(r)
		}
	}
	s.collect(at, sweep)
}

// collect looks at n idle records, each time at others, and drops those whose
// retention has passed.
func (s *shard) collect(at moment, n int) {
	for range n {
		e := s.idle.Front()
		if e == nil {
			return
		}
		r := e.Value.(*record)
		if at.wall.Before(r.keepUntil) {
			s.idle.MoveToBack(e)
			continue
		}
		s.idle.Remove(e)
		delete(s.locks, r.id)
	}
}

// Collect drops at once every record of a free lock whose retention has passed.
// Nobody has to call it: each call on a lock collects a few.
func (m *Memory) Collect() {
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		s.collect(m.moment(), s.idle.Len())
		s.mu.Unlock()
	}
}
