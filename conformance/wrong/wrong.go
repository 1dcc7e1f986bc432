// Package wrong holds drivers that each break one guarantee, so that the
// conformance suite can be seen to catch them. They are of no other use.
package wrong

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Driver is a fault, and the case that must catch it.
type Driver struct {
	// Name says what is wrong.
	Name string
	// Case is the conformance case that fails, and Says what a line of its log
	// matches, so that it is seen to fail for the fault.
	Case, Says string
	// Wrap returns what makes right drivers of one store wrong together.
	Wrap func() func(driver.Driver) driver.Driver
}

// Drivers lists the wrong drivers.
func Drivers() []Driver {
	each := func(w func(driver.Driver) driver.Driver) func() func(driver.Driver) driver.Driver {
		return func() func(driver.Driver) driver.Driver { return w }
	}
	return []Driver{
		{"token reused after a release", "Fencing/TokenRisesAfterRelease", `token \d+ after \d+`, func() func(driver.Driver) driver.Driver {
			first := &firstTokens{tokens: make(map[string]int64)}
			return func(d driver.Driver) driver.Driver { return &reusesToken{d, first} }
		}},
		{"token through a float", "Fencing/FloorIsKeptExactly", `with the floor`, each(func(d driver.Driver) driver.Driver { return floatToken{d} })},
		{"lease expires early", "Expiry/NeverEarly", `granted .* early`, each(func(d driver.Driver) driver.Driver { return early{d} })},
		{"renew creates", "Expiry/RenewDoesNotRevive", `the renewal made`, each(func(d driver.Driver) driver.Driver { return &reviver{Driver: d} })},
		{"anybody releases", "Identity/OnlyTheKeyProvesTheLease", `not the owner`, each(func(d driver.Driver) driver.Driver { return foreignRelease{d} })},
		{"newcomers barge", "Waiting/NoBarging", `barger: .*want it refused`, each(func(d driver.Driver) driver.Driver { return barging{d} })},
		{"dead waiters block", "Waiting/DeadWaitersArePassedOverInOneStep", `want the grant in one step`, each(func(d driver.Driver) driver.Driver { return immortal{d} })},
		{"a repeated acquire counts twice", "Idempotence/RepeatedAcquireIsOneHold", `want one hold`, each(func(d driver.Driver) driver.Driver { return &doubleCount{Driver: d} })},
		{"priority starves", "Waiting/PriorityOvertakesABoundedNumber", `priority 1 overtook`, each(func(d driver.Driver) driver.Driver { return strong{d} })},
		{"a late release frees the next holder", "Expiry/LateReleaseFreesNobodyElse", `want the next holder`, each(func(d driver.Driver) driver.Driver { return lateRelease{d} })},
		{"readers ignore a waiting writer", "Modes/WaitingWriterStopsLaterReaders", `late was granted`, each(func(d driver.Driver) driver.Driver { return eagerReader{d} })},
		{"expiries are reported twice", "Admin/AnExpiryIsReportedOnce", `reported [2-9]`, func() func(driver.Driver) driver.Driver {
			seen := &sync.Map{}
			return func(d driver.Driver) driver.Driver { return twice{d, seen} }
		}},
		{"tokens count from one in every new record", "Fencing/TokenRisesAfterAWipe", `token 1 after 1`, each(func(d driver.Driver) driver.Driver { return counts{d} })},
		{"tokens count from one after a collection", "Fencing/TokenRisesAfterCollection", `token 1 after 1`, each(func(d driver.Driver) driver.Driver { return counts{d} })},
		{"a vanished lease is renewed", "Expiry/DeletedRecordIsLost", `error <nil>, want "lease is lost"`, each(func(d driver.Driver) driver.Driver { return optimist{d} })},
		{"a late retry is granted anew", "Expiry/LateRetryIsRefused", `error <nil>, want the lease lost`, each(func(d driver.Driver) driver.Driver { return anew{d} })},
		{"a dead waiter's place stands", "Waiting/DiedInTheQueueIsNotGranted", `want only the living waiter`, each(func(d driver.Driver) driver.Driver { return immortal{d} })},
		{"adopt fences nobody", "Identity/AdoptFencesTheOlderAttachment", `want token \d+ and a higher attach number`, each(func(d driver.Driver) driver.Driver { return adoptsByRenewal{d} })},
		{"secrets are shown", "Identity/SecretsAreNotShown", `the request id is shown`, func() func(driver.Driver) driver.Driver {
			requests := &sync.Map{}
			return func(d driver.Driver) driver.Driver { return talker{d, requests} }
		}},
		{"pages overlap", "Admin/ListPagesWithoutLossOrRepeat", `was listed 2 times`, each(func(d driver.Driver) driver.Driver { return &overlapping{Driver: d} })},
		{"a closed driver goes on", "Race/ClosedDriverRefuses", `want "backend is closed"`, each(func(d driver.Driver) driver.Driver { return undying{d} })},
		{"a goroutine outlives Close", "Race/CloseLeavesNoGoroutine", `a goroutine is left after Close`, each(func(d driver.Driver) driver.Driver { return leaking{d} })},
		{"now and then a Leave does nothing", "Histories/RandomOnesMatchTheModel", `seed \d+, history \d+`, each(func(d driver.Driver) driver.Driver { return &forgetful{Driver: d} })},
		{"an older attempt's Leave takes the repeat's lease", "Idempotence/LeaveOfAnOlderAttemptTouchesNothing", `want the lease of the repeat`, each(func(d driver.Driver) driver.Driver { return leavesAll{d} })},
		{"two exclusive holders are shown", "Exclusion/FreeLockIsGrantedAtOnce", `2 holders, of which .* is exclusive`, each(func(d driver.Driver) driver.Driver { return crowded{d} })},
		{"every opener tells an expiry", "Admin/AnExpiryWithNobodyWaitingIsToldOnce", `reported 3 times`, func() func(driver.Driver) driver.Driver {
			seen := &sync.Map{}
			return func(d driver.Driver) driver.Driver { return &everybody{Driver: d, seen: seen} }
		}},
		{"expiry events are declared and never come", "Admin/AnExpiryWithNobodyWaitingIsToldOnce", `declares expiry events: true; it can sweep: false`, each(func(d driver.Driver) driver.Driver { return sleeper{d} })},
		{"a lost reply is told as nothing done", "Idempotence/ALostReplyIsToldTruly", `says that nothing was done, and it was`, each(func(d driver.Driver) driver.Driver { return denying{d} })},
		{"a dropped waiter is told that it left", "Admin/DroppedPlaceIsTold", `want the lease lost: forced`, each(func(d driver.Driver) driver.Driver { return forgives{d} })},
		{"a moved place stays where it is", "Admin/MovedPlaceIsOrderedByItsPriority", `want it at 3`, each(func(d driver.Driver) driver.Driver { return stays{d} })},
		{"the first place is one of the highest priority", "Admin/FirstPlaceIsBeforeAll", `put first`, each(func(d driver.Driver) driver.Driver { return modest{d} })},
		{"places are changed although that is not declared", "Admin/QueueIsEditedAsDeclared", `the driver declares false`, each(func(d driver.Driver) driver.Driver { return silentEditor{d} })},
		{"a sweep that is not declared", "Admin/AnExpiryWithNobodyWaitingIsToldOnce", `declares expiry events: false; it can sweep: true`, each(func(d driver.Driver) driver.Driver { return undeclared{d} })},
	}
}

