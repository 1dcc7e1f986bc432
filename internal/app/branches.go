package app

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/route"
	"github.com/locksidecar/locksidecar/renew"
)

const (
	// probeEvery is how often a backend is asked for a sign of life.
	probeEvery = time.Second
	// probeTimeout bounds one such question.
	probeTimeout = 2 * time.Second
)

// branch is an open backend.
type branch struct {
	*route.Branch
	breaker *breaker.Breaker
	store   *backend.Store
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
	told := observer{d.metrics.Backend(name), d.events.Of(name)}
	b := &branch{only: d.config == nil && len(c.Backends) == 1, stopped: make(chan struct{})}
	b.refuse(false, nil)
	b.breaker = breaker.New(raw, breaker.Options{OnStateChange: func(calls, from, to string) {
		d.o.Logger.Warn("the circuit breaker changed", driver.LogBackend, name, driver.LogCalls, calls, driver.LogState, to, driver.LogWas, from)
	}})
	b.store = backend.New(b.breaker, backend.Options{Name: name, Observer: told, Limits: c.Limits.Sizes(), Logger: d.o.Logger})
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

// probe asks a backend for a sign of life until ctx ends.
func (d *daemon) probe(ctx context.Context, b *branch) {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for first := true; ; first = false {
		ask, cancel := context.WithTimeout(ctx, probeTimeout)
		err := b.store.Ping(ask)
		cancel()
		if ctx.Err() != nil {
			return
		}
		refused := errors.Is(err, driver.ErrInvalid)
		b.refuse(refused, err)
		if refused && b.only {
			d.refused(fmt.Errorf("backend %q: %w", b.Name(), err))
		}
		if was := b.ready.Swap(err == nil); was != (err == nil) || first && err != nil {
			d.tellReady(b, err)
		}
		if !b.retired.Load() {
			d.metrics.Ready(b.Name(), err == nil)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// refuse notes whether the store cannot be served, and why.
func (b *branch) refuse(refused bool, err error) {
	text := ""
	if refused {
		text = err.Error()
	}
	b.refusal.Store(&text)
}

// refused ends a daemon whose one backend cannot be served with its options.
func (d *daemon) refused(err error) {
	select {
	case d.refusals <- err:
	default: // one is enough
	}
}

// tellReady logs whether a backend answers.
func (d *daemon) tellReady(b *branch, err error) {
	if err != nil {
		d.o.Logger.Warn("the backend does not answer", driver.LogBackend, b.Name(), driver.LogError, err)
		return
	}
	d.o.Logger.Info("the backend answers", driver.LogBackend, b.Name())
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
