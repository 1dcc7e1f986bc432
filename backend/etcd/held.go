package etcd

import (
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// held are the etcd leases of the leases that this driver has granted, adopted or
// renewed, with what proved each of them last. It decides nothing.
type held struct {
	mu     sync.Mutex
	leases map[heldName]heldLease
	purge  int
}

type heldName struct {
	lock  string
	token int64
}

type heldLease struct {
	etcdLease
	key    driver.Key
	attach int64
}

const heldKept = 4096

func newHeld() *held { return &held{leases: make(map[heldName]heldLease), purge: heldKept} }

func (h *held) find(lock string, token int64) *heldLease {
	h.mu.Lock()
	defer h.mu.Unlock()
	if l, ok := h.leases[heldName{lock, token}]; ok {
		return &l
	}
	return nil
}

// proven notes what an answer proved. Of two proofs of one etcd lease the later
// one stays.
func (h *held) proven(lock string, token int64, l heldLease, now driver.Instant) {
	h.mu.Lock()
	defer h.mu.Unlock()
	name := heldName{lock, token}
	was, ok := h.leases[name]
	if ok && was.attach > l.attach {
		return // an older answer
	}
	if ok && was.id == l.id {
		l.asked = was.asked
		if was.until() > l.until() {
			l.origin, l.ttl = was.origin, was.ttl
		}
	}
	h.leases[name] = l
	if len(h.leases) < h.purge {
		return
	}
	for name, l := range h.leases { // those that nobody renews
		if now.Sub(l.until()) > l.ttl {
			delete(h.leases, name)
		}
	}
	h.purge = max(heldKept, 2*len(h.leases))
}

func (h *held) forget(lock string, token int64) {
	h.mu.Lock()
	defer h.mu.Unlock()
	delete(h.leases, heldName{lock, token})
}