type firstTokens struct {
	mu     sync.Mutex
	tokens map[string]int64
}

type reusesToken struct {
	driver.Driver
	first *firstTokens
}

func (w *reusesToken) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if err == nil && res.Lease != nil {
		w.first.mu.Lock()
		defer w.first.mu.Unlock()
		if t, ok := w.first.tokens[r.LockID]; ok {
			res.Lease.Token = t
		}
		w.first.tokens[r.LockID] = res.Lease.Token
	}
	return res, err
}

func (w *reusesToken) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return &driver.ReleaseResult{}, w.Driver.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID})
}

type floatToken struct{ driver.Driver }

func (w floatToken) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if err == nil && res.Lease != nil {
		res.Lease.Token = int64(float32(res.Lease.Token))
	}
	return res, err
}

type early struct{ driver.Driver }

func (w early) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	short := *r
	short.TTL = r.TTL - r.TTL/5
	res, err := w.Driver.Acquire(ctx, &short)
	if err == nil && res.Lease != nil {
		res.Lease.TTL, res.Lease.Remaining = r.TTL*2, r.TTL*2
	}
	return res, err
}

type reviver struct{ driver.Driver }

func (w *reviver) Renew(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	l, err := w.Driver.Renew(ctx, r)
	if !errors.Is(err, driver.ErrLost) {
		return l, err
	}
	res, again := w.Driver.Acquire(ctx, &driver.AcquireRequest{
		LockID: r.LockID, OwnerID: "revived", RequestID: "revived " + string(r.Key), Key: r.Key, TTL: r.TTL, PlaceTTL: time.Second,
	})
	if again != nil {
		return nil, err
	}
	return res.Lease, nil
}

