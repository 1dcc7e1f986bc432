package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/route"
	"github.com/locksidecar/locksidecar/renew"
)

// branch is an open backend.
type branch struct {
	*route.Branch
	breaker *breaker.Breaker
	store   *backend.Store
	metrics *metrics.Backend
	ready   atomic.Bool
	// retired: no route leads to it.
	retired atomic.Bool
	// refusal is why the store can never be served with these options; empty if
	// it can, as far as is known.
	refusal atomic.Pointer[string]
	// only: it is the one backend of a daemon that starts. Of several, one that
	// cannot be served does not take the others with it.
	only bool
	// stop ends the probe, which then closes stopped.
	stop    context.CancelFunc
	stopped chan struct{}
	// unseen ends what the metrics tell of those who wait.
	unseen func()
}

// open opens a backend. It does not wait for it to answer.
func (d *daemon) open(ctx context.Context, c *config.Config, at config.Backend) (*branch, error) {
	raw, err := OpenDriver(ctx, at.URL, driver.Env{Logger: d.o.Logger})
	if err != nil {
		if at.Name != "" {
			err = fmt.Errorf("backend %q: %w", at.Name, err)
		}
		return nil, err
	}
	name := at.Name
	if name == "" {
		name = raw.Capabilities().Name
	}
	counted := d.metrics.Backend(name)
	told := observer{counted, d.events.Of(name)}
	b := &branch{metrics: counted, only: d.config == nil && len(c.Backends) == 1, stopped: make(chan struct{})}
	b.refuse(false, nil)
	called := counted.Driver(raw)
	if d.traces != nil {
		called = d.traces.Driver(name, called)
	}
	b.breaker = breaker.New(called, breaker.Options{OnStateChange: func(calls, from, to string) {
		d.o.Logger.Warn("the circuit breaker changed", driver.LogBackend, name, driver.LogCalls, calls, driver.LogState, to, driver.LogWas, from)
	}})
	b.store = backend.New(b.breaker, backend.Options{Name: name, Observer: told, Limits: c.Limits.Sizes(), Logger: d.o.Logger})
	b.unseen = counted.Waits(b.store.EachWait)
	b.Branch = d.router.Branch(b.store, func(s renew.Store) *renew.Keeper {
		return renew.New(s, renew.Options{Observer: told, Logger: d.o.Logger})
	})
	var probing context.Context
	probing, b.stop = context.WithCancel(context.Background())
	go func() {
		defer close(b.stopped)
		d.probe(probing, b)
	}()
	return b, nil
}

// close releases what the branch holds, and closes its connections.
func (b *branch) close(ctx context.Context) error {
	b.stop()
	<-b.stopped
	defer b.unseen()
	return errors.Join(b.Keeper().Close(ctx), b.store.Close())
}

// closeBranches closes all, at the same time.
func (d *daemon) closeBranches(ctx context.Context) error {
	d.mu.Lock()
	open := d.branches
	d.branches = nil
	d.mu.Unlock()
	ended := make(chan error, len(open))
	for _, b := range open {
		go func() { ended <- b.close(ctx) }()
	}
	var err error
	for range open {
		err = errors.Join(err, <-ended)
	}
	return err
}

// list are the open branches, those of the routes first, each kind in the order
// of the router.
func (d *daemon) list() (all []*branch) {
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, of := range d.router.Branches() {
		for _, b := range d.branches {
			if b.Branch == of {
				all = append(all, b)
			}
		}
	}
	slices.SortStableFunc(all, func(a, b *branch) int { return order(a) - order(b) })
	return all
}

func order(b *branch) int {
	if b.retired.Load() {
		return 1
	}
	return 0
}

// ready says of each backend whether it serves. One that is retired does not
// speak for another of its name.
func (d *daemon) ready() map[string]bool {
	ready := make(map[string]bool)
	for _, b := range d.list() {
		if _, known := ready[b.Name()]; !known {
			ready[b.Name()] = b.ready.Load()
		}
	}
	return ready
}

func (d *daemon) anyReady() bool {
	return slices.ContainsFunc(d.list(), func(b *branch) bool { return b.ready.Load() })
}
