package audit

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/internal/events"
)

// pass is one reading of the logs, of some of the locks.
type pass struct {
	o      Options
	c      clocks
	runs   *runs
	locks  map[string]*lock
	texts  map[string]string
	counts Report
	found  []Violation
}

// lock is what the logs tell of a lock.
type lock struct {
	id     string
	grants map[int64]*grant
	ends   []end
	// places are those in the queue, by the request and the ticket.
	places map[placeName]*place
	// queued are the requests that had a place, abandoned those given up.
	queued    map[string]bool
	abandoned map[string]instant
	// moved are the tickets of places to which an operator gave another priority.
	moved map[int64]bool
	// drains are the requests that an operator's drain put before all others.
	drains map[string]bool
}

type placeName struct {
	request string
	ticket  int64
}

// place is one in the queue.
type place struct {
	placeName
	at       where
	backend  string
	priority int
	shared   bool
	// told is when the sidecar knew of it: it is at least as old.
	told instant
	// granted is the token that it came to; 0 if none is known.
	granted int64
}

// grant is a lease.
type grant struct {
	token    int64
	at       where
	owner    string
	backend  string
	request  string
	shared   bool
	repeated bool
	ticket   int64
	priority int
	// holds are the requests that have held it.
	holds []string
	// since is not later than the grant, told not earlier.
	since, told instant
	// stood are the latest moments at which the lease stood for the store, relied
	// those at which its application relied on it, unless it gave it back.
	stood, relied latest[proof]
	// over is how it ended; empty if no line tells.
	over string
	// forced: an operator ended it at once.
	forced bool
}

// proof is a line that shows that a lease stood.
type proof struct {
	at   where
	what string
}

// The ends that are the application's own: it relied on the lease no longer.
const (
	released = "released"
	givenUp  = "given up"
)

// end is a line that tells an end of a lease.
type end struct {
	token  int64
	at     where
	what   string
	forced bool
}

func newPass(r *runs, o Options) *pass {
	return &pass{o: o, c: clocks{o.Tolerance}, runs: r, locks: make(map[string]*lock), texts: make(map[string]string)}
}

// text keeps one copy of a text that comes often.
func (p *pass) text(s string) string {
	if known, ok := p.texts[s]; ok {
		return known
	}
	p.texts[s] = s
	return s
}

// line takes an event. It fails if the file is not what it was when it was first
// read.
func (p *pass) line(at where, l *Line) error {
	if l.LockID == "" {
		return nil
	}
	of := p.runs.byID[l.Run]
	if of == nil {
		return fmt.Errorf("%s: changed while it was read", p.runs.place(at))
	}
	k := p.locks[l.LockID]
	if k == nil {
		k = &lock{
			id: l.LockID, grants: make(map[int64]*grant), places: make(map[placeName]*place), queued: make(map[string]bool),
			abandoned: make(map[string]instant), moved: make(map[int64]bool), drains: make(map[string]bool),
		}
		p.locks[l.LockID] = k
	}
	told := instant{wall: l.Time.UnixNano(), boot: l.At, domain: of.domain}
	on := func(boot int64) instant {
		if boot == 0 {
			return instant{}
		}
		return instant{wall: told.wall - (l.At - boot), boot: boot, domain: told.domain}
	}
	sent := on(l.Sent)
	holds := -1
	if l.HoldCount != nil {
		holds = *l.HoldCount
	}
	switch l.Type {
	case events.TypeAcquired:
		p.granted(k, at, l, sent, told, holds)
		g := k.grants[l.Token]
		g.stood.add(sent, proof{at, "it stood for the store when this was asked for"})
		g.relied.add(on(l.ValidUntil), proof{at, "its application was told to rely on it for longer"})
	case events.TypeAdopted:
		g := k.grant(l.Token)
		g.stood.add(sent, proof{at, "it stood for the store when it was adopted"})
		g.relied.add(on(l.ValidUntil), proof{at, "its application was told to rely on it for longer"})
	case events.TypeQueued:
		name := placeName{p.text(l.Request), l.Ticket}
		k.queued[name.request] = true
		if was := k.places[name]; l.Ticket != 0 && (was == nil || told.wall < was.told.wall) {
			k.places[name] = &place{placeName: name, at: at, backend: p.text(l.Backend), priority: l.Priority, shared: l.Shared, told: told}
		}
	case events.TypeReprioritized:
		k.moved[l.Ticket] = true
	case events.TypeDraining:
		// Its place may have been moved by a call whose answer was lost, which no line
		// tells.
		k.drains[p.text(l.Request)] = true
	case events.TypeAbandoned:
		k.abandoned[p.text(l.Request)] = told
	case events.TypeReleased:
		if holds == 0 {
			k.ends = append(k.ends, end{token: l.Token, at: at, what: released})
		}
		k.grant(l.Token).stood.add(sent, proof{at, "its release was asked for only then"})
	case events.TypeExpired:
		k.ends = append(k.ends, end{token: l.Token, at: at, what: "expired"})
	case events.TypeForceReleased:
		if l.Ended {
			k.ends = append(k.ends, end{token: l.Token, at: at, what: "force-released", forced: true})
		}
	case events.TypeLost:
		g := k.grant(l.Token)
		until := on(l.ValidUntil)
		if until.known() && until.boot > told.boot {
			until = told // the application was told before
		}
		g.relied.add(until, proof{at, "its application relied on it until then"})
		if l.Request == "" && l.Reason != "reattached" && l.Reason != "forced" {
			k.ends = append(k.ends, end{token: l.Token, at: at, what: "lost"})
		}
	}
	return nil
}

