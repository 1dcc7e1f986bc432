package audit

import "time"

// instant is a moment by a host's wall clock and by its clock since boot, both in
// ns. The zero value is no moment.
type instant struct {
	wall, boot int64
	// domain is the boot of a host: within it the second clock is exact.
	domain int32
}

func (i instant) known() bool { return i.domain != 0 }

// clocks compares instants.
type clocks struct{ tolerance time.Duration }

// before says that a was certainly before b.
func (c clocks) before(a, b instant) bool {
	switch {
	case !a.known() || !b.known():
		return false
	case a.domain == b.domain:
		return a.boot < b.boot
	}
	return a.wall+int64(c.tolerance) < b.wall
}

// maybeBefore says that a was perhaps before b.
func (c clocks) maybeBefore(a, b instant) bool { return !c.before(b, a) }

// latest keeps, of each host's boot, the latest instant that it was given, with
// what it was given for.
type latest[T any] map[int32]struct {
	instant
	of T
}

func (l latest[T]) add(i instant, of T) {
	if !i.known() {
		return
	}
	if was, ok := l[i.domain]; !ok || was.boot < i.boot {
		l[i.domain] = struct {
			instant
			of T
		}{i, of}
	}
}

// after returns what certainly came after b, if anything did.
func (l latest[T]) after(c clocks, b instant) (of T, found bool) {
	var at instant
	for _, i := range l {
		if c.before(b, i.instant) && (!found || i.wall > at.wall) {
			of, at, found = i.of, i.instant, true
		}
	}
	return of, found
}
