package route

import (
	"context"
	"fmt"
	"slices"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/pattern"
	"github.com/locksidecar/locksidecar/socket"
)

// lookTimeout bounds the look for a lease at one backend.
const lookTimeout = 2 * time.Second

// Route leads the locks of its patterns to a branch.
type Route struct {
	Match []pattern.Pattern
	To    *Branch
	// TTL is that of a lease whose request does not say, MaxHold bounds the
	// holds; 0 means that the route does not say.
	TTL, MaxHold time.Duration
}

// table are the routes that are in force. It does not change.
type table struct {
	routes []Route
	// branches are those of the routes, and, after them, those which still have
	// something in use. Each is there once.
	branches []*Branch
}

func (t *table) route(lockID string) *Route {
	for i := range t.routes {
		if slices.ContainsFunc(t.routes[i].Match, func(p pattern.Pattern) bool { return p.Match(lockID) }) {
			return &t.routes[i]
		}
	}
	return nil
}

// Router leads locks to branches. It implements socket.Locks and
// socket.Sessions, and is safe for concurrent use.
type Router struct {
	uses  *uses
	table atomic.Pointer[table]
	// opened numbers the branches, running counts what sessions do in the
	// background.
	opened  atomic.Int64
	running sync.WaitGroup
}

var (
	_ socket.Locks    = (*Router)(nil)
	_ socket.Sessions = (*Router)(nil)
)

// New returns a router without routes. The clock is the stores'; nil means
// driver.BootClock.
func New(clock driver.Clock) *Router {
	if clock == nil {
		clock = driver.BootClock
	}
	r := &Router{uses: newUses(clock)}
	r.table.Store(&table{})
	return r
}

// Routes puts routes in force, and returns the branches to which none of them
// leads any more. They serve what they have until Retire says that it has ended.
// It is called by one goroutine at a time, as is Retire.
func (r *Router) Routes(routes []Route) (retired []*Branch) {
	t := &table{routes: routes}
	for i := range routes {
		if !slices.Contains(t.branches, routes[i].To) {
			t.branches = append(t.branches, routes[i].To)
		}
	}
	for _, b := range r.table.Load().branches {
		if !slices.Contains(t.branches, b) {
			retired = append(retired, b)
		}
	}
	t.branches = append(t.branches, retired...)
	r.table.Store(t)
	return retired
}

// Retire reports whether nothing of a branch is in use; then it is forgotten,
// and may be closed.
func (r *Router) Retire(b *Branch) bool {
	b.closing.Store(true)
	if b.keeper.Held() > 0 || b.store.Waiting() > 0 || r.uses.inUse(b) {
		b.closing.Store(false)
		return false
	}
	was := r.table.Load()
	r.table.Store(&table{
		routes:   was.routes,
		branches: slices.DeleteFunc(slices.Clone(was.branches), func(other *Branch) bool { return other == b }),
	})
	return true
}

// Sweep lets go of what has expired. It is called now and then.
func (r *Router) Sweep() { r.uses.inUse(nil) }

// Wait waits until nothing is done in the background for sessions that have
// ended.
func (r *Router) Wait() { r.running.Wait() }

// Branches are those of the routes, and those which still have something in
// use.
func (r *Router) Branches() []*Branch { return r.table.Load().branches }

// Name is that of the only backend; empty if there are several.
func (r *Router) Name() string {
	if all := r.Branches(); len(all) == 1 {
		return all[0].Name()
	}
	return ""
}

// admit finds the branch of an acquire and enters it there, so that the lock is
// led nowhere else until end is called. If the lock is in use on another branch,
// blocked says by what, changed tells when that may have changed, and so does the
// time.
func (r *Router) admit(req *backend.AcquireRequest) (a admission, err error) {
	r.uses.in(req.LockID, func(l *lock) {
		now := r.uses.expire(l)
		to := r.table.Load().route(req.LockID)
		b := l.belongs(req)
		switch {
		case b == nil && to == nil:
			err = fmt.Errorf("acquire %q: %w", req.LockID, socket.ErrNoRoute)
			return
		case b == nil:
			b = to.To
			until, asked, by := l.wait(b, now)
			if until > 0 || asked {
				if l.changed == nil {
					l.changed = make(chan struct{})
				}
				a.blocked, a.changed, a.until = &driver.HeldError{QueueLength: len(l.asking)}, l.changed, until
				if by != nil {
					a.blocked.Holder = &driver.Holder{OwnerID: by.owner, Token: by.token, Remaining: until}
				}
				return
			}
		}
		if to != nil {
			a.ttl, a.maxHold = to.TTL, to.MaxHold
		}
		a.b, a.floor = b, l.floor(b)
		l.asking = append(l.asking, asking{b, req.RequestID})
	})
	return a, err
}

