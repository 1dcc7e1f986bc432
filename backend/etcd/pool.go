package etcd

import (
	"context"
	"sync"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxFree bounds the etcd leases of one TTL that wait to be used again.
const maxFree = 128

// etcdLease is a lease of etcd's, of which at most one of ours makes use at a time.
type etcdLease struct {
	id int64
	// asked is the TTL that it was asked for.
	asked time.Duration
	// ttl is what the cluster granted, which may be more than was asked for.
	ttl time.Duration
	// origin is the send of what proved it last: it stands until origin + ttl.
	origin driver.Instant
	// fresh: it was granted for this use.
	fresh bool
}

func (l *etcdLease) until() driver.Instant { return l.origin.Add(l.ttl) }

// leases are etcd leases without keys, by the TTL that was asked for.
//
// One comes back only after a transaction of ours was answered that took its last
// key away. After any unknown outcome it is left to run out: a transaction that
// arrives late would hang a key on it, which nobody knows of.
type leases struct {
	s *Store

	mu   sync.Mutex
	free map[time.Duration][]*etcdLease
}

func newLeases(s *Store) *leases {
	return &leases{s: s, free: make(map[time.Duration][]*etcdLease)}
}

// take returns an etcd lease of the TTL, which is in whole seconds. It may have
// little of its time left, but stands for a call's.
func (p *leases) take(ctx context.Context, ttl time.Duration) (*etcdLease, error) {
	if l := p.takeFree(ttl); l != nil {
		return l, nil
	}
	return p.grant(ctx, ttl)
}

func (p *leases) takeFree(ttl time.Duration) *etcdLease {
	p.mu.Lock()
	defer p.mu.Unlock()
	now := p.s.o.Clock.Now()
	free := p.free[ttl]
	for n := len(free); n > 0; n = len(free) {
		// The latest is the freshest, near enough; the rest ends by itself.
		l := free[n-1]
		free[n-1] = nil
		free = free[:n-1]
		p.free[ttl] = free
		if l.until().Sub(now) > min(p.s.o.Timeout, ttl/2) {
			l.fresh = false
			return l
		}
	}
	return nil
}

func (p *leases) grant(ctx context.Context, ttl time.Duration) (*etcdLease, error) {
	l := &etcdLease{asked: ttl, ttl: ttl, origin: p.s.o.Clock.Now(), fresh: true}
	var resp *clientv3.LeaseGrantResponse
	_, err := p.s.call(ctx, func(ctx context.Context, c *clientv3.Client) (err error) {
		resp, err = c.Lease.Grant(ctx, int64(ttl/time.Second))
		return err
	})
	if err != nil {
		// An etcd lease without keys that nobody knows of is no effect.
		return nil, p.s.unread(err)
	}
	l.id = int64(resp.ID)
	l.ttl = max(l.ttl, time.Duration(resp.TTL)*time.Second)
	return l, nil
}

// put takes an etcd lease back, of which it is certain that it has no key and
// gets none.
func (p *leases) put(l *etcdLease) {
	p.mu.Lock()
	defer p.mu.Unlock()
	if free := p.free[l.asked]; len(free) < maxFree {
		p.free[l.asked] = append(free, l)
	}
}

// revoke ends the etcd leases that wait, as far as ctx allows; the others run out.
func (p *leases) revoke(ctx context.Context, c *clientv3.Client) {
	p.mu.Lock()
	defer p.mu.Unlock()
	var calls sync.WaitGroup
	slots := make(chan struct{}, 16)
	for _, free := range p.free {
		for _, l := range free {
			slots <- struct{}{}
			calls.Go(func() {
				defer func() { <-slots }()
				_, _ = c.Lease.Revoke(ctx, clientv3.LeaseID(l.id))
			})
		}
	}
	calls.Wait()
	clear(p.free)
}
