package driver

import (
	"context"
	"log/slog"
	"net/url"
)

// Driver is a store of locks. The doc of each method states the obligation of
// the caller first, then that of the driver.
type Driver interface {
	// Acquire makes one attempt and never waits for the lock.
	//
	// The caller repeats the call with the same RequestID, at the latest
	// after AcquireResult.RetryAfter, for as long as it wants its place, and
	// calls Leave when it gives up.
	//
	// In one atomic step the driver
	//
	//  1. drops every expired holder and every waiter whose place has run out,
	//     however many, and reports the holders in AcquireResult.Evicted;
	//  2. if RequestID is a hold of a lease: returns that lease. If the lease's
	//     Key differs from the request's, the request's Key replaces it and the
	//     attach number rises by one, which fences the older attachment;
	//  3. if RequestID is among the remembered ends of the lock: fails with a
	//     [LostError] that names how it ended. An end that a Leave with a Key
	//     made counts for requests with that Key only;
	//  4. if OwnerID holds the lock: adds the hold when the request is
	//     Reentrant, has the lease's Key and the lease's mode and the lease is
	//     not revoked (same token, the later of both expiries, the longer
	//     TTL); else fails with a [HeldError] that says BySelf. Either way the
	//     request's place, if it has one, is dropped: it would be a dead one;
	//  5. grants when no holder conflicts and no living waiter stands before
	//     the request in order; the token is [NextToken];
	//  6. else, if Enqueue: keeps or makes the request's place, moves its
	//     deadline to PlaceTTL from now and returns the position;
	//  7. else drops the request's place if it has one and fails with a
	//     [HeldError].
	//
	// A waiter is granted only by its own repeated call, so that a lease's
	// time starts at a round trip of its own sidecar.
	Acquire(ctx context.Context, req *AcquireRequest) (*AcquireResult, error)

	// Renew prolongs a lease to TTL from now. It never creates a lease, never
	// shortens one and never changes its token. Fails with ErrNotOwner,
	// ErrStaleToken or a LostError as described at [LeaseRef].
	Renew(ctx context.Context, req *RenewRequest) (*Lease, error)

	// Release ends one hold, and the lease with its last hold. A repeated
	// release of a hold that was released succeeds and changes nothing. A
	// release of a revoked lease is the holder's acknowledgement and succeeds.
	// Waiters that can now be granted get a hint.
	Release(ctx context.Context, req *ReleaseRequest) (*ReleaseResult, error)

	// Leave drops what the request id has under the request's Key, or under any
	// if that is empty: a place in the queue, or a hold that nobody received
	// (and the lease with its last hold). Unless a lease has the hold under
	// another key, the driver remembers the request among the ends, so that an
	// acquire which arrives later is refused. Repeating it changes nothing.
	Leave(ctx context.Context, req *LeaveRequest) error

	// Adopt attaches the caller to a standing lease: it prolongs the lease
	// like Renew, raises the attach number and thereby fences every older
	// attachment. A revoked lease cannot be adopted. Ref.Attach is 0.
	Adopt(ctx context.Context, req *RenewRequest) (*Lease, error)

	// Evict ends the lease that has the token, without its secret: cause
	// CauseExpired only if the store says that it has expired, CauseForced and
	// CauseDeadlock at once. Exactly one caller wins: it gets the ended
	// lease's description and emits the event; all others get a LostError, or
	// a HeldError if the lease has not expired.
	Evict(ctx context.Context, req *EvictRequest) (*Ended, error)

	// Revoke marks the lease that has the token: from now on it cannot be
	// renewed, adopted or re-entered (LostError, CauseForced), its holder gets
	// a hint, and the lock passes on with the holder's Release or at the
	// expiry, whichever is first. Repeating it changes nothing. A token that
	// no lease of the lock has: a LostError or ErrStaleToken.
	Revoke(ctx context.Context, req *EvictRequest) (*Holder, error)

	// Inspect reads one lock. A free lock is a Lock without holders; expired
	// holders and dead waiters are left out. The read is as fresh as the
	// store's writes.
	Inspect(ctx context.Context, lockID string) (*Lock, error)

	// List reads the held or waited-for locks in the store's own fixed order,
	// page by page. A lock that stands during the whole listing is returned
	// exactly once.
	List(ctx context.Context, req *ListRequest) (*ListPage, error)

	// Watch calls sink for hints that concern the waiters and leases of this
	// Driver value until ctx ends, then returns ctx's error. Hints may be
	// lost, late, repeated or wrong: a caller re-checks by Acquire or Renew.
	// sink does not block. There is at most one Watch at a time. A driver
	// without hints returns ErrUnsupported; the portable layer then polls.
	Watch(ctx context.Context, sink func(Hint)) error

	// Ping reports whether the store answers. A nil error means that an
	// Acquire sent now would probably be decided.
	Ping(ctx context.Context) error

	// Capabilities describes what the driver promises. The suite holds the
	// driver to it, both ways. The value does not change while the driver is
	// open.
	Capabilities() Capabilities

	// Close ends the driver. Calls in flight fail with ErrClosed or their
	// outcome; later calls fail with ErrClosed. No lease is released.
	Close() error
}

