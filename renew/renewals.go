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
	renewWorkers = 8
	// batchSize bounds the leases of a batch.
	batchSize = 512
	// A lease is renewed at a third of its TTL: two attempts may fail before
	// it is at risk. The jitter keeps leases that were taken together apart.
	renewShare  = 3
	renewJitter = 10 // ± a tenth
	// A failed renewal is retried after TTL/30, doubling up to TTL/10.
	retryShare, retryCapShare = 30, 10
	// An attempt that is not answered within a quarter of the TTL, and these
	// bounds, is joined by another one, and the first answer counts: a reply may
	// be lost, and it may come late from a busy store, to which a second attempt
	// in place of the first would come no sooner.
	attemptShare = 4
	shortAttempt = 250 * time.Millisecond
	longAttempt  = 2 * time.Second
	maxAttempts  = 2
)

// attempt is one renewal of a lease in a round of its.
type attempt struct {
	lease *lease
	round int
}

// patience is for how long the answer to an attempt is waited for alone.
func patience(ttl time.Duration) time.Duration {
	return min(max(ttl/attemptShare, shortAttempt), longAttempt)
}

// batches is the queue between the scheduler and the workers. It is bounded by
// the leases: each has maxAttempts in a round, and a round takes a third of its
// TTL.
type batches struct {
	mu      sync.Mutex
	arrived *sync.Cond
	queue   [][]attempt
	closed  bool
}

func (b *batches) init() { b.arrived = sync.NewCond(&b.mu) }

func (b *batches) put(batch []attempt) {
	if len(batch) == 0 {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.queue = append(b.queue, batch)
	b.arrived.Signal()
}

func (b *batches) take() ([]attempt, bool) {
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

func (k *Keeper) renew(batch []attempt) {
	reqs := make([]backend.RenewRequest, 0, len(batch))
	sent := make([]attempt, 0, len(batch))
	for _, a := range batch {
		if req, ok := a.lease.renewal(); ok {
			reqs, sent = append(reqs, req), append(sent, a)
		}
	}
	if len(reqs) == 0 {
		return
	}
	ctx, cancel := context.WithTimeout(k.ctx, longAttempt)
	defer cancel()
	for i, res := range k.store.RenewMany(ctx, reqs) {
		sent[i].lease.renewed(sent[i].round, reqs[i].Attach, res)
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
func (l *lease) renewed(round int, attach int64, res backend.RenewResult) {
	k := l.s.k
	l.s.update(func() {
		if round == l.round { // the attempts of an earlier one are not counted
			l.attempts--
		}
		defer func() { l.again = false }()
		if l.phase != live {
			return // released or lost meanwhile: a late answer revives nothing
		}
		now := k.o.Clock.Now()
		if reason, decided := reasonOf(res.Err); decided && !(reason == ReasonReattached && l.reattaches(attach)) {
			k.o.Observer.Renewed(l.answered(ResultLost, now))
			l.lose(reason)
			return
		}
		if now >= l.ValidUntil {
			l.lose(ReasonUnreachable)
			return
		}
		newest := round == l.round
		switch {
		case res.Err != nil:
			k.o.Observer.Renewed(l.answered(ResultFailed, now))
			if newest { // else a newer attempt was answered before
				l.failures++
				pause := min(l.TTL/retryShare<<min(l.failures-1, 8), l.TTL/retryCapShare)
				l.renewAt = now.Add(pause/2 + rand.N(pause/2+1))
			}
		case res.Lease.ValidUntil < l.ValidUntil:
			k.o.Observer.Renewed(l.answered(ResultOK, now)) // and so it was here
		default:
			k.o.Observer.Renewed(l.answered(ResultOK, now))
			l.ValidUntil, l.TTL, l.ExpiresAt = res.Lease.ValidUntil, res.Lease.TTL, res.Lease.ExpiresAt
			next := nextRenewal(res.Lease.Origin, l.TTL)
			if newest {
				l.round++
				l.attempts, l.failures, l.toldAtRisk = 0, 0, false
				l.renewAt = next
			} else { // what is in flight since waits for its answer
				l.renewAt = max(l.renewAt, next)
			}
			l.tell(Renewed)
			if l.again {
				l.renewAt = 0
			}
		}
		l.schedule()
	})
}

// answered describes the answer to a renewal, before it counts.
func (l *lease) answered(result string, now driver.Instant) RenewedObservation {
	return RenewedObservation{Result: result, Left: l.ValidUntil.Sub(now), TTL: l.TTL}
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
