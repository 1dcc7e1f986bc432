package deadlock

import (
	"cmp"
	"slices"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// MaxSteps bounds the steps of a graph, MaxFound the deadlocks of one finding.
const (
	MaxSteps = 1 << 20
	MaxFound = 64
)

// location is a lock of one of the stores, by the store's number.
type location struct {
	store int
	lock  string
}

// reading is what was read of locks.
type reading map[location]*driver.Lock

// place names a waiter's place: it is not used again.
type place struct {
	request string // secret
	ticket  int64
}

// step is one owner's wait for another.
type step struct {
	from, to int
	at       location
	place    place
	shared   bool
	// token is that of the lease that is in the way; 0: ahead is the place that
	// is.
	token int64
	ahead place
}

// graph has owners by their number, which is in the order of their ids, and steps
// in an order that is the same for everybody who sees the same.
type graph struct {
	owners []string
	steps  []step
	// from are each owner's steps, by their index.
	from [][]int
	// truncated: there are more steps than MaxSteps.
	truncated bool
}

// newGraph makes the graph of a reading.
func newGraph(r reading) *graph {
	g := &graph{}
	waits := make(map[string]int)
	for _, l := range r {
		for i := range l.Waiters {
			waits[l.Waiters[i].OwnerID] = 0
		}
	}
	for owner := range waits {
		g.owners = append(g.owners, owner)
	}
	slices.Sort(g.owners)
	for i, owner := range g.owners {
		waits[owner] = i
	}
	for at, l := range r {
		g.add(at, l, waits)
	}
	slices.SortFunc(g.steps, g.compare)
	g.index()
	return g
}

// add adds the steps of a lock. A holder that waits for nothing is in no cycle.
func (g *graph) add(at location, l *driver.Lock, waits map[string]int) {
	var exclusive, shared []*driver.Waiter // the nearest exclusive one, and the shared ones since
	for i := range l.Waiters {
		w := &l.Waiters[i]
		of := step{from: waits[w.OwnerID], at: at, place: placeOf(w), shared: w.Shared}
		for j := range l.Holders {
			h := &l.Holders[j]
			if to, stuck := waits[h.OwnerID]; stuck && !(w.Shared && h.Shared) {
				of.to, of.token, of.ahead = to, h.Token, place{}
				g.append(of)
			}
		}
		before := exclusive
		if !w.Shared && len(shared) > 0 {
			before = shared
		}
		for _, other := range before {
			of.to, of.token, of.ahead = waits[other.OwnerID], 0, placeOf(other)
			g.append(of)
		}
		if w.Shared {
			shared = append(shared, w)
		} else {
			exclusive, shared = []*driver.Waiter{w}, nil
		}
	}
}

func (g *graph) append(s step) {
	switch {
	case s.from == s.to:
	case len(g.steps) == MaxSteps:
		g.truncated = true
	default:
		g.steps = append(g.steps, s)
	}
}

func placeOf(w *driver.Waiter) place { return place{w.RequestID, w.Ticket} }

// compare orders steps by what every sidecar knows alike; the number of the store
// comes last.
func (*graph) compare(a, b step) int {
	return cmp.Or(
		cmp.Compare(a.from, b.from), cmp.Compare(a.at.lock, b.at.lock), cmp.Compare(a.place.ticket, b.place.ticket),
		cmp.Compare(a.to, b.to), cmp.Compare(b.token, a.token), cmp.Compare(a.ahead.ticket, b.ahead.ticket),
		cmp.Compare(a.at.store, b.at.store),
	)
}

func (g *graph) index() {
	g.from = make([][]int, len(g.owners))
	for i := range g.steps {
		g.from[g.steps[i].from] = append(g.from[g.steps[i].from], i)
	}
}

// keep drops the steps for which stands is false.
func (g *graph) keep(stands func(*step) bool) {
	g.steps = slices.DeleteFunc(g.steps, func(s step) bool { return !stands(&s) })
	g.index()
}

// in says whether a reading has the step.
func (s *step) in(r reading) bool {
	l := r[s.at]
	if l == nil {
		return false
	}
	mine := slices.IndexFunc(l.Waiters, func(w driver.Waiter) bool { return placeOf(&w) == s.place })
	if mine < 0 {
		return false
	}
	if s.token != 0 {
		return slices.ContainsFunc(l.Holders, func(h driver.Holder) bool { return h.Token == s.token })
	}
	return slices.ContainsFunc(l.Waiters[:mine], func(w driver.Waiter) bool { return placeOf(&w) == s.ahead })
}

// deadlocks are the cycles of the graph, each with its victim. Where cycles
// overlap, a later one is what is left when the victims before it have gone.
func (g *graph) deadlocks() (found []Deadlock) {
	gone := make(map[place]bool)
	alive := func(i int) bool { return !gone[g.steps[i].place] }
	for len(found) < MaxFound {
		knots := g.knots(alive)
		if len(knots) == 0 {
			break
		}
		for _, knot := range knots[:min(len(knots), MaxFound-len(found))] {
			d := g.deadlock(g.cycle(knot[0], alive))
			gone[d.victim.place] = true
			found = append(found, d)
		}
	}
	return found
}

// cycle is the shortest one through an owner that is in one.
func (g *graph) cycle(start int, alive func(int) bool) []step {
	by := make(map[int]int) // the step by which an owner was reached first
	for queue := []int{start}; len(queue) > 0; queue = queue[1:] {
		for _, i := range g.from[queue[0]] {
			to := g.steps[i].to
			if _, seen := by[to]; seen || !alive(i) {
				continue
			}
			by[to] = i
			if to == start {
				queue = queue[:1]
				break
			}
			queue = append(queue, to)
		}
	}
	var cycle []step
	for at := start; len(cycle) == 0 || at != start; at = cycle[len(cycle)-1].from {
		cycle = append(cycle, g.steps[by[at]])
	}
	slices.Reverse(cycle)
	return cycle
}

// deadlock describes a cycle, from the owner on whose id is the least.
func (g *graph) deadlock(cycle []step) Deadlock {
	least := 0
	for i := range cycle {
		if cycle[i].from < cycle[least].from {
			least = i
		}
	}
	cycle = slices.Concat(cycle[least:], cycle[:least])
	d := Deadlock{Victim: victim(cycle)}
	for _, s := range cycle {
		d.Waits = append(d.Waits, backend.Wait{
			LockID: s.at.lock, OwnerID: g.owners[s.from], Ticket: s.place.ticket, Shared: s.shared, For: g.owners[s.to], Token: s.token,
		})
		d.stores = append(d.stores, s.at.store)
	}
	d.victim = cycle[d.Victim]
	d.ID = identify(d.Waits)
	return d
}

// victim is the owner of the youngest lease in the cycle: the one that has held
// what another needs for the shortest time, as the fencing token tells, which is
// a clock's in every store. It depends on the cycle alone, so that all sidecars
// choose the same one.
func victim(cycle []step) (youngest int) {
	age := func(i int) int64 { return cycle[(i+len(cycle)-1)%len(cycle)].token }
	for i := range cycle {
		if age(i) > age(youngest) || age(i) == age(youngest) && cycle[i].from > cycle[youngest].from {
			youngest = i
		}
	}
	return youngest
}
