package embedded

import (
	"context"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// never is later than every expiry.
const never = driver.Instant(1<<63 - 1)

// track keeps account of a record's leases for Sweep. The shard's mutex is held.
func (s *shard) track(r *record) {
	switch n := len(s.held); {
	case len(r.holders) > 0 && r.slot == 0:
		s.held = append(s.held, r)
		r.slot = n + 1
	case len(r.holders) == 0 && r.slot > 0:
		last := s.held[n-1]
		s.held[r.slot-1], last.slot = last, r.slot
		s.held[n-1] = nil
		s.held = s.held[:n-1]
		r.slot = 0
	}
	for _, h := range r.holders {
		s.due = min(s.due, h.expires)
	}
	if len(r.evicted) > 0 && !r.unreported {
		r.unreported = true
		s.unreported = append(s.unreported, r)
	}
}

// Sweep ends and reports what has expired. It looks at the leases of those
// shards only in which one may have, and at no idle record.
func (d *Driver) Sweep(ctx context.Context) ([]driver.Ended, error) {
	if err := d.check(ctx); err != nil {
		return nil, err
	}
	var ended []driver.Ended
	for i := range d.m.shards {
		found, hints := d.m.shards[i].sweep(d.m)
		ended = append(ended, found...)
		for _, h := range hints {
			h.to.hint(h.Hint)
		}
	}
	return ended, nil
}

func (s *shard) sweep(m *Memory) (ended []driver.Ended, hints []addressed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if at := m.moment(); s.due <= at.now {
		s.due = never
		// From the end, because a record that is freed gives its place to the
		// last one.
		for i := len(s.held) - 1; i >= 0; i-- {
			r := s.held[i]
			r.prune(at.now)
			hints = append(hints, r.hints...)
			r.hints = nil
			s.settle(r, at, m.o.Retention)
			s.track(r)
		}
	}
	for _, r := range s.unreported {
		r.unreported = false
		ended = append(ended, r.report()...)
	}
	s.unreported = nil
	return ended, hints
}

// Told has nothing to do: what a call reports in this process does not get lost
// on the way.
func (d *Driver) Told(ctx context.Context, _ []driver.Ended) error { return d.check(ctx) }