type foreignRelease struct{ driver.Driver }

func (w foreignRelease) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return &driver.ReleaseResult{}, w.Driver.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID})
}

type barging struct{ driver.Driver }

func (w barging) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if !r.Enqueue {
		first := *r
		first.Priority, first.Enqueue = driver.MaxPriority, true
		if res, err := w.Driver.Acquire(ctx, &first); err == nil && res.Lease != nil {
			return res, nil
		}
	}
	return w.Driver.Acquire(ctx, r)
}

type immortal struct{ driver.Driver }

func (w immortal) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	long := *r
	long.PlaceTTL = time.Hour
	return w.Driver.Acquire(ctx, &long)
}

type doubleCount struct {
	driver.Driver
	seen sync.Map
}

func (w *doubleCount) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if _, again := w.seen.LoadOrStore(r.RequestID, true); again {
		second := *r
		second.RequestID, second.Reentrant = r.RequestID+" again", true
		return w.Driver.Acquire(ctx, &second)
	}
	return w.Driver.Acquire(ctx, r)
}

type strong struct{ driver.Driver }

func (w strong) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	most := *r
	if most.Priority > 0 {
		most.Priority = driver.MaxPriority
	}
	return w.Driver.Acquire(ctx, &most)
}

type lateRelease struct{ driver.Driver }

func (w lateRelease) Release(ctx context.Context, r *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	res, err := w.Driver.Release(ctx, r)
	if errors.Is(err, driver.ErrLost) {
		if l, ierr := w.Inspect(ctx, r.LockID); ierr == nil && len(l.Holders) > 0 {
			_, _ = w.Evict(ctx, &driver.EvictRequest{LockID: r.LockID, Token: l.Holders[0].Token, Cause: driver.CauseForced})
		}
	}
	return res, err
}

type eagerReader struct{ driver.Driver }

func (w eagerReader) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	first := *r
	if r.Shared {
		first.Priority, first.Enqueue = driver.MaxPriority, true
	}
	return w.Driver.Acquire(ctx, &first)
}

type twice struct {
	driver.Driver
	seen *sync.Map
}

func (w twice) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := w.Driver.Acquire(ctx, r)
	if err != nil {
		return res, err
	}
	for _, e := range res.Evicted {
		w.seen.Store(r.LockID, e)
	}
	if e, ok := w.seen.Load(r.LockID); ok && !slices.ContainsFunc(res.Evicted, func(o driver.Ended) bool { return o == e }) {
		res.Evicted = append(res.Evicted, e.(driver.Ended))
	}
	return res, err
}

