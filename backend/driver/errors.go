package driver

import (
	"errors"
	"fmt"
	"time"
)

// Outcomes that the store decided. The request had no effect.
var (
	// ErrHeld: the lock is held or living waiters stand before the request.
	// The error is a *HeldError.
	ErrHeld = errors.New("lock is held")
	// ErrLost: the lease does not stand any more. The error is a *LostError.
	ErrLost = errors.New("lease is lost")
	// ErrNotOwner: the lease stands, and the lease id is another.
	ErrNotOwner = errors.New("not the owner of the lease")
	// ErrStaleToken: the fencing token is not this lease's.
	ErrStaleToken = errors.New("fencing token is not this lease's")
	// ErrAmbiguousHold: the lease has several holds and the release named none.
	ErrAmbiguousHold = errors.New("lease has several holds: name the request id of the one to release")
	// ErrNoPlace: no waiter of the lock has the ticket.
	ErrNoPlace = errors.New("no waiter of the lock has this ticket")
	// ErrDeadlock: the waiter was chosen to break a deadlock.
	ErrDeadlock = errors.New("waiting would deadlock")
)

// Conditions of the store and of the way to it.
var (
	// ErrUnavailable: certainly not done. Repeating is safe.
	ErrUnavailable = errors.New("backend is unavailable")
	// ErrIndeterminate: it may be done or not, or still be done later.
	// Repeating under the same request id is safe.
	ErrIndeterminate = errors.New("outcome is unknown")
	// ErrBreakerOpen: certainly not done, because the circuit breaker is open.
	// It is also ErrUnavailable.
	ErrBreakerOpen = fmt.Errorf("%w: circuit breaker is open", ErrUnavailable)
	// ErrQuarantined: the store may have lost leases and grants nothing until
	// the longest of them must have ended. Renew and release still work.
	ErrQuarantined = errors.New("backend is in quarantine: no new lease is granted yet")
	// ErrClosed: the driver was closed.
	ErrClosed = errors.New("backend is closed")
)

// Requests that cannot be served.
var (
	// ErrUnsupported: the driver cannot do this; its Capabilities say so.
	ErrUnsupported = errors.New("not supported by this backend")
	// ErrLimit: a limit in the store was reached, such as MaxWaiters.
	ErrLimit = errors.New("limit exceeded")
	// ErrInvalid: a request, URL or option that no store could serve.
	ErrInvalid = errors.New("invalid")
	// ErrFormat: the record was written by a newer, incompatible version.
	ErrFormat = errors.New("record has a newer format than this version understands")
)

// Sentinels lists every sentinel error of this package, so that tables over
// them can be checked for completeness.
func Sentinels() []error {
	return []error{
		ErrHeld, ErrLost, ErrNotOwner, ErrStaleToken, ErrAmbiguousHold, ErrNoPlace, ErrDeadlock,
		ErrUnavailable, ErrIndeterminate, ErrBreakerOpen, ErrQuarantined, ErrClosed,
		ErrUnsupported, ErrLimit, ErrInvalid, ErrFormat,
	}
}

// Cause says how a lease ended.
type Cause string

// The causes. They are stored, and are the reasons that an application sees.
const (
	// CauseUnknown: the store does not remember the lease.
	CauseUnknown Cause = "unknown"
	// CauseReleased: its holder released it or left.
	CauseReleased Cause = "released"
	// CauseExpired: its time ran out without a renewal.
	CauseExpired Cause = "expired"
	// CauseForced: an operator revoked or evicted it.
	CauseForced Cause = "forced"
	// CauseDeadlock: it was evicted to break a deadlock.
	CauseDeadlock Cause = "deadlock"
	// CauseReattached: another attachment adopted it.
	CauseReattached Cause = "reattached"
)

// HeldError is the ErrHeld of a refused acquire.
type HeldError struct {
	// Holder is one of the holders; nil if only waiters stand before.
	Holder *Holder
	// QueueLength is the number of living waiters.
	QueueLength int
	// BySelf: the owner itself holds the lock, so that waiting would not end.
	BySelf bool
	// OtherMode: the owner holds the lock in the other mode (no upgrade, no
	// downgrade). Implies BySelf.
	OtherMode bool
}

func (e *HeldError) Error() string {
	switch {
	case e.OtherMode:
		return "lock is held by this owner in the other mode: a lease is neither upgraded nor downgraded, release it first"
	case e.BySelf:
		return "lock is held by this owner: a further hold needs reentrant and the lease's id"
	case e.Holder != nil:
		return fmt.Sprintf("lock is held by %q for another %v, %d waiting",
			e.Holder.OwnerID, e.Holder.Remaining.Round(time.Millisecond), e.QueueLength)
	}
	return fmt.Sprintf("lock has %d waiters before this request", e.QueueLength)
}

// Is makes a HeldError an ErrHeld.
func (e *HeldError) Is(target error) bool { return target == ErrHeld }

// LostError is the ErrLost of a lease that does not stand any more.
type LostError struct{ Cause Cause }

func (e *LostError) Error() string { return "lease is lost: " + string(e.Cause) }

// Is makes a LostError an ErrLost.
func (e *LostError) Is(target error) bool { return target == ErrLost }

// TokenError is an ErrStaleToken that names both tokens.
type TokenError struct{ Expected, Actual int64 }

func (e *TokenError) Error() string {
	return fmt.Sprintf("fencing token %d is not this lease's, which is %d", e.Actual, e.Expected)
}

// Is makes a TokenError an ErrStaleToken.
func (e *TokenError) Is(target error) bool { return target == ErrStaleToken }

// Lost returns a LostError with the cause.
func Lost(c Cause) error { return &LostError{Cause: c} }
