package events

import (
	"context"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Record is an event with all that is known of it, as the sinks get it. What a
// type does not know is left empty.
type Record struct {
	// Run is the sidecar process's life, Seq the event's number in it: the first
	// is 1, and the next follows without a gap.
	Run string
	Seq uint64
	// Missed, of the type TypeMissed, is how many events before the next one are
	// not kept any more; Seq is the last one's of them.
	Missed uint64
	// ID names the fact, however often and by whomever it is told.
	ID string
	// Time is when the event was told, At the same on the clock that runs through
	// suspend. Sent is when that was asked for which has happened, not later; 0 if
	// that is not known.
	Time     time.Time
	At, Sent driver.Instant

	Type, Backend, LockID, OwnerID string
	// Request names the hold or the place without telling its request id.
	Request               string
	Token, Attach, Ticket int64
	Shared, Ended         bool
	Priority              int
	Position, QueueLength int
	HoldCount             int
	TTL                   time.Duration
	// ValidUntil is when the lease counts as lost, as far as this event knows.
	ValidUntil driver.Instant
	// ExpiresAt is its end by the store's clock, for display.
	ExpiresAt time.Time
	// Reason is an operator's or the event's own, By the operator.
	Reason, By string
	// Deadlock is set for TypeDeadlock.
	Deadlock *Deadlock
}

// Deadlock is a whole cycle of waits, with the names of the API.
type Deadlock struct {
	ID string `json:"id"`
	// Waits: each is for the owner of the next one, the last for that of the first.
	Waits []Wait `json:"waits"`
	// Victim is the index of the one that ends if the deadlock is broken.
	Victim int `json:"victim"`
}

// Wait is one owner's for another.
type Wait struct {
	LockID  string `json:"lock_id"`
	Backend string `json:"backend,omitempty"`
	OwnerID string `json:"owner_id"`
	Ticket  int64  `json:"ticket,string,omitempty"`
	Shared  bool   `json:"shared,omitempty"`
	// WaitsFor holds the lock, with Token, or, if that is 0, waits before this one.
	WaitsFor string `json:"waits_for"`
	Token    int64  `json:"fencing_token,string,omitempty"`
}

func deadlock(d *lockpb.Deadlock) *Deadlock {
	if d == nil {
		return nil
	}
	cycle := &Deadlock{ID: d.GetId(), Victim: int(d.GetVictim()), Waits: make([]Wait, 0, len(d.GetWaits()))}
	for _, w := range d.GetWaits() {
		cycle.Waits = append(cycle.Waits, Wait{
			LockID: w.GetLockId(), Backend: w.GetBackend(), OwnerID: w.GetOwnerId(), Ticket: w.GetTicket(), Shared: w.GetShared(),
			WaitsFor: w.GetWaitsFor(), Token: w.GetFencingToken(),
		})
	}
	return cycle
}

// Run is the life of this log's process, of which cursors and records are.
func (l *Log) Run() string { return l.life }

// Last is the number of the latest event.
func (l *Log) Last() uint64 {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.next - 1
}

// Records waits for events and returns those that there are, some at a time, or
// ctx's error. If events were missed, that comes first, as one record. What is
// there is returned although ctx has ended.
func (s *Subscription) Records(ctx context.Context) ([]Record, error) {
	for {
		from, missed, wake := s.read()
		switch {
		case missed != nil:
			_, last, _ := parseCursor(missed.GetCursor())
			return []Record{{
				Run: s.l.life, Seq: last, Missed: missed.GetMissed(), ID: missed.GetId(), Type: TypeMissed,
				Time: missed.GetTime().AsTime(), At: driver.BootClock.Now(),
			}}, nil
		case wake != nil:
			select {
			case <-wake:
				continue
			case <-ctx.Done():
				return nil, ctx.Err()
			}
		}
		records := make([]Record, 0, len(s.batch))
		early, late := began()
		for i := range s.batch {
			records = append(records, s.batch[i].record(s.l.life, from+uint64(i), early, late))
		}
		clear(s.batch)
		return records, nil
	}
}

// began is when the process began on the clock that runs through suspend, as it
// would have been without the suspends since: not before early, not after late.
func began() (early, late driver.Instant) {
	for try := range 8 {
		before := time.Since(processStart)
		now := driver.BootClock.Now()
		after := time.Since(processStart)
		if e, l := now.Add(-after), now.Add(-before); try == 0 || l-e < late-early {
			early, late = e, l
		}
		if late.Sub(early) < 20*time.Microsecond {
			break // nobody was in between
		}
	}
	return early, late
}

// record is the event as a sink gets it: At is not too early, Sent not too late.
func (e *entry) record(run string, seq uint64, early, late driver.Instant) Record {
	r := Record{
		Run: run, Seq: seq, ID: e.id(), Time: time.Unix(0, e.at).UTC(), At: late.Add(time.Duration(e.mono)), Type: e.kind,
		Backend: e.backend, LockID: e.lockID, OwnerID: e.ownerID, Token: e.token, Attach: e.attach, Ticket: e.ticket, Shared: e.shared, Ended: e.ended,
		Priority: int(e.priority), Position: int(e.position), QueueLength: int(e.queueLength), HoldCount: int(e.holdCount), TTL: e.ttl,
		ValidUntil: e.validUntil, Reason: e.reason, By: e.by, Deadlock: deadlock(e.deadlock),
	}
	if e.requestID != "" {
		r.Request = hashed(e.lockID, e.requestID)
	}
	if e.took >= 0 {
		r.Sent = early.Add(time.Duration(e.mono - e.took))
	}
	if e.expiresAt != 0 {
		r.ExpiresAt = time.Unix(0, e.expiresAt).UTC()
	}
	return r
}
