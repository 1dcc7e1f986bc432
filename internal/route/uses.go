package route

import (
	"hash/maphash"
	"slices"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// shards spread the locks over mutexes: every acquire takes one.
	shards = 64
	// maxSeen bounds, for each shard, the idle locks whose tokens are
	// remembered.
	maxSeen = 1024
)

// uses are what this process has of each lock, and where.
type uses struct {
	seed   maphash.Seed
	clock  driver.Clock
	shards [shards]shard
}

type shard struct {
	mu    sync.Mutex
	locks map[string]*lock
	// seen are the highest tokens of locks that are not in use.
	seen map[string]mark
}

// mark is the highest token that was seen of a lock, and where.
type mark struct {
	token int64
	b     *Branch
}

// lock is one that is in use.
type lock struct {
	asking []asking
	leases []lease
	top    mark
	// changed is closed when a use has ended; nil if nobody waits for that.
	changed chan struct{}
}

// asking is an acquire, or an adoption, that has no answer yet.
type asking struct {
	b         *Branch
	requestID string
}

// lease is one that may stand until then: a holder relies on it no longer.
type lease struct {
	b     *Branch
	token int64
	owner string
	holds []string
	until driver.Instant
}

func newUses(clock driver.Clock) *uses {
	u := &uses{seed: maphash.MakeSeed(), clock: clock}
	for i := range u.shards {
		u.shards[i].locks, u.shards[i].seen = make(map[string]*lock), make(map[string]mark)
	}
	return u
}

func (u *uses) shard(lockID string) *shard { return &u.shards[maphash.String(u.seed, lockID)%shards] }

// in runs f with the lock, which is made if it is not in use and forgotten if it
// is not afterwards.
func (u *uses) in(lockID string, f func(l *lock)) {
	s := u.shard(lockID)
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.locks[lockID]
	if l == nil {
		l = &lock{top: s.seen[lockID]}
		s.locks[lockID] = l
		delete(s.seen, lockID)
	}
	f(l)
	s.settle(lockID, l)
}

// settle forgets a lock that is not in use, but not its token.
func (s *shard) settle(lockID string, l *lock) {
	if len(l.asking)+len(l.leases) > 0 {
		return
	}
	l.tell()
	delete(s.locks, lockID)
	if l.top.token == 0 {
		return
	}
	for other := range s.seen {
		if len(s.seen) < maxSeen {
			break
		}
		delete(s.seen, other)
	}
	s.seen[lockID] = l.top
}

// expire drops the leases whose time has passed.
func (u *uses) expire(l *lock) (now driver.Instant) {
	before := len(l.leases)
	if before == 0 {
		return 0
	}
	now = u.clock.Now()
	l.leases = slices.DeleteFunc(l.leases, func(h lease) bool { return now >= h.until })
	if len(l.leases) < before {
		l.tell()
	}
	return now
}

// tell wakes who waits for a use to end.
func (l *lock) tell() {
	if l.changed != nil {
		close(l.changed)
		l.changed = nil
	}
}

// note remembers a token.
func (l *lock) note(b *Branch, token int64) {
	if token > l.top.token {
		l.top = mark{token, b}
	}
}

// begin enters an acquire without an answer; end is to be called once.
func (u *uses) begin(b *Branch, lockID, requestID string) (end func()) {
	u.in(lockID, func(l *lock) { l.asking = append(l.asking, asking{b, requestID}) })
	return func() { u.end(b, lockID, requestID) }
}

func (u *uses) end(b *Branch, lockID, requestID string) {
	u.in(lockID, func(l *lock) {
		if i := slices.Index(l.asking, asking{b, requestID}); i >= 0 {
			l.asking = slices.Delete(l.asking, i, i+1)
			l.tell()
		}
	})
}

// stands enters a lease, or prolongs it. It may stand as long as its TTL from
// now on: what the store counts began before.
func (u *uses) stands(b *Branch, granted *backend.Lease) {
	one := lease{b, granted.Token, granted.OwnerID, granted.Holds, u.clock.Now().Add(granted.TTL)}
	u.in(granted.LockID, func(l *lock) {
		l.note(b, granted.Token)
		for i := range l.leases {
			if l.leases[i].b == b && l.leases[i].token == granted.Token {
				one.until = max(one.until, l.leases[i].until)
				l.leases[i] = one
				return
			}
		}
		l.leases = append(l.leases, one)
	})
}

// ended drops a lease that the store says has been given back.
func (u *uses) ended(b *Branch, lockID string, token int64) {
	u.in(lockID, func(l *lock) {
		before := len(l.leases)
		l.leases = slices.DeleteFunc(l.leases, func(h lease) bool { return h.b == b && h.token == token })
		if len(l.leases) < before {
			l.tell()
		}
	})
}

// saw remembers a token of another's.
func (u *uses) saw(b *Branch, lockID string, token int64) {
	u.in(lockID, func(l *lock) { l.note(b, token) })
}

// floor is above the highest token that was seen on another backend; 0 if none
// was.
func (l *lock) floor(b *Branch) int64 {
	if l.top.b == b || l.top.token == 0 || l.top.token+1 >= driver.MaxClockToken {
		return 0
	}
	return l.top.token + 1
}

// holder is the branch of the lease with the token; nil if it is not known.
func (u *uses) holder(lockID string, token int64) (b *Branch) {
	u.in(lockID, func(l *lock) {
		for i := range l.leases {
			if l.leases[i].token == token {
				b = l.leases[i].b
			}
		}
	})
	return b
}

// inUse reports whether anything of the branch is in use. It lets go of what has
// expired.
func (u *uses) inUse(b *Branch) bool {
	used := false
	for i := range u.shards {
		s := &u.shards[i]
		s.mu.Lock()
		for id, l := range s.locks {
			u.expire(l)
			used = used || slices.ContainsFunc(l.asking, func(a asking) bool { return a.b == b }) ||
				slices.ContainsFunc(l.leases, func(h lease) bool { return h.b == b })
			s.settle(id, l)
		}
		s.mu.Unlock()
	}
	return used
}

// wait is the time until the last lease that stands elsewhere must have ended,
// for an acquire that is to go to b. asked: one without an answer stands
// elsewhere too, of which only its end will tell.
func (l *lock) wait(b *Branch, now driver.Instant) (until time.Duration, asked bool, by *lease) {
	for i := range l.leases {
		if h := &l.leases[i]; h.b != b && h.until.Sub(now) > until {
			until, by = h.until.Sub(now), h
		}
	}
	return until, slices.ContainsFunc(l.asking, func(a asking) bool { return a.b != b }), by
}

// belongs is the branch to which a request belongs whatever the routes say: it
// repeats or re-enters what is there, or its owner holds the lock there.
func (l *lock) belongs(req *backend.AcquireRequest) *Branch {
	for i := range l.leases {
		h := &l.leases[i]
		if req.LeaseID != "" || slices.Contains(h.holds, req.RequestID) || req.OwnerID != "" && req.OwnerID == h.owner {
			return h.b
		}
	}
	for _, a := range l.asking {
		if a.requestID == req.RequestID {
			return a.b
		}
	}
	return nil
}
