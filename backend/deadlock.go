package backend

import (
	"fmt"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Wait is one step of a deadlock: a place in a queue, and the owner for whom it
// waits. It has no secret.
type Wait struct {
	// Backend is the backend's name in this sidecar.
	Backend string
	LockID  string
	// OwnerID waits for the lock, with the place Ticket.
	OwnerID string
	Ticket  int64
	Shared  bool
	// For is the owner who stands in the way.
	For string
	// Token is that of For's lease of the lock; 0: For waits too, before OwnerID.
	Token int64
}

// DeadlockError is the driver.ErrDeadlock of an acquire that was refused to break
// a deadlock.
type DeadlockError struct {
	// Cycle is the deadlock: each wait is for the owner of the next, the last one
	// for that of the first.
	Cycle []Wait
	// Hidden is how many waits of it are left out, because whoever is told may not
	// inspect their locks.
	Hidden int
}

func (e *DeadlockError) Error() string {
	const told = 8
	var b strings.Builder
	b.WriteString(driver.ErrDeadlock.Error())
	for i, w := range e.Cycle {
		if i == told {
			break
		}
		b.WriteString(map[bool]string{true: ": ", false: ", "}[i == 0])
		fmt.Fprintf(&b, "%q waits for %q at the lock %q", w.OwnerID, w.For, w.LockID)
	}
	if more := e.Hidden + max(0, len(e.Cycle)-told); more > 0 {
		fmt.Fprintf(&b, ", and %d more", more)
	}
	return b.String()
}

// Is makes a DeadlockError an ErrDeadlock.
func (e *DeadlockError) Is(target error) bool { return target == driver.ErrDeadlock }

// Waits are acquires that wait in this process.
type Waits struct {
	// Named is how many of them name their owner. One that does not has an owner
	// of its own, which holds nothing while it waits.
	Named int
	// Queue is the longest queue in which one of them was seen to stand.
	Queue int
}

// Waits counts the acquires that have waited for at least so long.
func (s *Store) Waits(least time.Duration) (w Waits) {
	if s.Waiting() == 0 {
		return w
	}
	before := time.Now().Add(-least)
	for _, p := range s.waiters.all() {
		if length := int(p.length.Load()); p.named && length > 0 && !p.since.After(before) {
			w.Named++
			w.Queue = max(w.Queue, length)
		}
	}
	return w
}

// Refuse ends the wait of an acquire of this process, if it is still waiting, with
// the error; its place is given up. It says whether there was such an acquire.
func (s *Store) Refuse(lockID, requestID string, err *DeadlockError) bool {
	p := s.waiters.find(lockID, requestID)
	if p == nil || p.length.Load() == 0 || !p.refusal.CompareAndSwap(nil, err) {
		return false
	}
	p.hint()
	return true
}
