package embedded

import (
	"context"
	"slices"

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
	var pending []*entry
	for i := range d.m.shards {
		found, waits, hints := d.m.shards[i].sweep(d.m)
		ended, pending = append(ended, found...), append(pending, waits...)
		deliver(hints)
	}
	if err := d.m.await(ctx, pending); err != nil {
		return nil, err // what was found is reported again
	}
	return ended, nil
}

func (s *shard) sweep(m *Memory) (ended []driver.Ended, pending []*entry, hints []addressed) {
	s.mu.Lock()
	defer s.mu.Unlock()
	at := m.moment()
	if s.due <= at.now {
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
			if r.changed {
				pending = append(pending, s.keep(r, at.now))
			}
		}
	}
	left := s.unreported[:0]
	for _, r := range s.unreported {
		if found := m.report(r, at); len(found) > 0 {
			ended = append(ended, found...)
			pending = append(pending, s.keep(r, at.now))
		}
		if r.unreported = len(r.evicted) > 0; r.unreported {
			left = append(left, r)
		}
	}
	clear(s.unreported[len(left):])
	s.unreported = left
	return ended, pending, hints
}

// report takes the ends that are to be reported now. With a file they stay, and
// are due again if nobody has told them by then.
func (m *Memory) report(r *record, at moment) (ended []driver.Ended) {
	for i := range r.evicted {
		if r.evicted[i].again <= at.now {
			ended = append(ended, r.evicted[i].Ended)
			r.evicted[i].again = at.now.Add(retell)
		}
	}
	if m.disk == nil {
		r.evicted = nil
	}
	return ended
}

// reportOne is report for the end with the token, if nobody has reported it.
func (m *Memory) reportOne(r *record, at moment, token int64) *driver.Ended {
	i := slices.IndexFunc(r.evicted, func(e untold) bool { return e.Token == token && e.again == 0 })
	if i < 0 {
		return nil
	}
	ended := r.evicted[i].Ended
	if m.disk == nil {
		r.evicted = slices.Delete(r.evicted, i, i+1)
	} else {
		r.evicted[i].again = at.now.Add(retell)
	}
	return &ended
}

// Told forgets ends that the file keeps until they are told. In memory there is
// nothing to do: what a call reports in this process does not get lost on the way.
func (d *Driver) Told(ctx context.Context, ends []driver.Ended) error {
	if err := d.check(ctx); err != nil || d.m.disk == nil {
		return err
	}
	answers := make([]answer[none], 0, len(ends))
	for _, told := range ends {
		answers = append(answers, change(d, told.LockID, func(r *record, _ moment) (none, error) {
			before := len(r.evicted)
			r.evicted = slices.DeleteFunc(r.evicted, func(e untold) bool { return e.Token == told.Token && e.Cause == told.Cause })
			r.changed = r.changed || len(r.evicted) < before
			return none{}, nil
		}))
	}
	for _, a := range answers {
		if _, err := a.wait(ctx); err != nil {
			return err
		}
	}
	return nil
}
