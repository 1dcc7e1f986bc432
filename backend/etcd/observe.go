package etcd

import (
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// observations are since when each place has been seen unchanged. etcd has no
// clock to read: a place has run out once an observer has seen it unchanged for as
// long as it lasts, counted from the receipt of the answer that showed it first.
// That is never early, because a sidecar that keeps a place writes it each time. A
// place that is not looked at ends with the etcd lease of its driver's session.
type observations struct {
	mu     sync.Mutex
	places map[string]observed
	// purge is the size at which what has not been seen for long is dropped.
	purge int
}

type observed struct {
	rev         int64
	since, dies driver.Instant
	// place is what stands in it, which nobody changes.
	place *place
}

const observationsKept = 4096

func newObservations() *observations {
	return &observations{places: make(map[string]observed), purge: observationsKept}
}

// place says when the place, which was seen now, will have run out.
func (o *observations) place(p *place, now driver.Instant) (dies driver.Instant) {
	o.mu.Lock()
	defer o.mu.Unlock()
	was, ok := o.places[p.key]
	if !ok || was.rev < p.rev {
		was = observed{rev: p.rev, since: now, dies: now.Add(p.lasts()), place: p}
		o.places[p.key] = was
		o.shrink(now)
	}
	return was.dies
}

// known is the place of that revision, if it has been read before.
func (o *observations) known(key string, rev int64) *place {
	o.mu.Lock()
	defer o.mu.Unlock()
	if was, ok := o.places[key]; ok && was.rev == rev {
		return was.place
	}
	return nil
}

// forget drops places that were deleted.
func (o *observations) forget(keys ...string) {
	o.mu.Lock()
	defer o.mu.Unlock()
	for _, key := range keys {
		delete(o.places, key)
	}
}

// shrink drops those that ran out long ago: somebody has deleted them. If not, they
// are observed anew.
func (o *observations) shrink(now driver.Instant) {
	if len(o.places) < o.purge {
		return
	}
	for key, was := range o.places {
		if now.Sub(was.dies) > was.dies.Sub(was.since) {
			delete(o.places, key)
		}
	}
	o.purge = max(observationsKept, 2*len(o.places))
}