// grant is that of a token; one that no line tells has no owner.
func (k *lock) grant(token int64) *grant {
	g := k.grants[token]
	if g == nil {
		g = &grant{token: token, stood: make(latest[proof]), relied: make(latest[proof])}
		k.grants[token] = g
	}
	return g
}

// granted takes a grant, which may be told several times: of each hold, and of
// each repeat.
func (p *pass) granted(k *lock, at where, l *Line, sent, told instant, holds int) {
	g := k.grant(l.Token)
	request := p.text(l.Request)
	switch {
	case g.owner == "":
	case g.owner != l.OwnerID || g.shared != l.Shared:
		p.violates(KindToken, at, told, k, "the token %d was granted to %q, and before, at %s, to %q", l.Token, l.OwnerID, p.runs.place(g.at), g.owner)
		return
	case holds == 1 && request != "" && !slices.Contains(g.holds, request):
		p.violates(KindToken, at, told, k, "the token %d was granted anew, and before at %s", l.Token, p.runs.place(g.at))
		return
	}
	if !slices.Contains(g.holds, request) {
		g.holds = append(g.holds, request)
	}
	if g.owner != "" && g.told.wall <= told.wall {
		return
	}
	g.at, g.owner, g.backend, g.request, g.shared, g.ticket, g.priority = at, p.text(l.OwnerID), p.text(l.Backend), request, l.Shared, l.Ticket, l.Priority
	g.since, g.told, g.repeated = sent, told, holds > 1
}

func (p *pass) violates(kind Kind, at where, when instant, k *lock, format string, args ...any) {
	if len(p.found) < maxViolations {
		p.found = append(p.found, p.runs.violation(kind, at, when.wall, k.id, format, args...))
	}
}

// conclude looks at what was read, and adds it to the report.
func (p *pass) conclude(rep *Report) {
	for _, k := range p.locks {
		p.counts.Locks++
		told := k.settle(p)
		p.tokens(k, told)
		p.overlaps(k, told)
		p.order(k, told)
	}
	rep.Locks += p.counts.Locks
	rep.Grants += p.counts.Grants
	rep.Handovers += p.counts.Handovers
	rep.Queued += p.counts.Queued
	rep.Unordered += p.counts.Unordered
	rep.Overridden += p.counts.Overridden
	rep.Unproven += p.counts.Unproven
	rep.Foreign += p.counts.Foreign
	rep.Violations = append(rep.Violations, p.found...)
}

// settle brings the ends to their grants, and returns those that are told, by
// their tokens.
func (k *lock) settle(p *pass) (told []*grant) {
	for _, e := range k.ends {
		g := k.grant(e.token)
		if g.over == "" || g.over == "lost" {
			g.over = e.what
		}
		if e.forced && !g.forced {
			g.forced = true
			p.counts.Overridden++
		}
	}
	for _, g := range k.grants {
		if g.owner == "" {
			if g.over != "" {
				p.counts.Foreign++
			}
			continue
		}
		given := 0
		for _, request := range g.holds {
			if at, ok := k.abandoned[request]; ok && request != "" && p.c.maybeBefore(g.told, at) {
				given++
			}
		}
		if g.over == "" && given == len(g.holds) {
			g.over = givenUp
		}
		told = append(told, g)
	}
	p.counts.Grants += len(told)
	slices.SortFunc(told, func(a, b *grant) int { return cmp.Compare(a.token, b.token) })
	return told
}
