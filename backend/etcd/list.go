package etcd

import (
	"context"
	"slices"
	"strings"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	pageTokenPrefix = "v1:"
	// listKeys is how many keys a listing reads at a time.
	listKeys = 2000
)

// List reads the busy locks in the order of their ids: those that have a lease's
// mark or a place. The page token is "v1:" and the last id of the page before.
func (s *Store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	after, ok := strings.CutPrefix(req.PageToken, pageTokenPrefix)
	if req.PageToken != "" && (!ok || after == "" || len(after) > 255) {
		return nil, badPageToken(req.PageToken)
	}
	trees := []*subtree{{root: s.keys.allPlaces(), after: after}}
	if !req.Contended {
		trees = append(trees, &subtree{root: s.keys.allHolders(), after: after, marks: true})
	}
	page := &driver.ListPage{}
	for {
		ids, more, err := s.nextIDs(ctx, req.Prefix, trees)
		if err != nil {
			return nil, err
		}
		for chunk := range slices.Chunk(ids, maxOps/opsPerLock) {
			locks, err := s.lookMany(ctx, chunk)
			if err != nil {
				return nil, err
			}
			for _, lock := range locks {
				if len(lock.Waiters) == 0 && (len(lock.Holders) == 0 || req.Contended) {
					continue
				}
				if len(page.Locks) == req.PageSize {
					page.NextPageToken = pageTokenPrefix + page.Locks[req.PageSize-1].LockID
					return page, nil
				}
				page.Locks = append(page.Locks, *lock)
			}
		}
		if !more {
			return page, nil
		}
	}
}

// subtree is where a listing stands in one kind of keys.
type subtree struct {
	root string
	// after is the last id that was read entirely.
	after string
	// marks says that only the marks of leases count.
	marks bool
	done  bool
}

// nextIDs reads on in the subtrees, and returns the ids up to where all of them
// have been read.
func (s *Store) nextIDs(ctx context.Context, prefix string, trees []*subtree) (ids []string, more bool, err error) {
	horizon := ""
	for _, t := range trees {
		if t.done {
			continue
		}
		from, to := t.root+prefix, rangeEnd(t.root+prefix)
		if t.after != "" {
			from = max(from, t.root+t.after+afterEnd)
		}
		resp, err := s.get(ctx, from, clientv3.WithRange(to), clientv3.WithKeysOnly(), clientv3.WithLimit(listKeys))
		if err != nil {
			return nil, false, err
		}
		found := idsOf(resp.Kvs, t)
		if resp.More {
			// It counts although its mark may not have been read yet; what more keys
			// it has is passed over by the next read.
			last, _, _ := cut(string(resp.Kvs[len(resp.Kvs)-1].Key), t.root)
			found = append(found, last)
			if horizon == "" || last < horizon {
				horizon = last
			}
		} else {
			t.done = true
		}
		ids = append(ids, found...)
	}
	slices.Sort(ids)
	ids = slices.Compact(ids)
	if horizon == "" {
		return ids, false, nil
	}
	for _, t := range trees {
		t.after, t.done = horizon, false
	}
	i, found := slices.BinarySearch(ids, horizon)
	if found {
		i++
	}
	return ids[:i], true, nil
}

func idsOf(kvs []*mvccpb.KeyValue, t *subtree) (ids []string) {
	for _, kv := range kvs {
		id, rest, ok := cut(string(kv.Key), t.root)
		if ok && (!t.marks || strings.HasSuffix(rest, end)) && (len(ids) == 0 || ids[len(ids)-1] != id) {
			ids = append(ids, id)
		}
	}
	return ids
}

// lookMany reads locks in one transaction.
func (s *Store) lookMany(ctx context.Context, ids []string) ([]*driver.Lock, error) {
	ops := make([]clientv3.Op, 0, opsPerLock*len(ids))
	for _, id := range ids {
		ops = append(ops, s.lockOps(id)...)
	}
	resp, err := s.read(ctx, ops...)
	if err != nil {
		return nil, err
	}
	locks := make([]*driver.Lock, len(ids))
	for i, id := range ids {
		n, err := s.parse(id, resp.Header, resp.Responses[i*opsPerLock:(i+1)*opsPerLock])
		if err != nil {
			return nil, err
		}
		locks[i] = s.lock(n)
	}
	return locks, nil
}
