package driver

import (
	"crypto/sha256"
	"encoding/hex"
	"time"
)

// Key is the SHA-256 of a lease id, in hexadecimal. The lease id itself never
// reaches a driver or a store.
type Key string

// KeyOf returns the key of a lease id.
func KeyOf(leaseID string) Key {
	sum := sha256.Sum256([]byte(leaseID))
	return Key(hex.EncodeToString(sum[:]))
}

// AcquireRequest is one attempt at a lock. Every field is valid and filled:
// ids are within their limits, TTL is within the driver's bounds, Priority is
// within 0 and MaxPriority, Metadata is within its limits.
type AcquireRequest struct {
	LockID  string
	OwnerID string
	// RequestID names this hold. It is a secret of the caller's: it stands in
	// the store, but in no event, error, log or answer to another.
	RequestID string
	// Key is bound to the lease: of a new lease id, or, to re-enter, of the
	// lease id that the caller proves.
	Key Key
	// TTL is how long the lease lasts unless renewed.
	TTL time.Duration
	// Shared asks for the shared mode; else the lease is exclusive.
	Shared bool
	// Reentrant allows a further hold on the owner's own lease.
	Reentrant bool
	// Enqueue asks for a place in the queue if the lock is not granted.
	Enqueue bool
	// Priority is the waiter's, 0 (default) to MaxPriority.
	Priority int
	// PlaceTTL is how long a place lasts unless the acquire is repeated.
	PlaceTTL time.Duration
	// TokenFloor is a lower bound of a new grant's token; 0 means none.
	TokenFloor int64
	// Metadata is the holder's note to whoever inspects the lock.
	Metadata map[string]string
}

// AcquireResult is the outcome of an attempt that did not fail: a grant if
// Lease is not nil, else a place in the queue.
type AcquireResult struct {
	Lease *Lease
	// Position counts from 1 among the living waiters, in order.
	Position int
	// QueueLength is the number of living waiters, this one included.
	QueueLength int
	// Ticket is the lock's sequence number of the place, or, of a grant, of the
	// place that the request was granted from; 0 if it had none, or is not known
	// any more to have had one, as after a repeat.
	Ticket int64
	// Holder describes one of the holders that stand in the way, if any.
	Holder *Holder
	// RetryAfter is when the attempt is to be repeated at the latest, if no
	// hint comes first: never beyond the place's deadline, and not long after
	// the moment at which the request may become grantable by itself.
	RetryAfter time.Duration
	// Evicted are the expired leases that this very call removed.
	Evicted []Ended
}

// Lease is a lease as one answer of the store proves it.
type Lease struct {
	LockID  string
	OwnerID string
	// Token is the fencing token of the grant.
	Token  int64
	Shared bool
	// Holds are the request ids that hold the lease.
	Holds []string
	// Attach is the attach number. Renew and Release of an attachment are
	// conditional on it.
	Attach int64
	// TTL is the lease's, at least the requested one: a driver rounds up and
	// reports it here.
	TTL time.Duration
	// Remaining is what the store said was left, when it decided.
	Remaining time.Duration
	// Origin is the instant from which Remaining is known to count: just
	// before the send of the attempt whose answer this is. A store without a
	// clock that only found the lease reports the earliest send of that
	// request id.
	Origin Instant
	// ExpiresAt is the end by the store's wall clock, for display only.
	ExpiresAt time.Time
	Metadata  map[string]string
}

// LeaseRef names a lease and proves the right to it.
//
// A driver compares in this order: no unexpired lease of the lock has the
// token, but one has the key: ErrStaleToken. No lease has the token: a
// LostError with the remembered cause, else CauseUnknown. The lease with the
// token has another key: ErrNotOwner. Attach is not 0 and not the lease's: a
// LostError with CauseReattached. The lease is revoked: a LostError with
// CauseForced (except for Release).
type LeaseRef struct {
	LockID string
	Key    Key
	Token  int64
	// Attach is the attach number that the caller got with the lease; 0 means
	// that the caller is the application itself, which proves the lease by
	// its key alone.
	Attach int64
}

