package deadlock

import "slices"

// knots are the strongly connected components of several owners, the owners of
// each in order: whoever is in one is in a cycle. It is Tarjan's
// algorithm ("Depth-first search and linear graph algorithms", 1972) with a stack
// of its own, because a chain of waits may be long.
func (g *graph) knots(alive func(step int) bool) (knots [][]int) {
	const unseen = 0
	order, low := make([]int, len(g.owners)), make([]int, len(g.owners))
	open := make([]bool, len(g.owners))
	var component []int
	clock := 0
	type frame struct{ owner, next int }
	enter := func(owner int) frame {
		clock++
		order[owner], low[owner], open[owner] = clock, clock, true
		component = append(component, owner)
		return frame{owner: owner}
	}
	for root := range g.owners {
		if order[root] != unseen {
			continue
		}
		for stack := []frame{enter(root)}; len(stack) > 0; {
			top := &stack[len(stack)-1]
			if top.next < len(g.from[top.owner]) {
				i := g.from[top.owner][top.next]
				top.next++
				switch to := g.steps[i].to; {
				case !alive(i):
				case order[to] == unseen:
					stack = append(stack, enter(to))
				case open[to]:
					low[top.owner] = min(low[top.owner], order[to])
				}
				continue
			}
			owner := top.owner
			stack = stack[:len(stack)-1]
			if len(stack) > 0 {
				below := stack[len(stack)-1].owner
				low[below] = min(low[below], low[owner])
			}
			if low[owner] != order[owner] {
				continue
			}
			i := len(component) - 1
			for component[i] != owner {
				i--
			}
			knot := slices.Clone(component[i:])
			component = component[:i]
			for _, o := range knot {
				open[o] = false
			}
			if len(knot) > 1 {
				slices.Sort(knot)
				knots = append(knots, knot)
			}
		}
	}
	return knots
}

// knotted are the locks at which an owner waits for another of its knot.
func (g *graph) knotted(knots [][]int) (at []location) {
	knotOf := make(map[int]int)
	for n, knot := range knots {
		for _, owner := range knot {
			knotOf[owner] = n + 1
		}
	}
	seen := make(map[location]bool)
	for i := range g.steps {
		s := &g.steps[i]
		if n := knotOf[s.from]; n != 0 && n == knotOf[s.to] && !seen[s.at] {
			seen[s.at] = true
			at = append(at, s.at)
		}
	}
	return at
}
