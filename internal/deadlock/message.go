package deadlock

import (
	"time"

	"google.golang.org/protobuf/types/known/timestamppb"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Message is the deadlock as the API has it.
func (d *Deadlock) Message() *lockpb.Deadlock {
	m := &lockpb.Deadlock{Id: d.ID, Victim: uint32(d.Victim)} //nolint:gosec // an index
	for _, w := range d.Waits {
		m.Waits = append(m.Waits, &lockpb.Wait{
			LockId: w.LockID, Backend: w.Backend, OwnerId: w.OwnerID, Ticket: w.Ticket, Shared: w.Shared, WaitsFor: w.For, FencingToken: w.Token,
		})
	}
	return m
}

// Describe adds to a status what a look found that began at the time.
func (d *Detector) Describe(s *lockpb.Status, f *Finding, at time.Time) {
	detect, resolve := d.o.Policy()
	s.DeadlockSearch = &lockpb.DeadlockSearch{
		Locks: uint32(f.Locks), Truncated: f.Truncated, Failed: f.Failed, Detect: detect, Resolve: resolve, //nolint:gosec // bounded
	}
	if !at.IsZero() {
		s.DeadlockSearch.Time = timestamppb.New(at)
	}
	for i := range f.Deadlocks {
		s.Deadlocks = append(s.Deadlocks, f.Deadlocks[i].Message())
	}
}
