package events

import (
	"crypto/rand"
	"encoding/hex"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// The types of events, as the API has them.
const (
	TypeAcquired      = "acquired"
	TypeQueued        = "queued"
	TypeAbandoned     = "abandoned"
	TypeReleased      = "released"
	TypeExpired       = "expired"
	TypeLost          = "lost"
	TypeForceReleased = "force_released"
	TypeAdopted       = "adopted"
	TypeCancelled     = "waiter_cancelled"
	TypeReprioritized = "reprioritized"
	TypeDraining      = "draining"
	TypeDeadlock      = "deadlock"
	TypeMissed        = "missed"
)

// DefaultSize is how many events a Log keeps.
const DefaultSize = 16_384

// entry is an event as it is kept: what the hot path has at hand. What a reader
// gets is made when it reads.
type entry struct {
	at, mono                         int64 // ns since 1970, and since the process began
	took                             int64 // ns from the request to the event; negative if not known
	kind                             string
	backend, lockID, ownerID         string
	requestID                        string // secret
	reason, by                       string
	token, attach, ticket            int64
	ttl                              time.Duration
	validUntil                       driver.Instant
	expiresAt                        int64 // ns since 1970, by the store's clock; 0 if not known
	position, queueLength, holdCount int32
	priority                         int32
	shared, ended                    bool
	deadlock                         *lockpb.Deadlock
}

// Log keeps the latest events. It is safe for concurrent use.
type Log struct {
	// life tells this process's cursors from those of others.
	life string
	size uint64

	mu sync.Mutex
	// ring has the event number n at (n-1) mod size; it grows up to size.
	ring []entry
	// next is the number of the next event; the first is 1.
	next uint64
	// wake is closed when an event comes; nil if nobody waits for one.
	wake chan struct{}
	// missed is told how many events a watcher missed; nil if nobody is.
	missed func(n uint64)
}

// OnMissed sets who is told how many events a watcher missed, as far as it is
// known: what was overwritten while it read. Not what was gone before one came
// that asks for [Oldest], nor what a sink misses, which counts that itself. It must not block, nor use the log, and is set before the first
// subscription.
func (l *Log) OnMissed(f func(n uint64)) { l.missed = f }

// New returns a log that keeps size events; 0 means DefaultSize.
func New(size int) *Log {
	if size <= 0 {
		size = DefaultSize
	}
	var life [8]byte
	_, _ = rand.Read(life[:]) // it never fails
	return &Log{life: hex.EncodeToString(life[:]), size: uint64(size), next: 1}
}

// append enters an event and wakes whoever waits for one. It costs the same
// however many do.
func (l *Log) append(e entry, sent time.Time) {
	now := time.Now()
	e.at, e.mono = now.UnixNano(), int64(now.Sub(processStart))
	if e.took = -1; !sent.IsZero() {
		e.took = int64(max(now.Sub(sent), 0))
	}
	l.mu.Lock()
	if i := (l.next - 1) % l.size; i == uint64(len(l.ring)) {
		l.ring = append(l.ring, e)
	} else {
		l.ring[i] = e
	}
	l.next++
	if l.wake != nil {
		close(l.wake)
		l.wake = nil
	}
	l.mu.Unlock()
}

// oldest is the number of the oldest event that is kept. The mutex is held.
func (l *Log) oldest() uint64 { return l.next - uint64(len(l.ring)) }

// Of is the log for what is told of the backend with the name.
func (l *Log) Of(backend string) Teller { return Teller{l, backend} }

// Happened enters what a store without a name did.
func (l *Log) Happened(b backend.Event) { l.Of("").Happened(b) }

// Lost enters a lease that was lost to its application.
func (l *Log) Lost(o renew.LostObservation) { l.Of("").Lost(o) }

// Teller enters what happens to the locks of one backend.
type Teller struct {
	l       *Log
	backend string
}

// Happened enters what the store did.
func (t Teller) Happened(b backend.Event) {
	e := entry{
		backend: t.backend, lockID: b.LockID, ownerID: b.OwnerID, requestID: b.RequestID, token: b.Token, shared: b.Shared, reason: b.Reason, by: b.By,
		position: count(b.Position), queueLength: count(b.QueueLength), holdCount: count(b.HoldCount),
		ticket: b.Ticket, priority: count(b.Priority), ttl: b.TTL, validUntil: b.ValidUntil, attach: b.Attach,
	}
	if !b.ExpiresAt.IsZero() {
		e.expiresAt = b.ExpiresAt.UnixNano()
	}
	switch b.Kind {
	case backend.Acquired:
		e.kind = TypeAcquired
	case backend.Queued:
		e.kind = TypeQueued
	case backend.Abandoned:
		e.kind = TypeAbandoned
	case backend.Released:
		e.kind = TypeReleased
	case backend.Adopted:
		e.kind = TypeAdopted
	case backend.Cancelled:
		e.kind = TypeCancelled
	case backend.Reprioritized:
		e.kind = TypeReprioritized
	case backend.Draining:
		e.kind = TypeDraining
	case backend.Revoked:
		e.kind = TypeForceReleased
	case backend.Ended:
		e.kind, e.ended = TypeForceReleased, true
		switch b.Cause {
		case driver.CauseExpired:
			e.kind, e.ended = TypeExpired, false
		case driver.CauseDeadlock:
			e.reason = string(driver.CauseDeadlock)
		}
	default:
		return
	}
	t.l.append(e, b.Sent)
}

// Lost enters a lease that was lost to its application.
func (t Teller) Lost(o renew.LostObservation) {
	t.l.append(entry{
		kind: TypeLost, backend: t.backend, lockID: o.LockID, ownerID: o.OwnerID, requestID: o.RequestID, token: o.Token, attach: o.Attach,
		shared: o.Shared, reason: string(o.Reason), validUntil: o.ValidUntil,
	}, time.Time{})
}

// processStart is what the process's own time counts from.
var processStart = time.Now()

// Deadlock enters a deadlock that was found. It is not changed afterwards. The
// token for which the victim waits is another owner's, and stands in the cycle.
func (l *Log) Deadlock(d *lockpb.Deadlock) {
	victim := d.GetWaits()[d.GetVictim()]
	l.append(entry{
		kind: TypeDeadlock, backend: victim.GetBackend(), lockID: victim.GetLockId(), ownerID: victim.GetOwnerId(), ticket: victim.GetTicket(), shared: victim.GetShared(),
		deadlock: d,
	}, time.Time{})
}

func count(n int) int32 { return int32(min(max(n, 0), 1<<31-1)) }
