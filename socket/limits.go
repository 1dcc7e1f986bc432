package socket

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Limits bound what one peer (a process, or a user where the kernel does not
// tell the process) may have at a time. Zero values mean the defaults. Renew,
// release, leave and adopt are exempt: a limit must not lose a lease.
type Limits struct {
	// Connections is 256 by default.
	Connections int
	// Leases that the sidecar holds for the peer: 10,000 by default.
	Leases int
	// Waiters counts the acquires without an answer: 10,000 by default.
	Waiters int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field    *int
		standard int
	}{{&l.Connections, 256}, {&l.Leases, 10_000}, {&l.Waiters, 10_000}} {
		if *f.field <= 0 {
			*f.field = f.standard
		}
	}
	return l
}

// limitError is a driver.ErrLimit of the sidecar's own.
type limitError struct {
	// limit names what was exceeded, in the API.
	limit string
	most  int
}

func (e *limitError) Error() string {
	return fmt.Sprintf("limit exceeded: at most %d %s", e.most, e.limit)
}

// Is makes a limitError a driver.ErrLimit.
func (e *limitError) Is(target error) bool { return target == driver.ErrLimit }

// refusals is how many connections beyond the limit a peer may have at a time
// in order to be told so; further ones are closed without a word.
const refusals = 16

// quotas count what each peer has.
type quotas struct {
	limits Limits
	mu     sync.Mutex
	peers  map[peerKey]*quota
}

type peerKey struct {
	uid uint32
	pid int32
}

// quota is what one peer has.
type quota struct {
	limits          *Limits
	connections     int // guarded by quotas.mu
	leases, waiters atomic.Int64
}

// connect counts a connection. over: it is beyond the limit, and is to be told
// so; ok is false if it is not even that.
func (q *quotas) connect(p Peer) (mine *quota, over, ok bool) {
	key := peerKey{p.UID, p.PID}
	q.mu.Lock()
	defer q.mu.Unlock()
	mine = q.peers[key]
	if mine == nil {
		mine = &quota{limits: &q.limits}
		q.peers[key] = mine
	}
	if mine.connections >= q.limits.Connections+refusals {
		return nil, true, false
	}
	mine.connections++
	return mine, mine.connections > q.limits.Connections, true
}

func (q *quotas) disconnect(p Peer) {
	key := peerKey{p.UID, p.PID}
	q.mu.Lock()
	defer q.mu.Unlock()
	mine := q.peers[key]
	if mine.connections--; mine.connections == 0 {
		delete(q.peers, key)
	}
}

// wait counts an acquire without an answer, or refuses it.
func (q *quota) wait() error {
	if q.leases.Load() >= int64(q.limits.Leases) {
		return &limitError{"leases", q.limits.Leases}
	}
	if q.waiters.Add(1) > int64(q.limits.Waiters) {
		q.waiters.Add(-1)
		return &limitError{"waiters", q.limits.Waiters}
	}
	return nil
}

// answered ends a wait.
func (q *quota) answered() { q.waiters.Add(-1) }
