package renew

import (
	"hash/maphash"
	"sync"
)

// indexShards spreads the leases over mutexes.
const indexShards = 64

// index finds a lease by lock and token: what a hint names.
type index struct {
	seed   maphash.Seed
	shards [indexShards]indexShard
}

type indexShard struct {
	mu     sync.Mutex
	leases map[leaseName]attached
}

type leaseName struct {
	lockID string
	token  int64
}

// attached is a lease as a session has it, with the attach number at which the
// session got it.
type attached struct {
	lease  *lease
	attach int64
}

func (x *index) init() {
	x.seed = maphash.MakeSeed()
	for i := range x.shards {
		x.shards[i].leases = make(map[leaseName]attached)
	}
}

func (x *index) shard(lockID string) *indexShard {
	return &x.shards[maphash.String(x.seed, lockID)%indexShards]
}

func (x *index) find(lockID string, token int64) *lease {
	s := x.shard(lockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.leases[leaseName{lockID, token}].lease
}

// put enters l, unless another session has the lease at a higher attach number:
// two answers of the store may come in either order. It returns the lease whose
// attachment is the older one, if there are two.
func (x *index) put(l *lease) (older *lease) {
	s := x.shard(l.LockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	name := leaseName{l.LockID, l.Token}
	has := s.leases[name]
	if has.lease != nil && has.lease != l && has.attach > l.Attach {
		return l
	}
	s.leases[name] = attached{l, l.Attach}
	if has.lease == l {
		return nil
	}
	return has.lease
}

func (x *index) remove(l *lease) {
	s := x.shard(l.LockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	if name := (leaseName{l.LockID, l.Token}); s.leases[name].lease == l {
		delete(s.leases, name)
	}
}
