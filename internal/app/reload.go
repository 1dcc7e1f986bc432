package app

import (
	"context"
	"errors"
	"fmt"
	"reflect"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/pattern"
	"github.com/locksidecar/locksidecar/internal/route"
)

const (
	// lookEvery is how often the files are looked at, and the branches that
	// are retired.
	lookEvery = time.Second
	// sweepEvery is how often what has expired is let go of.
	sweepEvery = 30 * time.Second
	// retireTimeout bounds the closing of a branch that has nothing in use.
	retireTimeout = 10 * time.Second
)

// reloads is what became of the changes of the configuration.
type reloads struct {
	loaded      time.Time
	ok, refused uint32
	// stale: the latest change was refused.
	stale bool
}

// inForce is the configuration that is.
func (d *daemon) inForce() *config.Config {
	d.mu.Lock()
	defer d.mu.Unlock()
	return d.config
}

// reload takes over changes of the configuration, and closes branches that are
// not used any more, until ctx ends.
func (d *daemon) reload(ctx context.Context) error {
	tick := time.NewTicker(lookEvery)
	defer tick.Stop()
	swept := time.Now()
	watch := config.Watch(d.inForce().Files)
	for {
		look := false
		select {
		case <-tick.C:
			look = d.o.Reload != nil && watch.Changed()
		case <-d.o.Hangups:
			d.sinks.reopen()
			look = d.o.Reload != nil
		case <-ctx.Done():
			return nil
		}
		if look {
			watch.Seen()
			d.takeOver(ctx)
			watch.Follow(d.inForce().Files)
		}
		d.retire()
		if time.Since(swept) >= sweepEvery {
			d.router.Sweep()
			swept = time.Now()
		}
	}
}

// takeOver puts the configuration in force that the files have now, or says why
// not.
func (d *daemon) takeOver(ctx context.Context) {
	c, err := d.o.Reload()
	if err == nil {
		err = d.unchangeable(c)
	}
	if err == nil {
		err = d.apply(ctx, c)
	}
	// The status last: who sees the change there finds the rest.
	if err != nil {
		d.metrics.Reloaded(metrics.ReloadRefused)
		d.o.Logger.Error("the configuration was refused, what was in force stays so", driver.LogError, err)
	} else {
		d.metrics.Reloaded(metrics.ReloadOK)
		d.o.Logger.Info("the configuration was taken over", driver.LogCount, len(c.Routes))
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	if d.reloads.stale = err != nil; err != nil {
		d.reloads.refused++
		return
	}
	d.reloads.ok++
	d.reloads.loaded = time.Now()
}

// unchangeable names what needs a restart.
func (d *daemon) unchangeable(c *config.Config) error {
	was := d.inForce()
	var err error
	for _, key := range []struct {
		name string
		same bool
	}{
		{"socket.path", c.Socket == was.Socket}, {"socket.mode", c.Mode == was.Mode}, {"metrics", c.Metrics == was.Metrics}, {"admin", c.Admin.Equal(&was.Admin)},
		{"traces", c.Traces == was.Traces}, {"lock_classes", reflect.DeepEqual(c.Classes, was.Classes)}, {"limits", c.Limits == was.Limits},
		{"events.keep", c.Events == was.Events}, {"events.sidecar", c.Sinks.Sidecar == was.Sinks.Sidecar},
	} {
		if !key.same {
			err = errors.Join(err, fmt.Errorf("%s cannot change while the daemon runs: restart it, or undo the change", key.name))
		}
	}
	return err
}

// apply puts a configuration in force, as a whole or not at all.
func (d *daemon) apply(ctx context.Context, c *config.Config) error {
	opened := make(map[config.Backend]*branch)
	branches := make(map[string]*branch)
	var err error
	for _, at := range c.Backends {
		b := d.branches[at] // only this goroutine writes
		if b == nil {
			if b, err = d.open(ctx, c, at); err != nil {
				break
			}
			opened[at] = b
		}
		branches[at.Name] = b
	}
	var change *sinkChange
	if err == nil {
		change, err = d.sinks.prepare(&c.Sinks)
	}
	routes := make([]route.Route, 0, len(c.Routes))
	for i := range c.Routes {
		if err != nil {
			break
		}
		r, to := &c.Routes[i], branches[c.Routes[i].Backend]
		err = withinTTL(r, to.store.Capabilities())
		routes = append(routes, route.Route{Match: []pattern.Pattern(r.Match), To: to.Branch, TTL: r.TTL, MaxHold: r.MaxHold})
	}
	if err != nil {
		change.undo()
		for _, b := range opened {
			closing, stop := context.WithTimeout(context.Background(), retireTimeout)
			err = errors.Join(err, b.close(closing))
			stop()
		}
		if d.config == nil {
			d.config = c // for the end
		}
		return err
	}
	d.mu.Lock()
	for at, b := range opened {
		d.branches[at] = b
	}
	for _, b := range d.branches {
		b.retired.Store(true)
	}
	for _, b := range branches {
		b.retired.Store(false)
	}
	d.config = c
	d.mu.Unlock()
	d.policy.Store(c.Policy)
	change.do()
	for _, b := range d.router.Routes(routes) {
		d.o.Logger.Info("no route leads to the backend any more, it is closed when nothing of it is in use", driver.LogBackend, b.Name())
	}
	return nil
}

// retire closes the branches that no route leads to and of which nothing is in
// use.
func (d *daemon) retire() {
	for at, b := range d.branches { // only this goroutine writes
		if !b.retired.Load() || !d.router.Retire(b.Branch) {
			continue
		}
		d.mu.Lock()
		delete(d.branches, at)
		d.mu.Unlock()
		if _, known := d.ready()[b.Name()]; !known {
			b.metrics.Closed()
		}
		ctx, stop := context.WithTimeout(context.Background(), retireTimeout)
		if err := b.close(ctx); err != nil {
			d.o.Logger.Warn("closing a backend failed", driver.LogBackend, b.Name(), driver.LogError, err)
		}
		stop()
		d.o.Logger.Info("the backend is closed", driver.LogBackend, b.Name())
	}
}
