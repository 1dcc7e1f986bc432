package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// grant makes the lease. The mark that says it stands is put under the etcd lease
// in the same transaction, which fails as a whole if that has ended.
func (a *attempt) grant(ctx context.Context, n *snapshot, p *place, newcomer bool) step {
	s := a.s
	if a.lease == nil {
		var err error
		if a.lease, err = s.leases.take(ctx, a.ttl); err != nil {
			return ended(err)
		}
	}
	lease := a.lease
	c := s.onRecord(n)
	r := n.record
	floor := a.req.TokenFloor
	if n.recordRev == 0 {
		floor = max(floor, n.floor+1)
	}
	r.Last = driver.NextToken(r.Last, floor, s.o.Wall().UnixMicro())
	h := &holder{
		token: r.Last, Owner: a.req.OwnerID, Key: a.req.Key, Shared: a.req.Shared, Holds: []string{a.req.RequestID}, Attach: 1,
		TTL: lease.ttl.Milliseconds(), Metadata: a.req.Metadata, Lease: lease.id, To: s.name,
	}
	c.grants()
	switch {
	case p == nil:
	case newcomer:
		r.Seq++ // it had a place for a moment
	default:
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
		c.do(clientv3.OpDelete(p.key))
	}
	c.putHolder(h)
	c.do(clientv3.OpPut(s.keys.alive(n.id, h.token), "", clientv3.WithLease(clientv3.LeaseID(lease.id))))
	r = c.prune(r)
	c.putRecord(r)

	// An etcd lease that was used before is prolonged beside the transaction.
	origin := s.o.Clock.Now()
	var prolonged func(context.Context) (time.Duration, error)
	if !lease.fresh {
		prolonged = s.keeper.begin(lease.id)
	}
	rev, next, err := c.commit(ctx)
	if prolonged != nil {
		if ttl, err := prolonged(ctx); err == nil {
			lease.origin, lease.ttl = origin, ttl
		}
	}
	switch {
	case errors.Is(err, rpctypes.ErrLeaseNotFound):
		a.lease = nil
		return step{again: true}
	case err != nil:
		if !errors.Is(err, driver.ErrUnavailable) {
			a.lease = nil // it may have the lease's mark by now, or get it later
		}
		if rev > 0 {
			s.withdraw(ctx, n, h, r, rev)
		}
		return ended(err)
	case next != nil:
		return step{next: next}
	}
	a.lease = nil
	if err := s.same(ctx, a.known); err != nil {
		s.withdraw(ctx, n, h, r, rev)
		return ended(err)
	}
	if p != nil && !newcomer {
		n.waiters = slices.DeleteFunc(n.waiters, func(other *place) bool { return other == p })
		s.seen.forget(p.key)
	}
	s.hints.left(n.id, a.req.RequestID)
	h.rev = rev
	n.record, n.holders = r, append(slices.Clone(n.holders), h)
	n.dead, n.expired = n.dead[len(c.buried):], n.expired[len(c.evicted):]
	a.at.known = c.after(rev)
	res := &driver.AcquireResult{Lease: s.granted(n.id, h, lease), Evicted: c.evicted}
	if p != nil {
		res.Ticket = p.Ticket
	}
	return step{res: res}
}

// same says whether the cluster that has answered is the one that was compared with
// the stamp. What another has granted does not count.
func (s *Store) same(ctx context.Context, known string) error {
	if now, ok := s.condition.stands(); ok && now == known {
		return nil
	}
	now, err := s.verified(ctx)
	switch {
	case err != nil:
		return fmt.Errorf("%w: the cluster was not looked at since: %w", driver.ErrIndeterminate, err)
	case now != known:
		return fmt.Errorf("%w: %w", driver.ErrIndeterminate, errRestored)
	}
	return nil
}

// withdraw takes a grant back that does not count, without an end: the request goes
// on. If that fails the lease runs out before the pause does.
func (s *Store) withdraw(ctx context.Context, n *snapshot, h *holder, r record, rev int64) {
	again := *n
	again.recordRev = rev
	c := s.onRecord(&again)
	c.putRecord(r)
	c.dropHolder(h)
	_, _, _ = c.commit(ctx)
}

// granted notes the proof of a lease and describes it.
func (s *Store) granted(id string, h *holder, l *etcdLease) *driver.Lease {
	s.held.proven(id, h.token, heldLease{etcdLease: *l, key: h.Key, attach: h.Attach}, s.o.Clock.Now())
	left := l.until().Sub(s.o.Clock.Now())
	return &driver.Lease{
		LockID: id, OwnerID: h.Owner, Token: h.token, Shared: h.Shared, Holds: slices.Clone(h.Holds), Attach: h.Attach,
		TTL: h.ttl(), Remaining: l.ttl, Origin: l.origin, ExpiresAt: s.o.Wall().Add(left), Metadata: h.Metadata,
	}
}
