package backend

import (
	"context"
	"errors"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Observer is told what the store does. Its methods are called on the hot path
// and must not block.
type Observer interface {
	// Acquired is called once for each acquire.
	Acquired(AcquireObservation)
	// Waiting is called with +1 and -1 as requests enter and leave the queue.
	Waiting(delta int)
	// Happened is called for each change that the store made or found. An Event
	// of the kind Ended has been recorded when it returns: the store is then
	// told to forget it.
	Happened(Event)
}

// AcquireObservation describes an acquire that has ended.
type AcquireObservation struct {
	LockID string
	Shared bool
	// Wait is the time from the call to its end.
	Wait time.Duration
	// Contended: the first attempt did not get the lock.
	Contended bool
	Err       error
}

// Kind says what an Event tells.
type Kind uint8

// The kinds.
const (
	// Acquired: RequestID got the lease. A repeated acquire is told again.
	Acquired Kind = iota + 1
	// Queued: RequestID waits, at Position.
	Queued
	// Abandoned: RequestID was given up, for Reason.
	Abandoned
	// Released: a hold was released; HoldCount are left. A repeated release is
	// told again.
	Released
	// Ended: the lease ended by other means than its holder's, for Cause. Each
	// end is told once in a fleet, and again if that was perhaps not recorded.
	Ended
	// Revoked: an operator revoked the lease, for Reason.
	Revoked
	// Adopted: a lease that stands was attached anew, under Attach.
	Adopted
	// Cancelled: an operator ended the wait with the place Ticket, for Reason.
	Cancelled
	// Reprioritized: an operator gave the place Ticket the Priority, for Reason.
	Reprioritized
	// Draining: an operator asked, by RequestID and for Reason, that nobody else is
	// granted the lock. What becomes of that is told as of any request.
	Draining
)

// The reasons of an abandoned acquire.
const (
	// ReasonLeft: the caller, or this process, gave up waiting.
	ReasonLeft = "left"
	// ReasonTimeout: a bounded wait ran out.
	ReasonTimeout = "timeout"
	// ReasonFailed: the store failed, and may have granted.
	ReasonFailed = "failed"
	// ReasonUndone: the caller undid it by its request id.
	ReasonUndone = "undone"
	// ReasonForced: an operator ended it.
	ReasonForced = "forced"
	// ReasonDeadlock: it was refused to break a deadlock.
	ReasonDeadlock = "deadlock"
)

// Event is something that happened to a lock. What a kind does not know or
// need is left empty.
type Event struct {
	Kind    Kind
	Shared  bool
	LockID  string
	OwnerID string
	// RequestID is a secret: who passes an event on does not pass this on.
	RequestID string
	Token     int64
	// Cause is set for Ended.
	Cause driver.Cause
	// Reason is set for Abandoned, and where an operator gave one; By is who that
	// was.
	Reason, By string
	// Position and QueueLength are set for Queued, HoldCount for Acquired,
	// Released and Adopted.
	Position, QueueLength, HoldCount int
	// Ticket is that of the place, for Queued and Abandoned, or from which a lease was granted,
	// for Acquired; Priority is the waiter's.
	Ticket   int64
	Priority int
	// Sent is when that was asked for which has happened, not later; zero if that
	// is not known.
	Sent time.Time
	// TTL, ValidUntil and ExpiresAt are the lease's as Acquired and Adopted prove
	// it, Attach its attach number.
	TTL        time.Duration
	ValidUntil driver.Instant
	ExpiresAt  time.Time
	Attach     int64
}

func reasonLeft(err error) string {
	if errors.Is(err, context.DeadlineExceeded) {
		return ReasonTimeout
	}
	return ReasonLeft
}

type nobody struct{}

func (nobody) Acquired(AcquireObservation) {}
func (nobody) Waiting(int)                 {}
func (nobody) Happened(Event)              {}
