package etcd

import (
	"context"
	"sync"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"
)

// fallen are the locks with a lease whose mark has gone. A lease that is released
// or evicted takes its mark with it, at one revision; where the mark goes alone,
// the lease has expired.
type fallen struct {
	stop context.CancelFunc

	mu    sync.Mutex
	locks map[string]bool
	ended bool
}

// scanKeys is how many keys the first look reads at a time.
const scanKeys = 10_000

// fallen looks at all leases once, and watches from there on.
func (s *Store) fallen(ctx context.Context) (*fallen, error) {
	f := &fallen{locks: make(map[string]bool)}
	root := s.keys.allHolders()
	from, rev := root, int64(0)
	var last, lastID string // a lease whose mark has not come yet
	for {
		resp, err := s.get(ctx, from, clientv3.WithRange(rangeEnd(root)), clientv3.WithKeysOnly(), clientv3.WithLimit(scanKeys), clientv3.WithRev(rev))
		if err != nil {
			return nil, err
		}
		if rev == 0 {
			rev = resp.Header.Revision
		}
		for _, kv := range resp.Kvs {
			key := string(kv.Key)
			id, _, mark, ok := cutToken(key, root)
			if mark && key == last+end {
				last = ""
			}
			if !ok || mark {
				continue
			}
			if last != "" {
				f.locks[lastID] = true
			}
			last, lastID = key, id
		}
		if !resp.More {
			break
		}
		from = string(resp.Kvs[len(resp.Kvs)-1].Key) + "\x00"
	}
	if last != "" {
		f.locks[lastID] = true
	}
	c, err := s.connected()
	if err != nil {
		return nil, s.unread(err)
	}
	watching, stop := context.WithCancel(s.stopped)
	f.stop = stop
	if !s.start(func() {
		defer stop()
		defer f.end()
		for resp := range c.Watcher.Watch(clientv3.WithRequireLeader(watching), root, clientv3.WithPrefix(), clientv3.WithRev(rev+1), clientv3.WithFilterPut()) {
			if resp.Err() != nil {
				return // all is looked at anew
			}
			f.see(root, resp.Events)
		}
	}) {
		stop()
	}
	return f, nil
}

// see finds marks that went alone. The events of a revision come together, in the
// order of their keys or not.
func (f *fallen) see(root string, events []*clientv3.Event) {
	type gone struct {
		key string
		rev int64
	}
	whole := make(map[gone]bool)
	for _, e := range events {
		if _, _, mark, ok := cutToken(string(e.Kv.Key), root); ok && !mark && e.Type == mvccpb.DELETE {
			whole[gone{string(e.Kv.Key) + end, e.Kv.ModRevision}] = true
		}
	}
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, e := range events {
		id, _, mark, ok := cutToken(string(e.Kv.Key), root)
		if ok && mark && e.Type == mvccpb.DELETE && !whole[gone{string(e.Kv.Key), e.Kv.ModRevision}] {
			f.locks[id] = true
		}
	}
}

func (f *fallen) end() {
	f.mu.Lock()
	defer f.mu.Unlock()
	f.ended = true
}

func (f *fallen) broken() bool {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.ended
}

// take returns some of the locks, and forgets them.
func (f *fallen) take(most int) (ids []string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for id := range f.locks {
		if len(ids) == most {
			break
		}
		ids = append(ids, id)
		delete(f.locks, id)
	}
	return ids
}

func (f *fallen) add(ids ...string) {
	f.mu.Lock()
	defer f.mu.Unlock()
	for _, id := range ids {
		f.locks[id] = true
	}
}
