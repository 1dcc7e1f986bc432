package embedded

import (
	"iter"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// retell is after how long an end that nobody has told is reported again.
const retell = 5 * time.Second

// unwritten is a lock whose newest state is not known to be in the file.
type unwritten struct {
	// written is what the file has, nil if nothing.
	written []byte
	// newest is the entry of the newest state.
	newest *entry
}

// keep hands a record's change to the disk and returns what the answer has to
// wait for: also of a call that changed nothing, but saw what is not durable.
// The shard's mutex is held.
func (s *shard) keep(r *record, now driver.Instant) *entry {
	if s.disk == nil {
		return nil
	}
	u := s.unwritten[r.id]
	if r.changed {
		r.changed = false
		var value []byte
		if s.locks[r.id] == r {
			value = r.encode(now)
		}
		if value == nil && r.image == nil && u == nil {
			return nil // it came and went
		}
		if u == nil {
			u = &unwritten{written: r.image}
			s.unwritten[r.id] = u
		}
		u.newest = s.disk.join(s, r.id, value)
		r.image = value
	}
	if u == nil {
		return nil
	}
	return u.newest
}

// drop removes a record of a free lock.
func (s *shard) drop(r *record) *entry {
	delete(s.locks, r.id)
	r.changed = true
	return s.keep(r, 0)
}

// written settles an entry that is in the file. The shard's mutex is held.
func (s *shard) written(id string, e *entry) {
	if u := s.unwritten[id]; u.newest == e {
		delete(s.unwritten, id)
	} else {
		u.written = e.value
	}
}

// takeBack puts the lock into the state that the file has, and fails whatever was
// built on the entry that is not in it. The shard's mutex is held.
func (s *shard) takeBack(d *disk, id string, e *entry) {
	u := s.unwritten[id]
	delete(s.unwritten, id)
	if u.newest != e {
		d.forget(id)
		u.newest.err = e.err
	}
	current := s.locks[id]
	r := u.restore(id, current, s.clock.Now())
	if current != nil {
		s.remove(current)
	}
	if r != nil {
		s.insert(r)
	}
}

// restore is the record that the file has, with what it does not keep taken from
// the current one, if there is one.
func (u *unwritten) restore(id string, current *record, now driver.Instant) *record {
	if u.written == nil {
		return nil
	}
	r, _, err := decode(id, u.written, now)
	if err != nil {
		panic("embedded: a record that was just written cannot be read: " + err.Error())
	}
	r.image = u.written
	if current == nil {
		return r
	}
	for _, h := range r.holders {
		if was := current.holderOf(func(was *holder) bool { return was.token == h.token }); was != nil {
			h.to = was.to
		}
	}
	r.firstDeath = never
	for _, w := range r.waiters {
		if was := current.byRequest[w.request]; was != nil {
			w.to, w.deadline = was.to, was.deadline
		}
		r.firstDeath = min(r.firstDeath, w.deadline)
	}
	for i := range r.evicted {
		for _, was := range current.evicted {
			if was.Token == r.evicted[i].Token {
				r.evicted[i].again = was.again
			}
		}
	}
	return r
}

// insert files a record that was read.
func (s *shard) insert(r *record) {
	s.locks[r.id] = r
	if !r.busy() {
		r.idle = s.idle.PushBack(r)
	}
	s.track(r)
}

// remove takes a record out of every list of the shard.
func (s *shard) remove(r *record) {
	delete(s.locks, r.id)
	if r.idle != nil {
		s.idle.Remove(r.idle)
		r.idle = nil
	}
	r.holders, r.evicted = nil, nil // Sweep drops it from what is unreported
	s.track(r)
}

// acknowledged are the records as answers may show them: nothing that is not
// durable. The shard's mutex is held.
func (s *shard) acknowledged(now driver.Instant) iter.Seq2[string, *record] {
	return func(yield func(string, *record) bool) {
		for id, r := range s.locks {
			if s.unwritten[id] == nil && !yield(id, r) {
				return
			}
		}
		for id, u := range s.unwritten {
			if r := u.restore(id, s.locks[id], now); r != nil && !yield(id, r) {
				return
			}
		}
	}
}

// shown is one lock's record as acknowledged has it, nil if there is none.
func (s *shard) shown(id string, now driver.Instant) *record {
	if u := s.unwritten[id]; u != nil {
		return u.restore(id, s.locks[id], now)
	}
	return s.locks[id]
}