// RenewRequest asks for TTL from now on for a lease.
type RenewRequest struct {
	LeaseRef
	TTL time.Duration
}

// RenewResult is one answer of a batch.
type RenewResult struct {
	Lease *Lease
	Err   error
}

// ReleaseRequest ends one hold of a lease.
type ReleaseRequest struct {
	LeaseRef
	// RequestID is the hold's. It may be empty while the lease has one hold;
	// with more, the driver fails with ErrAmbiguousHold.
	RequestID string
}

// ReleaseResult tells what is left of the lease.
type ReleaseResult struct {
	// HoldCount is the number of holds left; 0 means that the lease ended.
	HoldCount int
	// OwnerID and Shared are the lease's. A repeated release may not know them:
	// the owner is then empty.
	OwnerID string
	Shared  bool
}

// LeaveRequest drops a place or an undelivered grant.
type LeaveRequest struct {
	LockID    string
	RequestID string
	// Key is that of the acquire which is undone. A repeat of the request under
	// another key is another attempt, which may have been answered: it is not
	// touched. Empty: whatever the request id has, under any key.
	Key Key
}

// EvictRequest ends or revokes another's lease.
type EvictRequest struct {
	LockID string
	// Token is the lease's: a lease that was granted since is not touched.
	Token int64
	Cause Cause
}

// EditPlaceRequest changes another's place in the queue.
type EditPlaceRequest struct {
	LockID string
	// Ticket is the place's: one that was taken since is not touched.
	Ticket int64
	// Drop ends the wait; else the place gets Priority, 0 to MaxPriority, or
	// FirstPriority.
	Drop     bool
	Priority int
}

// Ended describes a lease that ended by other means than its holder's. Its
// LockID, Token and Cause together name the event.
type Ended struct {
	LockID  string
	OwnerID string
	Token   int64
	Shared  bool
	Cause   Cause
}

// ListRequest asks for one page of locks.
type ListRequest struct {
	// Prefix selects lock ids; empty means all.
	Prefix string
	// Contended selects locks that have waiters.
	Contended bool
	// PageSize is within 1 and the portable layer's limit. A page may hold
	// fewer locks, or none, although more follow.
	PageSize int
	// PageToken continues a listing; empty starts one. One that the driver
	// did not make: ErrInvalid.
	PageToken string
}

// ListPage is one page of a listing.
type ListPage struct {
	Locks []Lock
	// NextPageToken is empty on the last page, and on no other.
	NextPageToken string
	// Failed are the names of backends that could not be read. Who joins the
	// listings of several fills it in, a driver leaves it empty.
	Failed []string
}

// Lock is the state of a lock at one moment.
type Lock struct {
	LockID string
	// Backend is the name of the backend. The portable store fills it in, a
	// driver leaves it empty.
	Backend string
	// Token is the highest token known of the lock; 0 if none is.
	Token   int64
	Holders []Holder
	// Waiters are the living ones, in order.
	Waiters []Waiter
}

// Holder is an unexpired lease as everybody may see it.
type Holder struct {
	OwnerID   string
	Token     int64
	Shared    bool
	HoldCount int
	Attach    int64
	TTL       time.Duration
	Remaining time.Duration
	ExpiresAt time.Time
	Revoked   bool
	Metadata  map[string]string
}

// Waiter is a place in the queue. RequestID is secret and stays inside the
// sidecar.
type Waiter struct {
	OwnerID   string
	RequestID string
	// Ticket is the lock's sequence number of the place.
	Ticket   int64
	Position int
	Priority int
	Shared   bool
	// Remaining is the time to the place's deadline.
	Remaining time.Duration
}

// HintKind says what a hint is about.
type HintKind uint8

const (
	// HintGrantable: the waiter RequestID should repeat its Acquire.
	HintGrantable HintKind = iota + 1
	// HintRevoked: the lease with Token was revoked or evicted; its holder
	// should renew it now to learn its fate.
	HintRevoked
	// HintResync: hints may have been lost (a connection broke); every waiter
	// should re-check, spread over the poll interval.
	HintResync
)

// Hint is an unreliable notification.
type Hint struct {
	Kind      HintKind
	LockID    string
	RequestID string
	Token     int64
}
