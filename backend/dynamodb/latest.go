package dynamodb

import (
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// latestFor is for how long what was written is taken for what stands.
	latestFor = time.Second
	// latestMost bounds the records that are remembered.
	latestMost = 1024
)

// latest are the records that this driver's last writes have left. It saves the
// reading where one of its calls follows another at a lock, such as a claim after a
// release. They may lack what others have renewed since. Nothing is answered from
// them alone.
type latest struct {
	mu  sync.Mutex
	all map[string]written
}

type written struct {
	item map[string]value
	at   driver.Instant
}

// put remembers what a lock's item is now; nil forgets it.
func (l *latest) put(lockID string, item map[string]value, now driver.Instant) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if item == nil {
		delete(l.all, lockID)
		return
	}
	if l.all == nil || len(l.all) >= latestMost {
		l.all = make(map[string]written)
	}
	l.all[lockID] = written{item, now}
}

// taken says that somebody held the lock or waited for it a moment ago, so that an
// acquire need not try whether it is free.
func (l *latest) taken(s *Store, lockID string) bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	w, ok := l.all[lockID]
	if !ok || s.o.Clock.Now().Sub(w.at) > latestFor {
		return false
	}
	d := &reader{}
	return len(d.object(w.item["h"], "h")) > 0 || len(d.list(w.item, "q")) > 0
}

// record takes the record that was written a moment ago, nil if there is none or it
// is not wanted.
func (l *latest) record(s *Store, lockID string, wanted bool) (*record, moment) {
	l.mu.Lock()
	w, ok := l.all[lockID]
	delete(l.all, lockID)
	l.mu.Unlock()
	at := moment{now: s.o.Clock.Now(), wall: s.o.Now()}
	if !ok || !wanted || at.now.Sub(w.at) > latestFor {
		return nil, at
	}
	r, err := decode(lockID, w.item)
	if err != nil {
		return nil, at
	}
	s.look(r, at)
	return r, at
}
