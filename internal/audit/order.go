package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// order looks for grants that overtook one who waited: a place that was ahead,
// by the ticket and the head start of its priority, and that came to its grant
// later. A place that ran out, or that its waiter left, comes to none: whoever
// asks again has another.
func (p *pass) order(k *lock, grants []*grant) {
	var waited []*place
	for _, g := range grants {
		switch {
		case g.ticket == 0 && k.queued[g.request] && g.request != "", k.edited(g):
			p.counts.Queued++
			p.counts.Unordered++
		case g.ticket != 0:
			p.counts.Queued++
			if a := k.places[placeName{g.request, g.ticket}]; a != nil {
				a.granted = g.token
				waited = append(waited, a)
			}
		}
	}
	if len(waited) == 0 {
		return
	}
	slices.SortFunc(waited, func(a, b *place) int { return cmp.Compare(a.told.wall, b.told.wall) })
	// waiting are the places that were taken, as far as is known, when the grant
	// was made that is looked at.
	var waiting []*place
	upTo := int64(0)
	for _, g := range grants {
		upTo = max(upTo, g.told.wall+int64(p.o.Tolerance))
		for len(waited) > 0 && waited[0].told.wall <= upTo {
			waiting, waited = append(waiting, waited[0]), waited[1:]
		}
		waiting = slices.DeleteFunc(waiting, func(a *place) bool { return a.granted <= g.token })
		newcomer := g.ticket == 0
		if newcomer && (g.repeated || k.queued[g.request]) {
			continue // a hold more, or what became of its place is not known
		}
		if k.edited(g) {
			continue // where it stood when is the operator's
		}
		mine := driver.OrderKey(g.ticket, g.priority)
		for _, a := range waiting {
			if a.shared && g.shared || a.backend != g.backend {
				continue
			}
			theirs := driver.OrderKey(a.ticket, a.priority)
			ahead := theirs < mine || theirs == mine && a.ticket < g.ticket
			switch {
			case newcomer && p.c.before(a.told, g.since):
				p.violates(KindOrder, g.at, g.told, k, "the token %d was granted to %q, which had not waited, while others waited (%s), who got %d",
					g.token, g.owner, p.describe(a), a.granted)
			case newcomer, !ahead:
				continue
			case a.ticket < g.ticket && p.c.maybeBefore(a.told, g.told), p.c.before(a.told, g.since):
				p.violates(KindOrder, g.at, g.told, k, "the token %d was granted to %q (ticket %d, priority %d), while one ahead of it waited (%s), who got %d",
					g.token, g.owner, g.ticket, g.priority, p.describe(a), a.granted)
			default:
				continue
			}
			break
		}
	}
}

// edited says whether an operator may have moved the place of a grant.
func (k *lock) edited(g *grant) bool {
	return k.moved[g.ticket] || g.ticket != 0 && k.drains[g.request]
}

// describe names a place for a person.
func (p *pass) describe(a *place) string {
	return fmt.Sprintf("ticket %d, priority %d, at %s", a.ticket, a.priority, p.runs.place(a.at))
}
