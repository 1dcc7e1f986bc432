package renew

import (
	"context"
	"log/slog"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// Store is what a Keeper needs of the portable store.
type Store interface {
	AcquireAsync(ctx context.Context, req *backend.AcquireRequest, done func(*backend.Lease, error))
	RenewMany(ctx context.Context, reqs []backend.RenewRequest) []backend.RenewResult
	ReleaseAsync(ctx context.Context, req *backend.ReleaseRequest, done func(*driver.ReleaseResult, error))
	Release(ctx context.Context, req *backend.ReleaseRequest) (*driver.ReleaseResult, error)
	Adopt(ctx context.Context, req *backend.RenewRequest) (*backend.Lease, error)
	// Undo gives back, in the background, a grant that nobody was told of; what
	// a repeat of its request got since stays, and may still come.
	Undo(l *backend.Lease)
	OnRevoked(f func(lockID string, token int64))
}

// Observer is told what the keeper does; its methods must not block.
type Observer interface {
	// Held is called as leases are held and end.
	Held(HeldObservation)
	// Lost is called for each lease that was lost, and for each hold that was
	// lost of a lease that goes on.
	Lost(LostObservation)
	// Renewed is called for each renewal that was answered.
	Renewed(RenewedObservation)
}

// The results of a renewal.
const (
	// ResultOK: the lease was prolonged.
	ResultOK = "ok"
	// ResultFailed: nothing was decided, it is retried.
	ResultFailed = "failed"
	// ResultLost: the lease does not stand any more.
	ResultLost = "lost"
)

// HeldObservation says that a lease is held, or is not held any more.
type HeldObservation struct {
	LockID string
	Shared bool
	// Delta is +1, or -1 at the end.
	Delta int
	// For is how long it was held here, at the end.
	For time.Duration
}

// RenewedObservation describes a renewal that was answered.
type RenewedObservation struct {
	// Result is one of the results.
	Result string
	// Left is what was left to valid-until when the answer came, before it
	// counted, and TTL the lease's.
	Left, TTL time.Duration
}

// LostObservation describes what was lost.
type LostObservation struct {
	LockID  string
	OwnerID string
	Token   int64
	Shared  bool
	// Attach is the attach number under which the lease was held.
	Attach int64
	// RequestID names the hold, if the lease goes on without it. It is a secret.
	RequestID string
	Reason    Reason
	// ValidUntil is when it counted as lost in any case.
	ValidUntil driver.Instant
}

// Options configure a Keeper. The zero value is usable.
type Options struct {
	// Clock counts valid-until; it must be the store's. nil means
	// driver.BootClock.
	Clock driver.Clock
	// Observer is told what happens; nil means nobody.
	Observer Observer
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Keeper holds leases for sessions. It is safe for concurrent use.
type Keeper struct {
	store Store
	o     Options
	held  atomic.Int64
	index index
	wheel *wheel
	queue batches
	// ctx ends the calls of the keeper, running its scheduler.
	ctx, running context.Context
	stop, halt   context.CancelFunc
	// background counts the calls that nobody waits for.
	goroutines sync.WaitGroup
	background sync.WaitGroup

	mu       sync.Mutex
	sessions map[*Session]struct{}
	closed   bool
}

type nobody struct{}

func (nobody) Held(HeldObservation)       {}
func (nobody) Lost(LostObservation)       {}
func (nobody) Renewed(RenewedObservation) {}

// New returns a keeper over the store. Close ends its goroutines.
func New(store Store, o Options) *Keeper {
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Observer == nil {
		o.Observer = nobody{}
	}
	o.Logger = driver.Logger(o.Logger)
	k := &Keeper{store: store, o: o, sessions: make(map[*Session]struct{})}
	k.ctx, k.stop = context.WithCancel(context.Background())
	k.running, k.halt = context.WithCancel(k.ctx)
	k.wheel = newWheel(o.Clock.Now())
	k.queue.init()
	k.index.init()
	store.OnRevoked(k.hint)
	k.goroutines.Go(k.schedule)
	for range renewWorkers {
		k.goroutines.Go(k.work)
	}
	return k
}

// Held is the number of leases held for sessions.
func (k *Keeper) Held() int { return int(k.held.Load()) }

// Release ends a hold for a caller without a session. A session of this keeper
// that held the lease is told.
func (k *Keeper) Release(ctx context.Context, req *backend.ReleaseRequest) (*driver.ReleaseResult, error) {
	res, err := k.store.Release(ctx, req)
	if err == nil && res.HoldCount == 0 && req.Token != 0 {
		if l := k.index.find(req.LockID, req.Token); l != nil {
			l.s.update(func() { l.lose(ReasonReleased) })
		}
	}
	return res, err
}

// hint renews a lease at once, to learn what became of it.
func (k *Keeper) hint(lockID string, token int64) {
	if l := k.index.find(lockID, token); l != nil {
		l.s.update(func() {
			l.renewAt, l.again = 0, l.attempts > 0
			if l.phase == live {
				l.schedule()
			}
		})
	}
}

// Close releases every lease that is held and does not linger, waits for the
// answers until ctx ends, and stops the keeper.
func (k *Keeper) Close(ctx context.Context) error {
	k.mu.Lock()
	k.closed = true
	sessions := make([]*Session, 0, len(k.sessions))
	for s := range k.sessions {
		sessions = append(sessions, s)
	}
	k.mu.Unlock()
	for _, s := range sessions {
		s.drain()
	}
	// The scheduler and the workers go first: from here on nothing but the
	// requests under way counts itself as background.
	k.halt()
	k.queue.close()
	k.goroutines.Wait()
	drained := make(chan struct{})
	go func() {
		defer close(drained)
		k.background.Wait()
	}()
	var err error
	select {
	case <-drained:
	case <-ctx.Done():
		err = ctx.Err()
	}
	k.stop()
	<-drained // every call ends with k.ctx
	return err
}

// releaseTimeout bounds a release that nobody waits for.
const releaseTimeout = 5 * time.Second

// giveBack releases a hold in the background.
func (k *Keeper) giveBack(req *backend.ReleaseRequest) {
	k.background.Add(1)
	ctx, cancel := context.WithTimeout(k.ctx, releaseTimeout)
	k.store.ReleaseAsync(ctx, req, func(_ *driver.ReleaseResult, err error) {
		defer k.background.Done()
		cancel()
		if _, decided := reasonOf(err); err != nil && !decided {
			k.o.Logger.Warn("a release failed, the lease ends by its TTL", driver.LogLock, req.LockID, driver.LogError, err)
		}
	})
}
