package renew

import (
	"context"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// renewWorkers bounds the batches in flight, so that one that hangs does
	// not hold up the others.
	renewWorkers = 4
	// batchSize bounds the leases of a batch.
	batchSize = 512
	// A lease is renewed at a third of its TTL: two attempts may fail before
	// it is at risk. The jitter keeps leases that were taken together apart.
	renewShare  = 3
	renewJitter = 10 // ± a tenth
	// A failed renewal is retried after TTL/30, doubling up to TTL/10.
	retryShare, retryCapShare = 30, 10
	// An attempt may take a quarter of the TTL, within these bounds.
	attemptShare = 4
	shortAttempt = 250 * time.Millisecond
	longAttempt  = 2 * time.Second
)

// batches is the queue between the scheduler and the workers. It is bounded by
// the leases: each is in one batch at most.
type batches struct {
	mu      sync.Mutex
	arrived *sync.Cond
	queue   [][]*lease
	closed  bool
}

func (b *batches) init() { b.arrived = sync.NewCond(&b.mu) }

func (b *batches) put(batch []*lease) {
	if len(batch) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, batch)
	b.arrived.Signal()
}

func (b *batches) take() ([]*lease, bool) {
	b.mu.Lock()
	defer b.mu.Unlock()
	for len(b.queue) == 0 && !b.closed {
		b.arrived.Wait()
	}
	if b.closed {
		return nil, false
	}
	batch := b.queue[0]
	b.queue = b.queue[1:]
	return batch, true
}

func (b *batches) close() {
	b.mu.Lock()
	defer b.mu.Unlock()
	b.closed = true
	b.arrived.Broadcast()
}

// work renews batches until the keeper ends.
func (k *Keeper) work() {
	for {
		batch, ok := k.queue.take()
		if !ok {
			return
		}
		k.renew(batch)
	}
}

func (k *Keeper) renew(batch []*lease) {
	reqs := make([]backend.RenewRequest, 0, len(batch))
	leases := make([]*lease, 0, len(batch))
	timeout := longAttempt
	for _, l := range batch {
		if req, ok := l.renewal(); ok {
			reqs, leases = append(reqs, req), append(leases, l)
			timeout = min(timeout, max(req.TTL/attemptShare, shortAttempt))
		}
	}
	if len(reqs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(k.ctx, timeout)
	defer cancel()
	for i, res := range k.store.RenewMany(ctx, reqs) {
		leases[i].renewed(reqs[i].Attach, res)
	}
}

// renewal is the request for the lease's next attempt, unless it ended while
// it stood in the queue.
func (l *lease) renewal() (req backend.RenewRequest, ok bool) {
	l.s.mu.Lock()
	defer l.s.mu.Unlock()
	if l.phase != live {
		return req, false
	}
	return backend.RenewRequest{LeaseRef: l.Ref(true), TTL: l.ttl}, true
}

// renewed takes the answer of an attempt that was made as the attachment.
func (l *lease) renewed(attach int64, res backend.RenewResult) {
	k := l.s.k
	l.s.update(func() {
		l.inFlight = false
		defer func() { l.again = false }()
		if l.phase != live {
			return // released or lost meanwhile: a late answer revives nothing
		}
		now := k.o.Clock.Now()
		if reason, decided := reasonOf(res.Err); decided && !(reason == ReasonReattached && l.reattaches(attach)) {
			k.o.Observer.Renewed("lost")
			l.lose(reason)
			return
		}
		if now >= l.ValidUntil {
			l.lose(ReasonUnreachable)
			return
		}
		if res.Err != nil {
			k.o.Observer.Renewed("failed")
			l.failures++
			pause := min(l.TTL/retryShare<<min(l.failures-1, 8), l.TTL/retryCapShare)
			l.renewAt = now.Add(pause/2 + rand.N(pause/2+1))
		} else {
			k.o.Observer.Renewed("ok")
			l.failures, l.toldAtRisk = 0, false
			l.ValidUntil = max(l.ValidUntil, res.Lease.ValidUntil)
			l.TTL, l.ExpiresAt = res.Lease.TTL, res.Lease.ExpiresAt
			l.renewAt = nextRenewal(res.Lease.Origin, l.TTL)
			l.tell(Renewed)
			if l.again {
				l.renewAt = 0
			}
		}
		l.schedule()
	})
}

// reattaches says whether it may be this session's own adopt, of another hold,
// that ended the attachment.
func (l *lease) reattaches(attach int64) bool {
	if l.Attach > attach {
		return true
	}
	for _, p := range l.s.pending {
		if p.adopts == l.LeaseID {
			return true
		}
	}
	return false
}

// nextRenewal is a third of the TTL after the origin, give or take a tenth.
func nextRenewal(origin driver.Instant, ttl time.Duration) driver.Instant {
	third := ttl / renewShare
	return origin.Add(third - third/renewJitter + rand.N(2*third/renewJitter+1))
}
