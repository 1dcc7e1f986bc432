package embedded

import (
	"container/list"
	"context"
	"fmt"
	"hash/maphash"
	"path/filepath"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The defaults of Options, and what is fixed.
const (
	defaultMinTTL    = time.Second
	defaultPoll      = 2 * time.Second
	defaultRetention = 24 * time.Hour
	defaultTimeout   = 5 * time.Second
	defaultPrefix    = "locksidecar"
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

	// Path is the absolute path of the file that keeps the locks over the end of
	// the process, in a file system that can lock, map and link files; its
	// directory is made if there is none. Empty means that they end with the
	// process, and that the fields below mean nothing.
	Path string
	// Prefix names the locks of this store within the file; empty means
	// "locksidecar".
	Prefix string
	// Timeout bounds how long a call waits for the disk, and opening for another
	// process that has the file; 0 means 5 s.
	Timeout time.Duration
	// Boot names what makes readings of Clock comparable over a restart of the
	// process: while it is the same, leases go on to count. Over a change, and if
	// it is empty, each lease has from the restart what it had left when it was
	// last written: it ends late, never early. With a nil Clock it is found out.
	Boot string

	// maxSize bounds the file in bytes, for tests; 0 means the disk does.
	maxSize int
}

// Memory is a store of locks. Several drivers may be opened on it.
type Memory struct {
	o      Options
	seed   maphash.Seed
	shards [shardCount]shard
	// file and disk are nil without a file.
	file *file
	disk *disk
	// openers counts the drivers; the end of the last one closes an owned memory.
	openers atomic.Int64
	owned   bool
}

// shard is a share of the locks under one mutex.
type shard struct {
	mu    sync.Mutex
	locks map[string]*record
	// idle lists the records of free locks; the first is looked at next.
	idle list.List
	// held are the records that have leases, in no order, and due is not later
	// than the first expiry among them. unreported are records that have
	// expired leases to report.
	held       []*record
	due        driver.Instant
	unreported []*record

	// With a file: unwritten are the locks whose newest state is not known to
	// be in it.
	disk      *disk
	clock     driver.Clock
	unwritten map[string]*unwritten
}

// NewMemory makes a store: an empty one, or, with a Path, that of the file, which
// is made if there is none. A file that another process has, that is damaged, or
// that a newer version has written is refused, and left as it is. A memory with a
// file is to be closed.
func NewMemory(o Options) (*Memory, error) {
	if o.Clock == nil {
		o.Clock, o.Boot = driver.BootClock, boot()
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{{"MinTTL", &o.MinTTL, defaultMinTTL}, {"Poll", &o.Poll, defaultPoll}, {"Retention", &o.Retention, defaultRetention}, {"Timeout", &o.Timeout, defaultTimeout}} {
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
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	m := &Memory{o: o, seed: maphash.MakeSeed()}
	for i := range m.shards {
		m.shards[i].locks = make(map[string]*record)
		m.shards[i].due = never
	}
	if o.Path == "" {
		return m, nil
	}
	if !filepath.IsAbs(o.Path) {
		return nil, fmt.Errorf("embedded: Options.Path is %q: %w, it must be absolute", o.Path, driver.ErrInvalid)
	}
	return m, m.load()
}

// Open returns a driver on the memory. Closing it leaves the memory as it is.
func (m *Memory) Open() *Driver {
	m.openers.Add(1)
	return &Driver{m: m, ended: make(chan struct{})}
}

// Close writes what waits to be written and closes the file, if there is one.
func (m *Memory) Close() error {
	if m.disk == nil {
		return nil
	}
	return m.disk.close()
}

// Wipe forgets everything, as a store that lost its data does. It fails if the
// file does not take it.
func (m *Memory) Wipe() error {
	var waits []*entry
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for _, r := range s.locks {
			s.remove(r)
			r.changed = true
			waits = append(waits, s.keep(r, 0))
		}
		s.due = never
		s.mu.Unlock()
	}
	return m.await(context.Background(), waits)
}

// await waits for each of the entries, as far as they are not nil.
func (m *Memory) await(ctx context.Context, entries []*entry) error {
	for _, e := range entries {
		if err := e.wait(ctx, m.o.Timeout); err != nil {
			return err
		}
	}
	return nil
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

// answer is that of a call which has changed the memory: it may be given once the
// disk has the change, if there is a disk.
type answer[T any] struct {
	result  T
	err     error
	pending *entry
	timeout time.Duration
}

// none is the result of a call that has none.
type none struct{}

// wait returns the answer once it may be given.
func (a answer[T]) wait(ctx context.Context) (T, error) {
	if err := a.pending.wait(ctx, a.timeout); err != nil {
		var nothing T
		return nothing, err
	}
	return a.result, a.err
}

// change is update for a call of a driver.
func change[T any](d *Driver, lockID string, f func(r *record, at moment) (T, error)) answer[T] {
	a := answer[T]{timeout: d.m.o.Timeout}
	pending, err := d.m.update(lockID, func(r *record, at moment) { a.result, a.err = f(r, at) })
	if a.pending = pending; err != nil {
		a.err = err
	}
	return a
}

// update runs f on the record of a lock, made if there is none, and delivers
// the hints that f left in it once no mutex is held. Whoever looks first drops
// what has run out. With a file, it returns what is to be waited for before
// anything is told of what f saw; an error means that f was not run.
func (m *Memory) update(lockID string, f func(r *record, at moment)) (*entry, error) {
	if m.disk != nil {
		if err := m.disk.refuses(); err != nil {
			return nil, err
		}
	}
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
	s.track(r)
	pending := s.keep(r, at.now)
	s.mu.Unlock()
	// Also before the change is durable: whom they wake builds on it, and often
	// shares its transaction.
	deliver(hints)
	return pending, nil
}

// view runs f on the record of a lock, nil if there is none, for reading. It does
// not wait for the disk: what is not durable is not shown.
func (m *Memory) view(lockID string, f func(r *record, at moment)) {
	s := m.shard(lockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	at := m.moment()
	f(s.shown(lockID, at.now), at)
}

// settle files the record as idle or busy, and collects a few idle ones whose
// retention has passed. The retention counts from the latest call, so that what
// it wrote (an end, a tombstone) is kept as long, and from the token too, so that
// a token made by a clock that ran ahead outlives the step back.
func (s *shard) settle(r *record, at moment, retention time.Duration) {
	switch busy := r.busy(); {
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
// retention has passed. No answer waits for the disk to forget them.
func (s *shard) collect(at moment, n int) (dropped []*entry) {
	for range n {
		e := s.idle.Front()
		if e == nil {
			return dropped
		}
		r := e.Value.(*record)
		if at.wall.Before(r.keepUntil) {
			s.idle.MoveToBack(e)
			continue
		}
		s.idle.Remove(e)
		r.idle = nil
		if e := s.drop(r); e != nil {
			dropped = append(dropped, e)
		}
	}
	return dropped
}

// Collect drops at once every record of a free lock whose retention has passed.
// Nobody has to call it: each call on a lock collects a few. It fails if the file
// does not take it.
func (m *Memory) Collect() error {
	var dropped []*entry
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		dropped = append(dropped, s.collect(m.moment(), s.idle.Len())...)
		s.mu.Unlock()
	}
	return m.await(context.Background(), dropped)
}
