package socket

import (
	"fmt"
	"sync"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Limits bound what one peer (a process, or a user where the kernel does not
// tell the process) may have at a time, and how large a request may be. Zero
// values mean the defaults. Renew, release, leave and adopt are exempt from
// what is counted for a peer: a limit must not lose a lease.
type Limits struct {
	// Connections is 256 by default.
	Connections int
	// Leases that the sidecar holds for the peer: 10,000 by default. It is
	// looked at when an acquire begins.
	Leases int
	// Waiters counts the acquires without an answer: 10,000 by default.
	Waiters int
	// Calls under way, streams among them: 20,000 by default.
	Calls int
	// Streams is how many gRPC calls one connection may have under way: 1,000
	// by default. HTTP/2 makes a client wait that knows the limit, and resets
	// the stream of one that does not.
	Streams int
	// Message is the size of a request without its headers, in bytes: 64 KiB
	// by default. Headers is that of the headers: 16 KiB by default.
	Message, Headers int
	// Reason is the size of the reason of a force-release, in bytes: 512 by
	// default.
	Reason int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field    *int
		standard int
	}{
		{&l.Connections, 256}, {&l.Leases, 10_000}, {&l.Waiters, 10_000}, {&l.Calls, 20_000}, {&l.Streams, 1000},
		{&l.Message, 64 << 10}, {&l.Headers, 16 << 10}, {&l.Reason, 512},
	} {
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
	limits                 *Limits
	connections            int // guarded by quotas.mu
	leases, waiters, calls atomic.Int64
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

// call counts a call under way until hangUp, or refuses it.
func (q *quota) call() error {
	if q.calls.Add(1) > int64(q.limits.Calls) {
		q.calls.Add(-1)
		return q.tooManyCalls()
	}
	return nil
}

// hold counts a Hold stream until hangUp. A few are opened beyond the limit, so
// that a lease can be adopted; over says that nothing else may be done there.
func (q *quota) hold() (over bool, err error) {
	n := q.calls.Add(1)
	if n > int64(q.limits.Calls)+refusals {
		q.calls.Add(-1)
		return true, q.tooManyCalls()
	}
	return n > int64(q.limits.Calls), nil
}

// hangUp ends a call.
func (q *quota) hangUp() { q.calls.Add(-1) }

func (q *quota) tooManyCalls() error { return &limitError{"calls", q.limits.Calls} }