// BatchRenewer is the optional ability to renew many leases in one round
// trip. The results stand in the order of the requests. The fallback is one
// Renew a lease, a bounded number at a time (see [RenewMany]).
type BatchRenewer interface {
	RenewMany(ctx context.Context, reqs []RenewRequest) []RenewResult
}

// Async is the optional ability to complete the two hot calls without a
// goroutine that waits for each. done is called exactly once, possibly before
// the method returns, on a goroutine of the driver's that it must not block.
// The fallback is one goroutine a call (see [AcquireAsync], [ReleaseAsync]).
type Async interface {
	AcquireAsync(ctx context.Context, req *AcquireRequest, done func(*AcquireResult, error))
	ReleaseAsync(ctx context.Context, req *ReleaseRequest, done func(*ReleaseResult, error))
}

// Sweeper is the optional ability to find expired leases although nobody asks
// for their locks, and to see to it that no expiry goes untold. A driver that
// has it declares Capabilities.ExpiryEvents. Without it an expiry is reported by
// the next Acquire or Evict that meets it, once and to whoever made that call:
// the fallback is to wait for it.
//
// The store keeps each end of a lease that it reports, by whatever call, until
// somebody says that it was told; an end that nobody told within some seconds is
// reported again, to one Sweep of the fleet. So each is told at least once, and
// once if nobody fails. A process that tells nobody neither calls Sweep nor Told:
// what its calls are reported waits for one that does.
type Sweeper interface {
	// Sweep ends leases that have expired and reports them, and ends that are
	// to be told again. The caller repeats it several times a second, from
	// every process of a fleet; the driver keeps what that costs the store to a
	// small constant, whatever the size of the fleet, and what it does in one
	// call bounded. An expiry is reported within about two seconds.
	//
	// It is not a call of an application: no breaker stands before it.
	Sweep(ctx context.Context) ([]Ended, error)

	// Told says that ends, which this driver has reported, were recorded. It is
	// repeated if it fails.
	Told(ctx context.Context, ends []Ended) error
}

// QueueEditor is the optional ability to change another's place in a queue, on
// behalf of an operator. A driver that has it declares Capabilities.EditQueue. The
// fallback is that it cannot be done: ErrUnsupported.
type QueueEditor interface {
	// EditPlace drops the living place that has the ticket, or moves it, in one
	// atomic step; no lease is touched. The waiter gets a hint.
	//
	// Of a place that it drops the driver remembers the request among the ends, with
	// CauseForced and for every key, so that the waiter's next Acquire fails with a
	// LostError, as long as the end is remembered (RememberedEnds). It returns the
	// place as it was.
	//
	// A place that it moves keeps its ticket, its mode and its deadline, and stands
	// where OrderKey says with its new priority; an Acquire that is repeated with
	// another priority does not change it. It returns the place as it is now.
	//
	// No living place has the ticket: ErrNoPlace.
	EditPlace(ctx context.Context, req *EditPlaceRequest) (*Waiter, error)
}

// LocalWatcher is the optional ability of a driver without Watch to hint at what
// its own calls have made grantable for its own waiters: it saves them a poll when
// holder and waiter share a sidecar. The fallback is the poll.
type LocalWatcher interface {
	// WatchLocal is as Driver.Watch, for what this Driver value does itself.
	WatchLocal(ctx context.Context, sink func(Hint)) error
}

// Unwrapper is implemented by a decorator. [As] follows it.
type Unwrapper interface {
	Unwrap() Driver
}

// Opener opens a driver for a backend URL. The portable layer has removed
// nothing from the URL; an unknown parameter is an error that wraps ErrInvalid
// and lists the known ones. No error text carries the URL's password. An
// Opener does not fail because the store is down: calls then fail with
// ErrUnavailable until it is up.
type Opener func(ctx context.Context, u *url.URL, env Env) (Driver, error)

// Env is what the process gives to every driver that it opens. The zero value
// is usable.
type Env struct {
	// Clock measures validity; nil means [BootClock].
	Clock Clock
	// Logger takes lines about the store's condition that an operator should
	// see (never a secret, never a lease id), under the keys of this package;
	// nil discards them.
	Logger *slog.Logger
}

// As looks up an optional ability of d. A decorator that implements T answers
// itself; one that does not is asked for what it wraps. It is the only way in
// which the abilities are looked up.
func As[T any](d Driver) (T, bool) {
	for d != nil {
		if t, ok := d.(T); ok {
			return t, true
		}
		u, ok := d.(Unwrapper)
		if !ok {
			break
		}
		d = u.Unwrap()
	}
	var zero T
	return zero, false
}
