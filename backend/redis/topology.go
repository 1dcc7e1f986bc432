package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// calm is the least time between two looks at who serves what, and up to the
// same again, so that a fleet does not look at once.
const calm = 200 * time.Millisecond

// layout is who serves what: one address for everything, or the one of each slot,
// which is empty where nobody does.
type layout []string

// table is a layout with its servers.
type table struct {
	slots []*node // one, or one a slot
	all   []*node // each once
}

// topology knows the servers.
type topology struct {
	s *Store
	// learn asks who serves what. It is nil where that is given.
	learn func(ctx context.Context) (layout, error)
	// unrouted takes the calls for which no server is known yet.
	unrouted lane

	table atomic.Pointer[table]
	mu    sync.Mutex
	nodes map[string]*node
	// asking is closed when the look that is on its way has ended, with failed.
	asking chan struct{}
	failed error
	ended  bool
	wake   chan struct{}
	loop   sync.WaitGroup
}

// newTopology knows nobody yet.
func newTopology(s *Store) *topology {
	t := &topology{s: s, nodes: make(map[string]*node), wake: make(chan struct{}, 1)}
	t.unrouted.run = t.find
	t.table.Store(&table{slots: []*node{nil}})
	return t
}

// start looks at who serves what, every so often.
func (t *topology) start(every time.Duration) {
	t.loop.Go(func() {
		for {
			_ = t.refresh(t.s.stopped) // the calls report it
			look, pause := time.NewTimer(every), time.NewTimer(calm+rand.N(calm))
			select {
			case <-pause.C:
			case <-t.s.stopped.Done():
			}
			select {
			case <-t.wake:
			case <-look.C:
			case <-t.s.stopped.Done():
			}
			look.Stop()
			pause.Stop()
			if t.s.stopped.Err() != nil {
				return
			}
		}
	})
}

// route is the server of a slot, nil if none is known.
func (t *topology) route(slot uint16) *node {
	slots := t.table.Load().slots
	if len(slots) == 1 {
		return slots[0]
	}
	return slots[slot]
}

// all are the servers that have locks.
func (t *topology) all() []*node { return t.table.Load().all }

// group sorts calls by their servers.
func (t *topology) group(calls []*call) map[*node][]*call {
	if slots := t.table.Load().slots; len(slots) == 1 {
		return map[*node][]*call{slots[0]: calls}
	}
	groups := make(map[*node][]*call)
	for _, c := range calls {
		n := t.route(c.slot)
		groups[n] = append(groups[n], c)
	}
	return groups
}

// find looks for the servers of calls, and passes them on.
func (t *topology) find(batch []*call) {
	err := t.refresh(t.s.stopped)
	for _, c := range batch {
		n := t.route(c.slot)
		switch {
		case n != nil:
			n.lane(c).submit(c, false)
		case t.s.closed.Load():
			c.complete(nil, driver.ErrClosed)
		case err == nil:
			c.complete(nil, fmt.Errorf("%w: nobody serves slot %d", driver.ErrUnavailable, c.slot))
		default:
			c.complete(nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, err))
		}
	}
}

// refresh asks who serves what; calls that come meanwhile share the answer.
func (t *topology) refresh(ctx context.Context) error {
	if t.learn == nil {
		return nil
	}
	t.mu.Lock()
	if t.asking == nil {
		asking := make(chan struct{})
		t.asking = asking
		t.mu.Unlock()
		bounded, cancel := context.WithTimeout(ctx, t.s.o.Timeout)
		l, err := t.learn(bounded)
		cancel()
		if err == nil {
			t.apply(l)
		}
		t.mu.Lock()
		if (err == nil) != (t.failed == nil) {
			t.report(err)
		}
		t.asking, t.failed = nil, err
		t.mu.Unlock()
		close(asking)
		return err
	}
	asking := t.asking
	t.mu.Unlock()
	select {
	case <-asking:
	case <-ctx.Done():
		return ctx.Err()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.failed
}

func (t *topology) report(err error) {
	if err == nil {
		t.s.o.Logger.Info("it is known again who serves the locks", driver.LogBackend, "redis")
	} else if t.s.stopped.Err() == nil {
		t.s.o.Logger.Warn("nobody says who serves the locks", driver.LogBackend, "redis", driver.LogError, err)
	}
}

// kick asks soon who serves what.
func (t *topology) kick() {
	select {
	case t.wake <- struct{}{}:
	default:
	}
}

// apply makes a layout the current one, and retires the servers that have none
// of it: a primary that another one follows at once, one of a Cluster when it
// had none before either, since a new one is asked before it has its first slot.
func (t *topology) apply(l layout) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.ended {
		return
	}
	next := &table{slots: make([]*node, len(l))}
	for i, addr := range l {
		if addr != "" {
			next.slots[i] = t.node(addr)
			if !slices.Contains(next.all, next.slots[i]) {
				next.all = append(next.all, next.slots[i])
			}
		}
	}
	t.table.Store(next)
	for addr, n := range t.nodes {
		if slices.Contains(next.all, n) {
			n.missed = 0
			continue
		}
		if n.missed++; len(l) == 1 || n.missed > 1 {
			delete(t.nodes, addr)
			t.loop.Go(func() { _ = n.close() }) // what it fails with ends it, too
		}
	}
}

// node is the server at an address; the caller holds the lock.
func (t *topology) node(addr string) *node {
	n := t.nodes[addr]
	if n == nil {
		n = t.s.newNode(addr)
		t.nodes[addr] = n
	}
	return n
}

// close ends what runs, and the servers.
func (t *topology) close() (err error) {
	t.mu.Lock()
	t.ended = true
	for _, n := range t.nodes {
		err = errors.Join(err, n.close())
	}
	t.mu.Unlock()
	t.loop.Wait()
	return err
}
