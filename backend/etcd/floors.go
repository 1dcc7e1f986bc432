package etcd

import (
	"sync"
)

// floors are the highest tokens of the records that were collected, by shard, as
// this driver has read them last. What uses one makes it a condition.
type floors struct {
	mu    sync.Mutex
	known [shards]floor
}

type floor struct{ token, rev int64 }

func (f *floors) learn(shard int, token, rev int64) {
	f.mu.Lock()
	defer f.mu.Unlock()
	if rev >= f.known[shard].rev || rev == 0 {
		f.known[shard] = floor{token, rev}
	}
}

func (f *floors) get(shard int) floor {
	f.mu.Lock()
	defer f.mu.Unlock()
	return f.known[shard]
}

// blank is the guess at a lock of which nothing is known: that it never was.
func (s *Store) blank(id string) *snapshot {
	f := s.floors.get(shardOf(id))
	return &snapshot{id: id, firstDeath: 1<<63 - 1, floor: f.token, floorRev: f.rev, stamp: s.condition.stamped()}
}
