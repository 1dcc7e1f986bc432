package dynamodb

import (
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// observed bounds what is remembered of each kind: what was not looked at for the
// longest is forgotten, and observed anew when it is met again.
const observed = 1 << 16

// leaseName and beatName name what has a heartbeat.
type leaseName struct {
	lock  string
	token int64
}

type beatName struct{ lock, driver string }

// observation says since when a heartbeat is known to stand. A lease or place that
// it proves has run out when it stood for that one's time.
type observation struct {
	beat  int64
	since driver.Instant
	// ttl is how long the lease was to stand.
	ttl time.Duration
	// own: this driver made the beat, and since is from before it was sent. Nobody
	// else can count by it.
	own bool
	// checked is when it was last read.
	checked driver.Instant
}

// observations are kept in two generations: the older one is dropped when the
// newer one is full.
type observations[K comparable] struct {
	mu         sync.Mutex
	young, old map[K]observation
}

func (o *observations[K]) get(name K) (observation, bool) {
	e, ok := o.young[name]
	if !ok {
		e, ok = o.old[name]
	}
	return e, ok
}

func (o *observations[K]) put(name K, e observation) {
	if o.young == nil || len(o.young) >= observed {
		o.old, o.young = o.young, make(map[K]observation)
	}
	o.young[name] = e
}

// read notes that a beat was read, the answer received at now, and returns since
// when it stands.
func (o *observations[K]) read(name K, beat int64, ttl time.Duration, now driver.Instant) observation {
	o.mu.Lock()
	defer o.mu.Unlock()
	e, ok := o.get(name)
	switch {
	case !ok || beat > e.beat:
		e = observation{beat: beat, since: now}
	case beat < e.beat: // an older answer: what it says does not stand
		return observation{beat: beat, since: now}
	}
	e.checked, e.ttl = now, ttl
	o.put(name, e)
	return e
}

// wrote notes a beat of this driver's that the store has.
func (o *observations[K]) wrote(name K, beat int64, ttl time.Duration, sent driver.Instant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	if e, ok := o.get(name); !ok || beat >= e.beat {
		o.put(name, observation{beat: beat, since: sent, ttl: ttl, own: true, checked: sent})
	}
}

// known is what was last seen, without looking.
func (o *observations[K]) known(name K) (observation, bool) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.get(name)
}

func (o *observations[K]) forget(name K) {
	o.mu.Lock()
	defer o.mu.Unlock()
	delete(o.young, name)
	delete(o.old, name)
}

// places are this driver's own, with their deadlines: of them it knows best.
type places struct {
	mu    sync.Mutex
	all   map[placeName]driver.Instant
	sweep int
}

type placeName struct{ lock, request string }

// keep moves a place's deadline.
func (p *places) keep(name placeName, deadline, now driver.Instant) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.all == nil {
		p.all, p.sweep = make(map[placeName]driver.Instant), 1024
	}
	if len(p.all) >= p.sweep { // those that were abandoned
		for n, d := range p.all {
			if d <= now {
				delete(p.all, n)
			}
		}
		p.sweep = max(1024, 2*len(p.all))
	}
	p.all[name] = deadline
}

func (p *places) drop(name placeName) {
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.all, name)
}

// deadline is 0 for a place that is not there any more.
func (p *places) deadline(name placeName) driver.Instant {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.all[name]
}
