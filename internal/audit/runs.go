package audit

import (
	"cmp"
	"fmt"
	"slices"
)

// run is one life of a sidecar, as its lines show it.
type run struct {
	id, sidecar string
	domain      int32
	// started says from which number on the log is; begins that it says so.
	started uint64
	begins  bool
	// stopped is the number after which nothing follows; ends that the log says
	// so, at stoppedAt.
	stopped     uint64
	ends        bool
	stoppedAt   where
	stoppedWall int64
	// starts and stops are when the log began and ended: it goes on after an end
	// if it has got another file.
	starts, stops map[int64]bool
	// spans are the numbers that were seen, with their places.
	spans       []span
	first, last instant
}

// span is a stretch of numbers without a gap, in one file.
type span struct {
	from, to       uint64
	fromAt, toAt   where
	fromWall, wall int64
}

// runs reads every line once: who wrote what, and what is missing.
type runs struct {
	byID    map[string]*run
	domains map[string]int32
	// drops and repeats are the told gaps, and the lines that came twice.
	drops  []Violation
	damage []torn
	names  []string
}

func newRuns(names []string) *runs {
	return &runs{byID: make(map[string]*run), domains: make(map[string]int32), names: names}
}

func (r *runs) place(w where) string { return fmt.Sprintf("%s:%d", r.names[w.source], w.line) }

// line takes a line of any type.
func (r *runs) line(at where, l *Line) {
	of := r.byID[l.Run]
	if of == nil {
		of = &run{id: l.Run, starts: make(map[int64]bool), stops: make(map[int64]bool)}
		r.byID[l.Run] = of
	}
	of.sidecar = cmp.Or(of.sidecar, l.Sidecar)
	if of.domain == 0 { // the run's own, unless its log says on which boot it is
		of.domain = -int32(len(r.byID)) //nolint:gosec // a number of runs
	}
	i := instant{wall: l.Time.UnixNano(), boot: l.At, domain: of.domain}
	if !of.first.known() || i.boot < of.first.boot {
		of.first = i
	}
	if !of.last.known() || i.boot > of.last.boot {
		of.last = i
	}
	switch l.Type {
	case TypeStarted:
		if !of.begins || l.Seq < of.started {
			of.started = l.Seq
		}
		of.begins, of.starts[l.At] = true, true
		if l.Boot != "" {
			if r.domains[l.Boot] == 0 {
				r.domains[l.Boot] = int32(len(r.domains) + 1) //nolint:gosec // a number of hosts
			}
			of.domain = r.domains[l.Boot]
		}
		return
	case TypeStopped:
		if !of.ends || l.Seq > of.stopped {
			of.stopped, of.stoppedAt, of.stoppedWall = l.Seq, at, i.wall
		}
		of.ends, of.stops[l.At] = true, true
		return
	}
	from := l.Seq
	if l.Missed > 0 {
		from = l.Seq - min(l.Missed, l.Seq) + 1
		r.drops = append(r.drops, r.violation(KindGap, at, l.Time.UnixNano(), "",
			"the sidecar %s dropped its events %d to %d, because its log could not be written in time", l.Sidecar, from, l.Seq))
	}
	if n := len(of.spans); n > 0 && of.spans[n-1].to+1 == from && of.spans[n-1].toAt.source == at.source {
		s := &of.spans[n-1]
		s.to, s.toAt, s.wall = l.Seq, at, i.wall
		return
	}
	of.spans = append(of.spans, span{from, l.Seq, at, at, i.wall, i.wall})
}

// settle gives instants their domains, once all lines were read.
func (r *runs) settle() {
	for _, of := range r.byID {
		of.first.domain, of.last.domain = of.domain, of.domain
	}
}

// gaps are what is missing of the runs.
func (r *runs) gaps(partial bool) []Violation {
	found := r.drops
	for _, of := range r.byID {
		slices.SortFunc(of.spans, func(a, b span) int { return cmp.Or(cmp.Compare(a.from, b.from), cmp.Compare(b.to, a.to)) })
		next, before := of.started+1, ""
		for _, s := range of.spans {
			switch {
			case s.from <= next:
			case before != "":
				found = append(found, r.violation(KindGap, s.fromAt, s.fromWall, "",
					"%s of the sidecar %s (run %s): %s is the line before", missing(next, s.from-1), of.sidecar, of.id, before))
			case of.begins:
				found = append(found, r.violation(KindGap, s.fromAt, s.fromWall, "",
					"%s of the sidecar %s (run %s), between its start and this line", missing(next, s.from-1), of.sidecar, of.id))
			case !partial:
				found = append(found, r.violation(KindGap, s.fromAt, s.fromWall, "",
					"%s of the sidecar %s (run %s): the log begins here; if the pieces before were deleted on purpose, say so (partial)", missing(1, s.from-1), of.sidecar, of.id))
			}
			if s.to >= next {
				next, before = s.to+1, r.place(s.toAt)
			}
		}
		switch {
		case !of.ends || of.stopped < next:
		case len(of.spans) > 0:
			last := of.spans[len(of.spans)-1]
			found = append(found, r.violation(KindGap, last.toAt, last.wall, "",
				"%s of the sidecar %s (run %s), between this line and its end", missing(next, of.stopped), of.sidecar, of.id))
		case of.begins || !partial:
			found = append(found, r.violation(KindGap, of.stoppedAt, of.stoppedWall, "",
				"%s of the sidecar %s (run %s), which are all up to this line", missing(next, of.stopped), of.sidecar, of.id))
		}
	}
	for _, d := range r.damage {
		// Only a kill tears a line, and nothing of its run follows then.
		if d.tail || d.before != d.after {
			continue
		}
		found = append(found, r.violation(KindDamage, d.at, r.byID[d.after].first.wall, "", "is no line of an audit log, and the same run goes on after it"))
	}
	return found
}

func missing(from, to uint64) string {
	if from == to {
		return fmt.Sprintf("event %d is missing", from)
	}
	return fmt.Sprintf("events %d to %d are missing", from, to)
}

// over says that no line follows the latest one.
func (of *run) over() bool {
	return of.ends && len(of.stops) >= len(of.starts) && !slices.ContainsFunc(of.spans, func(s span) bool { return s.to > of.stopped })
}

// cut are the runs whose ends no line tells: killed, or still alive.
func (r *runs) cut() (all []*run) {
	for _, of := range r.byID {
		if !of.over() {
			all = append(all, of)
		}
	}
	slices.SortFunc(all, func(a, b *run) int { return cmp.Compare(a.last.wall, b.last.wall) })
	return all
}
