package renew

import (
	"errors"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// Kind says what an event tells.
type Kind uint8

// The kinds. Of each request there is one last event: Lost, Released or Failed.
const (
	// Queued: the request waits at Position.
	Queued Kind = iota + 1
	// Granted: Lease is held and renewed from now on.
	Granted
	// Renewed: Lease was prolonged.
	Renewed
	// AtRisk: a renewal failed and less than a third of the TTL is left.
	AtRisk
	// Lost: the lease must not be used any more, for Reason.
	Lost
	// Released: the hold was released; HoldCount are left.
	Released
	// Failed: the request failed with Err.
	Failed
)

// Reason says why a lease was lost.
type Reason string

// The reasons: the store's causes, and what the sidecar itself finds. This module
// breaks a deadlock by refusing a waiter, and ends no lease for it; ReasonDeadlock is
// of a lease that another program on the same store evicted, by Evict of its
// driver.Driver with driver.CauseDeadlock.
const (
	ReasonExpired    = Reason(driver.CauseExpired)
	ReasonForced     = Reason(driver.CauseForced)
	ReasonDeadlock   = Reason(driver.CauseDeadlock)
	ReasonReattached = Reason(driver.CauseReattached)
	ReasonReleased   = Reason(driver.CauseReleased)
	ReasonUnknown    = Reason(driver.CauseUnknown)
	// ReasonUnreachable: no renewal succeeded before valid-until.
	ReasonUnreachable Reason = "unreachable"
	// ReasonMaxHold: the hold reached the longest time that it asked for.
	ReasonMaxHold Reason = "max_hold"
)

// Reasons lists every reason, for metrics and tables.
func Reasons() []Reason {
	return []Reason{
		ReasonExpired, ReasonForced, ReasonDeadlock, ReasonReattached, ReasonReleased, ReasonUnknown,
		ReasonUnreachable, ReasonMaxHold,
	}
}

// Event is what a session is told about one of its requests.
type Event struct {
	Kind      Kind
	RequestID string
	LockID    string
	// Lease is set for Granted, Renewed and AtRisk.
	Lease *backend.Lease
	// Position and QueueLength are set for Queued.
	Position, QueueLength int
	// HoldCount is set for Released.
	HoldCount int
	// Token is the lease's, set for Lost.
	Token int64
	// Reason is set for Lost.
	Reason Reason
	// Err is set for Failed.
	Err error
}

// reasonOf is the reason for a decided failure of a renewal; ok is false if
// the failure decides nothing.
func reasonOf(err error) (reason Reason, ok bool) {
	var lost *driver.LostError
	switch {
	case errors.As(err, &lost):
		return Reason(lost.Cause), true
	case errors.Is(err, driver.ErrNotOwner), errors.Is(err, driver.ErrStaleToken):
		return ReasonUnknown, true
	}
	return "", false
}

// AcquireRequest asks for a lease that is renewed.
type AcquireRequest struct {
	backend.AcquireRequest
	// MaxHold is the longest time for which the lease is held; 0 means no
	// bound.
	MaxHold time.Duration
	// Linger: the lease is not released when its process dies.
	Linger bool
}

// AdoptRequest attaches a session to a lease that stands.
type AdoptRequest struct {
	backend.LeaseRef
	// RequestID names the adopt in its events. If it is a hold of the lease,
	// that hold alone is adopted, else all are.
	RequestID string
	TTL       time.Duration
	MaxHold   time.Duration
	Linger    bool
}