func (w twice) Evict(ctx context.Context, r *driver.EvictRequest) (*driver.Ended, error) {
	e, err := w.Driver.Evict(ctx, r)
	if err == nil {
		w.seen.Store(r.LockID, *e)
	} else if old, ok := w.seen.Load(r.LockID); ok {
		ended := old.(driver.Ended)
		return &ended, nil
	}
	return e, err
}

type leavesAll struct{ driver.Driver }

func (w leavesAll) Leave(ctx context.Context, r *driver.LeaveRequest) error {
	return w.Driver.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID})
}

// everybody tells what any opener found.
type everybody struct {
	driver.Driver
	seen *sync.Map
	told sync.Map
}

func (w *everybody) Unwrap() driver.Driver { return w.Driver }

func (w *everybody) Sweep(ctx context.Context) ([]driver.Ended, error) {
	inner, _ := driver.As[driver.Sweeper](w.Driver)
	found, err := inner.Sweep(ctx)
	for _, e := range found {
		w.seen.Store(e, true)
	}
	var ends []driver.Ended
	w.seen.Range(func(e, _ any) bool {
		if _, again := w.told.LoadOrStore(e, true); !again {
			ends = append(ends, e.(driver.Ended))
		}
		return true
	})
	return ends, err
}

func (w *everybody) Told(context.Context, []driver.Ended) error { return nil }

// sleeper has no sweep although the driver beneath declares expiry events.
type sleeper struct{ driver.Driver }

// undeclared sweeps and says that it does not.
type undeclared struct{ driver.Driver }

func (w undeclared) Unwrap() driver.Driver { return w.Driver }

func (w undeclared) Capabilities() driver.Capabilities {
	c := w.Driver.Capabilities()
	c.ExpiryEvents = false
	return c
}

// forgives drops a place as if its waiter had left by itself.
type forgives struct{ driver.Driver }

func (w forgives) EditPlace(ctx context.Context, r *driver.EditPlaceRequest) (*driver.Waiter, error) {
	edit, _ := driver.As[driver.QueueEditor](w.Driver)
	if !r.Drop {
		return edit.EditPlace(ctx, r)
	}
	l, err := w.Inspect(ctx, r.LockID)
	if err != nil {
		return nil, err
	}
	for _, p := range l.Waiters {
		if p.Ticket == r.Ticket {
			return &p, w.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: p.RequestID})
		}
	}
	return nil, driver.ErrNoPlace
}

// stays says that a place was moved.
type stays struct{ driver.Driver }

func (w stays) EditPlace(ctx context.Context, r *driver.EditPlaceRequest) (*driver.Waiter, error) {
	edit, _ := driver.As[driver.QueueEditor](w.Driver)
	if r.Drop {
		return edit.EditPlace(ctx, r)
	}
	l, err := w.Inspect(ctx, r.LockID)
	if err != nil {
		return nil, err
	}
	for _, p := range l.Waiters {
		if p.Ticket == r.Ticket {
			p.Priority = r.Priority
			return &p, nil
		}
	}
	return nil, driver.ErrNoPlace
}

// modest puts a place no further to the front than the priorities do.
type modest struct{ driver.Driver }

func (w modest) EditPlace(ctx context.Context, r *driver.EditPlaceRequest) (*driver.Waiter, error) {
	edit, _ := driver.As[driver.QueueEditor](w.Driver)
	first, given := r.Priority == driver.FirstPriority, *r
	given.Priority = min(r.Priority, driver.MaxPriority)
	p, err := edit.EditPlace(ctx, &given)
	if first && err == nil {
		p.Priority = driver.FirstPriority
	}
	return p, err
}

// silentEditor changes places and says that it does not.
type silentEditor struct{ driver.Driver }

func (w silentEditor) Unwrap() driver.Driver { return w.Driver }

func (w silentEditor) Capabilities() driver.Capabilities {
	c := w.Driver.Capabilities()
	c.EditQueue = false
	return c
}
