package backend

import (
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// AcquireRequest asks for a lease. The zero value of each field but LockID has
// a meaning.
type AcquireRequest struct {
	LockID string
	// OwnerID is derived from the request id if empty.
	OwnerID string
	// RequestID is made at random if empty.
	RequestID string
	// LeaseID is the secret of the lease to re-enter; empty asks for a new
	// lease.
	LeaseID string
	// TTL is DefaultTTL if 0.
	TTL time.Duration
	// Wait bounds the waiting: 0 tries once, Forever (any negative value)
	// waits until the context ends.
	Wait       time.Duration
	Shared     bool
	Reentrant  bool
	Priority   int
	TokenFloor int64
	Metadata   map[string]string
	// Drain makes it an operator's drain: its place goes before all others.
	Drain *Drain
	// OnQueued, if not nil, is told the position when the request is queued
	// and whenever it moved, at most once a second. It must not block.
	OnQueued func(position, queueLength int)
}

// Drain is why an operator wants that nobody else is granted a lock, and who that
// is, for the Observer. Its grant says that nobody else has the lock any more.
type Drain struct {
	Reason, By string
}

// Forever is the Wait of an acquire that only its context ends.
const Forever time.Duration = -1

// Lease is a granted lease with its secret and the time for which its holder
// may rely on it.
type Lease struct {
	driver.Lease
	// LeaseID is the secret.
	LeaseID string
	// RequestID is the hold that this answer is about.
	RequestID string
	// ValidUntil is the instant from which the lease counts as lost.
	ValidUntil driver.Instant
}

// Ref is the lease's name and proof, for Renew and Release. With attached it
// carries the attach number, so that it has no effect once the lease was
// adopted elsewhere.
func (l *Lease) Ref(attached bool) LeaseRef {
	ref := LeaseRef{LockID: l.LockID, LeaseID: l.LeaseID, Token: l.Token}
	if attached {
		ref.Attach = l.Attach
	}
	return ref
}

// LeaseRef names a lease and proves the right to it.
type LeaseRef struct {
	LockID  string
	LeaseID string
	Token   int64
	// Attach is 0 for the application itself, else the attachment's number.
	Attach int64
}

// RenewRequest prolongs a lease; TTL is DefaultTTL if 0.
type RenewRequest struct {
	LeaseRef
	TTL time.Duration
}

// RenewResult is one answer of Store.RenewMany. ValidUntil of the lease is
// counted as for a grant.
type RenewResult struct {
	Lease *Lease
	Err   error
}

// ReleaseRequest ends one hold. RequestID may be empty while there is one.
// Without LeaseID and Token, RequestID alone undoes an acquire whose reply was
// lost (Store.Leave).
type ReleaseRequest struct {
	LeaseRef
	RequestID string
}

// ForceReleaseRequest revokes a lease, or ends it at once if Immediate.
type ForceReleaseRequest struct {
	LockID    string
	Token     int64
	Immediate bool
	// Reason is the operator's, and By who that is, for the Observer.
	Reason, By string
}

// WaiterRequest changes another's place in a queue.
type WaiterRequest struct {
	LockID string
	// Ticket is the place's.
	Ticket int64
	// Priority is what Reprioritize gives it. First is instead of it: the place goes
	// before all others.
	Priority int
	First    bool
	// Reason is the operator's, and By who that is, for the Observer.
	Reason, By string
}

// ForceReleaseResult describes the lease that was revoked or ended.
type ForceReleaseResult struct {
	Holder driver.Holder
	Ended  bool
}
