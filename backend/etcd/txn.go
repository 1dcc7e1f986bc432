package etcd

import (
	"context"
	"errors"
	"fmt"
	"slices"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxOps bounds the comparisons and the operations of a transaction: etcd's own
// limit is 128 unless it is told otherwise.
const maxOps = 120

// maxTries bounds how often a call decides anew because its transaction was refused.
const maxTries = 64

// errRestless is of a lock that others change faster than a call can decide.
var errRestless = fmt.Errorf("%w: the lock changes too fast", driver.ErrUnavailable)

// change is a transaction on a lock, on the condition that the lock is as a
// snapshot has it.
type change struct {
	s    *Store
	n    *snapshot
	cmps []clientv3.Cmp
	ops  []clientv3.Op
	// buried are the dead places that it deletes, evicted the expired leases that
	// it removes.
	buried  []string
	evicted []driver.Ended
	// session is the etcd lease of a note in it.
	session int64
	// gone says that it deleted the record.
	gone bool
}

// onRecord begins a change that writes the record.
func (s *Store) onRecord(n *snapshot) *change {
	c := &change{s: s, n: n}
	c.require(clientv3.Compare(clientv3.ModRevision(s.keys.record(n.id)), "=", n.recordRev))
	if n.recordRev == 0 {
		// A record that was collected has left its token in the floor.
		c.require(clientv3.Compare(clientv3.ModRevision(s.keys.floor(n.id)), "=", n.floorRev))
	}
	return c
}

func (c *change) require(cmps ...clientv3.Cmp) { c.cmps = append(c.cmps, cmps...) }
func (c *change) do(ops ...clientv3.Op)        { c.ops = append(c.ops, ops...) }

func (c *change) putRecord(r record) {
	r.Format, r.Touched = driver.Format, c.s.o.Wall().UnixMicro()
	c.do(clientv3.OpPut(c.s.keys.record(c.n.id), encode(r)))
}

func (c *change) putHolder(h *holder) {
	h.Format = driver.Format
	c.do(clientv3.OpPut(c.s.keys.holder(c.n.id, h.token), encode(h)))
}

func (c *change) dropHolder(h *holder) {
	c.do(clientv3.OpDelete(c.s.keys.holder(c.n.id, h.token)), clientv3.OpDelete(c.s.keys.alive(c.n.id, h.token)))
}

// stands makes it a condition that the lease has not run out.
func (c *change) stands(h *holder) {
	c.require(clientv3.Compare(clientv3.CreateRevision(c.s.keys.alive(c.n.id, h.token)), ">", 0))
}

// grants makes it a condition that the store may grant, and, of a lock that
// nobody had, that nobody has it.
func (c *change) grants() {
	k := c.s.keys
	c.require(
		clientv3.Compare(clientv3.ModRevision(k.stamp()), "=", c.n.stamp),
		clientv3.Compare(clientv3.CreateRevision(k.pause()), "=", 0),
	)
	if c.n.idle() {
		h, hEnd := k.holders(c.n.id)
		q, qEnd := k.places(c.n.id)
		c.require(
			clientv3.Compare(clientv3.CreateRevision(h).WithRange(hEnd), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(q).WithRange(qEnd), "=", 0),
		)
	}
}

// prune removes what has run out, as much as fits, and returns the record with the
// ends of that. Dead places are passed over only as long as nobody has moved their
// deadline.
func (c *change) prune(r record) record {
	for _, p := range c.n.dead {
		if len(c.cmps) == maxOps {
			break
		}
		c.require(clientv3.Compare(clientv3.ModRevision(p.key), "=", p.rev))
	}
	for i, h := range c.n.expired {
		if i == maxOps/8 {
			break
		}
		r.remember(h.endings(driver.CauseExpired)...)
		c.do(
			clientv3.OpDelete(c.s.keys.holder(c.n.id, h.token)),
			clientv3.OpPut(c.s.keys.untold(c.n.id, h.token), h.untold(driver.CauseExpired)),
		)
		c.evicted = append(c.evicted, h.ended(c.n.id, driver.CauseExpired))
	}
	for _, p := range c.n.dead {
		if len(c.ops) >= maxOps-8 {
			break
		}
		c.do(clientv3.OpDelete(p.key))
		c.buried = append(c.buried, p.key)
	}
	return r
}

// commit makes the change and returns its revision. If the lock is not as the
// snapshot has it, nothing was changed: next is how it is. With a revision, an error
// says that it was another cluster that was changed.
func (c *change) commit(ctx context.Context) (rev int64, next *snapshot, err error) {
	resp, err := c.s.commit(ctx, c.cmps, c.ops, c.s.lockOps(c.n.id))
	if err != nil {
		if errors.Is(err, rpctypes.ErrLeaseNotFound) && c.session != 0 {
			c.s.session.lost(c.session)
		}
		if resp != nil && resp.Succeeded {
			rev = resp.Header.Revision
		}
		return rev, nil, err
	}
	if !resp.Succeeded {
		next, err = c.s.parse(c.n.id, resp.Header, resp.Responses)
		return 0, next, err
	}
	c.s.seen.forget(c.buried...)
	return resp.Header.Revision, nil, nil
}

// change runs f on the state of a lock until its transaction meets the state that
// it was made for. f returns no change if there is nothing to do. The first state
// may be a guess, which only a transaction may confirm.
func (s *Store) change(ctx context.Context, id string, f func(n *snapshot) (*change, func(rev int64), error)) error {
	at, leave, err := s.locks.enter(ctx, id)
	if err != nil {
		return s.unread(err)
	}
	defer leave()
	n, guess := at.known, true
	for range maxTries {
		if n == nil {
			if n, err = s.look(ctx, id); err != nil {
				return err
			}
			guess = false
		}
		c, done, err := f(n)
		if c == nil && guess {
			n = nil
			continue
		}
		if c == nil || err != nil {
			return err
		}
		at.known = nil
		rev, next, err := c.commit(ctx)
		if errors.Is(err, rpctypes.ErrLeaseNotFound) {
			n = nil // another etcd lease will do
			continue
		}
		if err != nil {
			return err
		}
		if next == nil {
			done(rev)
			at.known = c.after(rev)
			return nil
		}
		n, guess = next, false
	}
	return errRestless
}

// after is the snapshot that done has left in c.n, as the guess of the next call.
func (c *change) after(rev int64) *snapshot {
	if c.gone || len(c.n.waiters)+len(c.n.dead)+len(c.n.expired) > 0 {
		return nil
	}
	n := *c.n
	n.rev, n.recordRev = rev, rev
	return &n
}

// without is the holders but one.
func without(hs []*holder, h *holder) []*holder {
	return slices.DeleteFunc(slices.Clone(hs), func(other *holder) bool { return other == h })
}
