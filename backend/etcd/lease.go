package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// find returns the lease that ref proves. For a lease that ended it also returns its
// end.
func (n *snapshot) find(ref driver.LeaseRef) (h *holder, ended *ending, err error) {
	h, err = driver.Proven(ref, n.holders, (*holder).proof, func() driver.Cause {
		e, ok := n.end(func(e ending) bool { return e.Token == ref.Token && e.Key == ref.Key })
		if !ok {
			return driver.CauseUnknown
		}
		ended = &e
		return e.Cause
	})
	return h, ended, err
}

func (h *holder) proof() driver.Proof {
	return driver.Proof{Token: h.token, Key: h.Key, Attach: h.Attach}
}

// standing is find for calls that a revoked lease refuses.
func (n *snapshot) standing(ref driver.LeaseRef) (*holder, error) {
	h, _, err := n.find(ref)
	if err == nil && h.Revoked {
		err = driver.Lost(driver.CauseForced)
	}
	return h, err
}

// Renew prolongs a lease. It writes nothing: a keep-alive of its etcd lease, whose
// answer does not say that the lease is still under it, then a read that does. A
// shorter TTL than the lease's leaves it as it is, because an etcd lease keeps its
// own.
func (s *Store) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	r := s.RenewMany(ctx, []driver.RenewRequest{*req})[0]
	return r.Lease, r.Err
}

// renewal is one lease of a batch on its way.
type renewal struct {
	req  *driver.RenewRequest
	res  *driver.RenewResult
	ttl  time.Duration
	id   int64
	wait func(context.Context) (time.Duration, error)
	// origin is the send of the keep-alive, kept what it was answered.
	origin driver.Instant
	kept   time.Duration
}

// RenewMany sends the keep-alives of all leases at once, then reads them in
// transactions of many.
func (s *Store) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	results := make([]driver.RenewResult, len(reqs))
	if err := s.check(ctx); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	open := make([]*renewal, len(reqs))
	for i := range reqs {
		open[i] = &renewal{req: &reqs[i], res: &results[i], ttl: max(seconds(reqs[i].TTL), s.o.MinTTL)}
	}
	// A lease may have been put under another etcd lease meanwhile, by a renewal to
	// a longer TTL through another sidecar.
	for tries := 0; len(open) > 0; tries++ {
		if tries == 3 {
			for _, r := range open {
				r.res.Err = fmt.Errorf("%w: the lease changes its etcd lease too often", driver.ErrIndeterminate)
			}
			break
		}
		open = s.renewAll(ctx, s.identified(ctx, open))
	}
	return results
}

// identified finds the etcd leases of the leases, by what this driver knows or by
// reading, and returns those that are to be kept alive.
func (s *Store) identified(ctx context.Context, all []*renewal) (known []*renewal) {
	for _, r := range all {
		if l := s.held.find(r.req.LockID, r.req.Token); l != nil && r.id == 0 && l.key == r.req.Key &&
			(r.req.Attach == 0 || r.req.Attach == l.attach) && r.ttl <= l.ttl {
			r.id = l.id
			known = append(known, r)
			continue
		}
		n, err := s.look(ctx, r.req.LockID)
		if err != nil {
			r.res.Err = err
			continue
		}
		h, err := n.standing(r.req.LeaseRef)
		switch {
		case err != nil:
			r.res.Err = err
		case r.ttl > h.ttl():
			r.res.Lease, r.res.Err = s.prolong(ctx, r.req, r.ttl, false)
		default:
			r.id = h.Lease
			known = append(known, r)
		}
	}
	return known
}

// renewPerRead is how many leases one transaction reads.
const renewPerRead = maxOps / 2

// renewAll keeps the etcd leases alive and looks whether the leases are under
// them. It returns those that are to be identified again.
func (s *Store) renewAll(ctx context.Context, all []*renewal) (again []*renewal) {
	for _, r := range all {
		r.origin = s.o.Clock.Now()
		r.wait = s.keeper.begin(r.id)
	}
	alive := all[:0]
	for _, r := range all {
		var err error
		r.kept, err = r.wait(ctx)
		if errors.Is(err, errNoLease) {
			r.kept = 0
		} else if err != nil {
			r.res.Err = err
			continue
		}
		alive = append(alive, r)
	}
	for batch := range slices.Chunk(alive, renewPerRead) {
		again = append(again, s.confirm(ctx, batch)...)
	}
	return again
}

// confirm reads the leases of a batch.
func (s *Store) confirm(ctx context.Context, batch []*renewal) (again []*renewal) {
	ops := make([]clientv3.Op, 0, 2*len(batch))
	for _, r := range batch {
		ops = append(ops, clientv3.OpGet(s.keys.holder(r.req.LockID, r.req.Token)), clientv3.OpGet(s.keys.alive(r.req.LockID, r.req.Token)))
	}
	resp, err := s.read(ctx, ops...)
	for i, r := range batch {
		if err != nil {
			r.res.Err = err
			continue
		}
		lease, mark := one(resp.Responses[2*i]), one(resp.Responses[2*i+1])
		h := &holder{token: r.req.Token}
		if lease != nil {
			if err := decode(string(lease.Key), lease.Value, h); err != nil {
				r.res.Err = err
				continue
			}
		}
		if r.kept > 0 && lease != nil && mark != nil && mark.Lease == r.id && h.Key == r.req.Key && !h.Revoked &&
			(r.req.Attach == 0 || r.req.Attach == h.Attach) {
			r.res.Lease = s.granted(r.req.LockID, h, &etcdLease{id: r.id, ttl: r.kept, origin: r.origin})
			continue
		}
		s.held.forget(r.req.LockID, r.req.Token)
		n, err := s.look(ctx, r.req.LockID)
		if err == nil {
			_, err = n.standing(r.req.LeaseRef)
		}
		if err != nil {
			r.res.Err = err
			continue
		}
		again = append(again, r)
	}
	return again
}

// Adopt attaches the caller to a standing lease, and puts it under an etcd lease
// of its own: what the older attachment still keeps alive has no key any more.
func (s *Store) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	return s.prolong(ctx, req, max(seconds(req.TTL), s.o.MinTTL), true)
}

// prolong puts a lease under a new etcd lease. It never gets one that lasts
// shorter than the one it has.
func (s *Store) prolong(ctx context.Context, req *driver.RenewRequest, ttl time.Duration, adopt bool) (lease *driver.Lease, err error) {
	known := ""
	if adopt {
		if known, err = s.verified(ctx); err != nil {
			return nil, err
		}
	}
	err = s.change(ctx, req.LockID, func(n *snapshot) (*change, func(int64), error) {
		h, err := n.standing(req.LeaseRef)
		if err != nil {
			return nil, nil, err
		}
		c := s.onRecord(n)
		c.stands(h)
		if adopt {
			if n.paused != "" {
				return nil, nil, s.quarantined(n)
			}
			c.grants()
		}
		longer := *h
		l, err := s.moveIn(ctx, c, &longer, max(ttl, h.ttl()))
		if err != nil {
			return nil, nil, err
		}
		if adopt {
			longer.Attach++
			s.notify(ctx, c, h)
			longer.To = s.name
		}
		c.putHolder(&longer)
		c.putRecord(n.record)
		return c, func(rev int64) {
			longer.rev = rev
			n.holders = slices.Clone(n.holders)
			n.holders[slices.Index(n.holders, h)] = &longer
			if adopt {
				s.notified(n.id, h)
			}
			lease = s.granted(n.id, &longer, l)
		}, nil
	})
	if err == nil && adopt {
		err = s.same(ctx, known)
	}
	if err != nil {
		return nil, err
	}
	return lease, nil
}
