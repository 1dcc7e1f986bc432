package etcd

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"time"

	"go.etcd.io/etcd/api/v3/etcdserverpb"
	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// snapshot is all state of one lock at one revision. Whatever changes the record,
// a lease or the number of places also writes the record's key, so that a
// transaction on the condition of its revision finds the lock as the snapshot has
// it, but for what has run out since.
type snapshot struct {
	id  string
	rev int64
	// record is that of recordRev, 0 if there is none.
	record    record
	recordRev int64
	// holders are the leases that stand, in the order of their tokens; expired
	// are those whose mark is gone.
	holders, expired []*holder
	// waiters are the living, in order; dead are places that have run out.
	waiters, dead []*place
	// firstDeath is when the first of the living runs out.
	firstDeath driver.Instant
	// floor is that of the shard.
	floor    int64
	floorRev int64
	// stamp is the revision of the store's stamp, 0 if it has none; paused says why
	// nothing is to be granted, empty if it is.
	stamp  int64
	paused string
}

// lockOps read a lock.
func (s *Store) lockOps(id string) []clientv3.Op {
	h, hEnd := s.keys.holders(id)
	q, qEnd := s.keys.places(id)
	return []clientv3.Op{
		clientv3.OpGet(s.keys.record(id)),
		clientv3.OpGet(h, clientv3.WithRange(hEnd)),
		clientv3.OpGet(q, clientv3.WithRange(qEnd)),
		clientv3.OpGet(s.keys.floor(id)),
		clientv3.OpGet(s.keys.stamp()),
		clientv3.OpGet(s.keys.pause()),
	}
}

// opsPerLock is how many of a transaction's operations a lock takes to read.
const opsPerLock = 6

// look reads a lock.
func (s *Store) look(ctx context.Context, id string) (*snapshot, error) {
	resp, err := s.read(ctx, s.lockOps(id)...)
	if err != nil {
		return nil, err
	}
	return s.parse(id, resp.Header, resp.Responses)
}

// parse reads the answers to lockOps.
func (s *Store) parse(id string, header *etcdserverpb.ResponseHeader, answers []*etcdserverpb.ResponseOp) (*snapshot, error) {
	now := s.o.Clock.Now()
	n := &snapshot{id: id, rev: header.Revision, firstDeath: 1<<63 - 1}
	if kv := one(answers[0]); kv != nil {
		n.recordRev = kv.ModRevision
		if err := decode(string(kv.Key), kv.Value, &n.record); err != nil {
			return nil, err
		}
	}
	if err := n.parseHolders(s.keys, answers[1].GetResponseRange().Kvs); err != nil {
		return nil, err
	}
	if err := n.parsePlaces(s.seen, answers[2].GetResponseRange().Kvs, now); err != nil {
		return nil, err
	}
	n.mend()
	if kv := one(answers[3]); kv != nil {
		n.floor, _ = strconv.ParseInt(string(kv.Value), 10, 64)
		n.floorRev = kv.ModRevision
	}
	if kv := one(answers[4]); kv != nil {
		st := stamp{}
		if err := decode(string(kv.Key), kv.Value, &st); err != nil {
			return nil, err
		}
		if mine := s.o.MaxTTL.Milliseconds(); st.MaxTTL != mine {
			return nil, fmt.Errorf("%w: the store's longest TTL, a constant of it, is %d ms, and Options.MaxTTL is %d ms", driver.ErrInvalid, st.MaxTTL, mine)
		}
		n.stamp = kv.ModRevision
	}
	if kv := one(answers[5]); kv != nil {
		n.paused = cmp.Or(string(kv.Value), "unknown")
	}
	s.floors.learn(shardOf(id), n.floor, n.floorRev)
	s.condition.learn(n, now, s.o.MaxTTL)
	return n, nil
}

// mend makes up for a record that somebody has deleted by hand: what it says is
// never less than what the leases and the places say.
func (n *snapshot) mend() {
	for _, h := range slices.Concat(n.holders, n.expired) {
		n.record.Last = max(n.record.Last, h.token)
	}
	for _, p := range slices.Concat(n.waiters, n.dead) {
		n.record.Seq = max(n.record.Seq, p.Ticket)
	}
}

func one(answer *etcdserverpb.ResponseOp) *mvccpb.KeyValue {
	if kvs := answer.GetResponseRange().Kvs; len(kvs) > 0 {
		return kvs[0]
	}
	return nil
}

