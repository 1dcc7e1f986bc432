package audit

import "slices"

// tokens looks for one that did not rise: a lower one that was certainly granted
// later.
func (p *pass) tokens(k *lock, grants []*grant) {
	lower := make(latest[*grant])
	for _, g := range grants {
		if later, ok := lower.after(p.c, g.told); ok {
			p.violates(KindToken, later.at, later.told, k, "the token %d was granted after %d, at %s", later.token, g.token, p.runs.place(g.at))
		}
		lower.add(g.since, g)
	}
}

// stay is what keeps a lease's token and the line that shows that it stood.
type stay struct {
	of *grant
	proof
}

// stays are those of leases of one mode: when they stood for the store, and until
// when their applications were told to rely on them.
type stays struct{ stood, relied latest[stay] }

func newStays() stays { return stays{make(latest[stay]), make(latest[stay])} }

// overlaps looks for leases of which one was granted while another stood, and for
// those that never ended.
func (p *pass) overlaps(k *lock, grants []*grant) {
	exclusive, shared := newStays(), newStays()
	// open are those without an end that conflict with what comes.
	var open []*grant
	for i, g := range grants {
		conflict := false
		check := func(all stays) {
			s, ok := all.stood.after(p.c, g.told)
			if !ok {
				// What was only promised ends with the lease, which may be untold.
				s, ok = all.relied.after(p.c, g.told)
				ok = ok && (s.of.over != "" || !p.untold(s.of, g))
			}
			// One that was granted later is a token that fell.
			if ok && !p.c.before(g.told, s.of.since) {
				p.violates(KindOverlap, g.at, g.told, k, "the token %d was granted to %q while %d stood, of %q (granted at %s): %s, at %s",
					g.token, g.owner, s.of.token, s.of.owner, p.runs.place(s.of.at), s.what, p.runs.place(s.at))
			}
		}
		if i > 0 {
			check(exclusive)
			if !g.shared {
				check(shared)
			}
		}
		open = slices.DeleteFunc(open, func(before *grant) bool {
			if before.shared && g.shared {
				return false
			}
			conflict = true
			if before.over == "" && !p.c.before(g.told, before.since) {
				p.endless(k, before, g)
			}
			return true
		})
		if conflict {
			p.counts.Handovers++
		}
		open = append(open, g)
		into := exclusive
		if g.shared {
			into = shared
		}
		if g.forced {
			continue // from then on only the token protects
		}
		for _, at := range g.stood {
			into.stood.add(at.instant, stay{g, at.of})
		}
		if g.over == released || g.over == givenUp {
			continue
		}
		for _, at := range g.relied {
			into.relied.add(at.instant, stay{g, at.of})
		}
	}
}

// endless is about a lease that no line ends, although another followed.
func (p *pass) endless(k *lock, before, next *grant) {
	if p.untold(before, next) {
		p.counts.Unproven++
		return
	}
	p.violates(KindOverlap, next.at, next.told, k, "the token %d was granted to %q, and no line ends %d of %q (granted at %s)",
		next.token, next.owner, before.token, before.owner, p.runs.place(before.at))
}

// untold says whether a lease may have ended before the next one by something whose
// line was lost: with a sidecar that was killed, or before a log began.
func (p *pass) untold(before, next *grant) bool {
	for _, of := range p.runs.byID {
		begun := of.begins && of.started == 0
		if !of.over() && p.c.maybeBefore(of.last, next.told) || !begun && p.c.maybeBefore(before.since, of.first) && (p.o.Partial || of.begins) {
			return true
		}
	}
	return false
}
