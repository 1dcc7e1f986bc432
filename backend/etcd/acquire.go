package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// attempt is one acquire on its way.
type attempt struct {
	s   *Store
	req *driver.AcquireRequest
	at  *local
	ttl time.Duration
	// known is the store's stamp as the cluster was compared with it.
	known string
	// lease is the etcd lease for the grant, once one is needed. It is nil again
	// when it is not the attempt's any more.
	lease *etcdLease
	// guess says that the snapshot is one, waits that the request was told a place
	// before, refreshed that this attempt has moved its deadline.
	guess, waits, refreshed bool
}

// step is what an attempt came to: an outcome, or a newer state to decide about.
type step struct {
	res  *driver.AcquireResult
	err  error
	next *snapshot
	// again says that the state is to be read again.
	again bool
}

// again is a step whose transaction failed as a whole because an etcd lease in it
// has ended: another will do.
func again(st step) step {
	if errors.Is(st.err, rpctypes.ErrLeaseNotFound) {
		return step{again: true}
	}
	return st
}

func ended(err error) step { return step{err: err} }

// Acquire makes one attempt, as driver.Driver describes it step by step. A refused
// transaction is no outcome: it says what the lock has become, and that is decided
// about anew.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	a := &attempt{s: s, req: req, ttl: max(seconds(req.TTL), s.o.MinTTL)}
	var err error
	if a.known, err = s.verified(ctx); err != nil {
		return nil, err
	}
	// A waiter keeps its place and reads in one step, and decides nothing unless it
	// is its turn: so many of them do not hold up who does.
	n, res, err := a.wait(ctx)
	if res != nil || err != nil {
		return res, err
	}
	var leave func()
	if a.at, leave, err = s.locks.enter(ctx, req.LockID); err != nil {
		return nil, s.unread(err)
	}
	defer leave()
	defer func() {
		if a.lease != nil {
			s.leases.put(a.lease)
		}
	}()
	if n == nil && !a.waits {
		n, a.guess = a.at.known, true
		if n == nil {
			n = s.blank(req.LockID)
		}
	}
	for range maxTries {
		if n == nil {
			if n, err = s.look(ctx, req.LockID); err != nil {
				return nil, err
			}
			a.guess = false
		}
		a.at.known = nil
		st := a.decide(ctx, n)
		if st.err != nil || st.next == nil && !st.again {
			return st.res, st.err
		}
		n, a.guess = st.next, false
	}
	return nil, errRestless
}

func (a *attempt) decide(ctx context.Context, n *snapshot) step {
	if h := n.holding(a.req.RequestID); h != nil {
		return a.repeat(ctx, n, h)
	}
	if e, ok := n.end(func(e ending) bool { return e.ends(a.req.RequestID, a.req.Key) }); ok {
		return a.sure(ended(driver.Lost(e.Cause)))
	}
	p := n.waiting(a.req.RequestID)
	if h := n.holder(func(h *holder) bool { return h.Owner == a.req.OwnerID }); h != nil {
		return a.reenter(ctx, n, h, p)
	}
	first, newcomer := len(n.waiters) == 0, p == nil
	switch {
	case !newcomer:
		first, _ = n.before(p)
	case !first && a.req.Enqueue:
		// A newcomer is ordered among the living before it can be granted.
		p = &place{Ticket: n.record.Seq + 1, Priority: a.req.Priority, Shared: a.req.Shared}
		first, _ = n.before(p)
	}
	switch {
	case len(n.dead) > maxOps/2 && (a.req.Enqueue || first):
		return a.s.bury(ctx, n)
	case first && n.admits(a.req.Shared):
		if n.stamp == 0 || n.paused != "" {
			return a.closed(ctx, n, p, newcomer)
		}
		return a.grant(ctx, n, p, newcomer)
	case a.req.Enqueue:
		return a.queue(ctx, n, p, newcomer)
	case a.guess:
		return step{again: true}
	}
	if !newcomer {
		if st := a.dropPlace(ctx, n, p); st.err != nil || st.next != nil {
			return st
		}
		n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
	}
	return ended(a.s.refusal(n))
}

// sure is an outcome that no transaction has confirmed: on a guess, it is to be
// read first.
func (a *attempt) sure(st step) step {
	if a.guess {
		return step{again: true}
	}
	return st
}

// errLimit is of a queue that is full.
func errLimit(n int) error {
	return fmt.Errorf("%w: the lock has %d waiters, which is the most", driver.ErrLimit, n)
}