// parseHolders reads leases and their marks: the mark of a lease follows it.
func (n *snapshot) parseHolders(k keyspace, kvs []*mvccpb.KeyValue) error {
	for i, kv := range kvs {
		_, token, mark, ok := cutToken(string(kv.Key), k.allHolders())
		if !ok || mark {
			continue // a mark without its lease: somebody deleted that by hand
		}
		h := &holder{token: token, rev: kv.ModRevision}
		if err := decode(string(kv.Key), kv.Value, h); err != nil {
			return err
		}
		if i+1 < len(kvs) && string(kvs[i+1].Key) == string(kv.Key)+end {
			n.holders = append(n.holders, h)
		} else {
			n.expired = append(n.expired, h)
		}
	}
	return nil
}

func (n *snapshot) parsePlaces(seen *observations, kvs []*mvccpb.KeyValue, now driver.Instant) error {
	for _, kv := range kvs {
		p := seen.known(string(kv.Key), kv.ModRevision)
		if p == nil {
			p = &place{key: string(kv.Key), rev: kv.ModRevision, under: kv.Lease}
			if err := decode(p.key, kv.Value, p); err != nil {
				return err
			}
		}
		dies := seen.place(p, now)
		if dies <= now {
			n.dead = append(n.dead, p)
			continue
		}
		n.waiters = append(n.waiters, p)
		n.firstDeath = min(n.firstDeath, dies)
	}
	slices.SortFunc(n.waiters, comparePlaces)
	return nil
}

func comparePlaces(a, b *place) int {
	return cmp.Or(cmp.Compare(a.order(), b.order()), cmp.Compare(a.Ticket, b.Ticket))
}

// idle says that the store has nothing of the lock but its record.
func (n *snapshot) idle() bool {
	return len(n.holders)+len(n.expired)+len(n.waiters)+len(n.dead) == 0
}

func (n *snapshot) holder(match func(*holder) bool) *holder {
	if i := slices.IndexFunc(n.holders, match); i >= 0 {
		return n.holders[i]
	}
	return nil
}

// holding finds the lease that the request is a hold of.
func (n *snapshot) holding(request string) *holder {
	return n.holder(func(h *holder) bool { return slices.Contains(h.Holds, request) })
}

// end finds the latest end; the holds of what has expired, and is still to be
// removed, have ended, too.
func (n *snapshot) end(match func(ending) bool) (ending, bool) {
	for _, h := range slices.Backward(n.expired) {
		for _, e := range h.endings(driver.CauseExpired) {
			if match(e) {
				return e, true
			}
		}
	}
	for _, e := range slices.Backward(n.record.Ends) {
		if match(e) {
			return e, true
		}
	}
	return ending{}, false
}

func (n *snapshot) waiting(request string) *place {
	if i := slices.IndexFunc(n.waiters, func(p *place) bool { return p.Request == request }); i >= 0 {
		return n.waiters[i]
	}
	return nil
}

// admits says whether the holders leave room for a lease of the mode.
func (n *snapshot) admits(shared bool) bool {
	return len(n.holders) == 0 || shared && n.holders[0].Shared
}

// before counts the living that p must wait for: a shared one shares the head
// with the shared ones before it.
func (n *snapshot) before(p *place) (first bool, position int) {
	first = true
	for i, other := range n.waiters {
		if other == p || comparePlaces(p, other) < 0 {
			return first, i + 1
		}
		first = first && p.Shared && other.Shared
	}
	return first, len(n.waiters) + 1
}

// refusal says who stands in the way.
func (s *Store) refusal(n *snapshot) *driver.HeldError {
	e := &driver.HeldError{QueueLength: len(n.waiters)}
	if len(n.holders) > 0 {
		public := s.public(n.id, n.holders[0])
		e.Holder = &public
	}
	return e
}

// public is a lease as everybody may see it. How much of it is left only etcd
// knows: what is said is the most that it can be, if no renewal of this driver's
// proves less.
func (s *Store) public(id string, h *holder) driver.Holder {
	remaining := h.ttl()
	if l := s.held.find(id, h.token); l != nil && l.id == h.Lease {
		remaining = max(l.until().Sub(s.o.Clock.Now()), time.Millisecond)
	}
	return driver.Holder{
		OwnerID: h.Owner, Token: h.token, Shared: h.Shared, HoldCount: len(h.Holds), Attach: h.Attach, TTL: h.ttl(),
		Remaining: remaining, ExpiresAt: s.o.Wall().Add(remaining), Revoked: h.Revoked, Metadata: h.Metadata,
	}
}