// admission is where an acquire is led to, or by what it is blocked.
type admission struct {
	b            *Branch
	floor        int64
	ttl, maxHold time.Duration
	blocked      *driver.HeldError
	changed      <-chan struct{}
	until        time.Duration
}

// prepare completes the request by what is known of the lock and the route.
func (a *admission) prepare(req *backend.AcquireRequest) *backend.AcquireRequest {
	p := *req
	p.TokenFloor = max(p.TokenFloor, a.floor)
	if p.TTL == 0 {
		p.TTL = a.ttl
	}
	return &p
}

// enter is admit for a caller that waits, as long as the request and ctx allow.
// What is left of the request's wait is in the admission's request.
func (r *Router) enter(ctx context.Context, req *backend.AcquireRequest) (admission, *backend.AcquireRequest, error) {
	start := time.Now()
	var bound <-chan time.Time
	for {
		a, err := r.admit(req)
		if err != nil {
			return a, nil, err
		}
		if a.blocked == nil {
			p := a.prepare(req)
			if p.Wait > 0 {
				p.Wait = max(0, p.Wait-time.Since(start))
			}
			return a, p, nil
		}
		if req.Wait == 0 {
			return a, nil, fmt.Errorf("acquire %q: %w", req.LockID, a.blocked)
		}
		if bound == nil && req.Wait > 0 {
			t := time.NewTimer(req.Wait)
			defer t.Stop()
			bound = t.C
		}
		var expiry <-chan time.Time
		if a.until > 0 {
			t := time.NewTimer(a.until)
			defer t.Stop()
			expiry = t.C
		}
		select {
		case <-a.changed:
		case <-expiry:
		case <-bound:
			return a, nil, fmt.Errorf("acquire %q: %w", req.LockID, a.blocked)
		case <-ctx.Done():
			return a, nil, ctx.Err()
		}
	}
}

// where is the branch that has what is asked about a lock: the one that has
// something of it in use here, else the route's.
func (r *Router) where(lockID string) (b *Branch, err error) {
	r.uses.in(lockID, func(l *lock) {
		r.uses.expire(l)
		to := r.table.Load().route(lockID)
		if to != nil {
			b = to.To
		}
		for i := range l.leases {
			b = l.leases[i].b
		}
		if len(l.leases) == 0 && len(l.asking) > 0 {
			b = l.asking[0].b
		}
	})
	if b == nil {
		return nil, socket.ErrNoRoute
	}
	return b, nil
}

// locate is the branch of a lease. One that this process does not know, because
// it was granted by another, is looked for: on the route's branch first.
func (r *Router) locate(ctx context.Context, lockID string, token int64) (*Branch, error) {
	if b := r.uses.holder(lockID, token); b != nil {
		return b, nil
	}
	first, err := r.where(lockID)
	all := r.Branches()
	if err == nil && len(all) == 1 || backend.ValidLockID(lockID) != nil {
		return first, err
	}
	candidates := all
	if first != nil {
		candidates = append([]*Branch{first}, all...)
	}
	for i, b := range candidates {
		if i > 0 && b == first || b.closing.Load() {
			continue
		}
		look, cancel := context.WithTimeout(ctx, lookTimeout)
		l, lookErr := b.store.Get(look, lockID)
		cancel()
		if lookErr == nil && slices.ContainsFunc(l.Holders, func(h driver.Holder) bool { return h.Token == token }) {
			return b, nil
		}
	}
	return first, err
}

// byID is the branch with that id, and the one after it.
func (r *Router) byID(id string) (b, next *Branch) {
	all := r.Branches()
	i := slices.IndexFunc(all, func(b *Branch) bool { return b.id() == id })
	switch {
	case i < 0:
		return nil, nil
	case i+1 < len(all):
		return all[i], all[i+1]
	}
	return all[i], nil
}

// id tells the branch from one of the same name that it replaces.
func (b *Branch) id() string { return strconv.FormatInt(b.number, 10) }
