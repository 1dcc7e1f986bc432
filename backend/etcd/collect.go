package etcd

import (
	"context"
	"strconv"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// collectAtOnce is how many records a sweep looks at.
const collectAtOnce = 64

// collect looks at some more records.
func (w *sweeping) collect(ctx context.Context, s *Store) error {
	next, _, err := s.collectFrom(ctx, w.collected, s.o.Retention)
	w.collected = next
	return err
}

// Collect removes the records of free locks that have not been written for the
// given time, without waiting for the driver that sweeps, and says how many they
// were. Tokens rise nevertheless: the highest one stays in the floor of the shard.
func (s *Store) Collect(ctx context.Context, idle time.Duration) (collected int, err error) {
	for from := ""; ; {
		next, n, err := s.collectFrom(ctx, from, idle)
		if collected += n; err != nil || next == "" {
			return collected, err
		}
		from = next
	}
}

// collectFrom looks at some records from a key on, and returns the key at which to
// go on, empty at the end.
func (s *Store) collectFrom(ctx context.Context, from string, idle time.Duration) (next string, collected int, err error) {
	root := s.keys.records()
	resp, err := s.get(ctx, max(from, root), clientv3.WithRange(rangeEnd(root)), clientv3.WithLimit(collectAtOnce))
	if err != nil {
		return from, 0, err
	}
	for _, kv := range resp.Kvs {
		var r record
		if err := decode(string(kv.Key), kv.Value, &r); err != nil {
			s.o.Logger.Warn("a record cannot be read", driver.LogBackend, "etcd", driver.LogError, err)
			continue
		}
		// By the clock of who wrote it, or by the token, if its clock was ahead.
		if s.o.Wall().UnixMicro()-r.Touched < idle.Microseconds() {
			continue
		}
		gone, err := s.collectOne(ctx, string(kv.Key)[len(root):])
		if err != nil {
			return from, collected, err
		}
		if gone {
			collected++
		}
	}
	if !resp.More || len(resp.Kvs) == 0 {
		return "", collected, nil
	}
	return string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00", collected, nil
}

// collectOne removes the record of a lock if nobody has the lock, and raises the
// floor of its shard, on the condition that neither has changed.
func (s *Store) collectOne(ctx context.Context, id string) (collected bool, err error) {
	err = s.change(ctx, id, func(n *snapshot) (*change, func(int64), error) {
		if !n.idle() || n.recordRev == 0 {
			return nil, nil, nil
		}
		c := s.onRecord(n)
		h, hEnd := s.keys.holders(id)
		q, qEnd := s.keys.places(id)
		f := s.keys.floor(id)
		c.require(
			clientv3.Compare(clientv3.CreateRevision(h).WithRange(hEnd), "=", 0),
			clientv3.Compare(clientv3.CreateRevision(q).WithRange(qEnd), "=", 0),
			clientv3.Compare(clientv3.ModRevision(f), "=", n.floorRev),
		)
		c.do(clientv3.OpDelete(s.keys.record(id)), clientv3.OpPut(f, strconv.FormatInt(max(n.floor, n.record.Last), 10)))
		return c, func(rev int64) {
			collected, c.gone = true, true
			s.floors.learn(shardOf(id), max(n.floor, n.record.Last), rev)
		}, nil
	})
	return collected, err
}
