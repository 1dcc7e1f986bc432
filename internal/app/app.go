// Package app composes the daemon: for each backend a store over a breaker over a
// driver, and a keeper; before them a router; socket, metrics and events. It is
// the only package that knows them all.
//
// It guarantees that the daemon serves although a backend is down (and says
// so), that a changed configuration is taken over as a whole or not at all
// without ending a lease, and that it stops in this order:
//
//  1. no new grant is made, waiting acquires are told DRAINING;
//  2. streams end; what they hold is released, or left to be adopted;
//  3. the keepers wait for the releases;
//  4. the metrics listener and the backends' connections close;
//  5. the sinks of events get what happened until then, for a bounded time;
//  6. the socket's files are removed.
package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/dynamodb"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/admin"
	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/deadlock"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/internal/route"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
	"github.com/locksidecar/locksidecar/internal/traces"
	"github.com/locksidecar/locksidecar/socket"
)

// Options are a daemon's.
type Options struct {
	// Config is what is in force at first.
	Config *config.Config
	// Reload reads the configuration again, when one of its files has changed
	// or something comes from Hangups. nil means that it does not change.
	Reload  func() (*config.Config, error)
	Hangups <-chan struct{}
	// Build describes the binary.
	Build Build
	// Notifier tells the service manager that the daemon is ready, alive and
	// stopping; nil means that there is none.
	Notifier *sdnotify.Notifier
	// Listening is called once the socket answers; nil is allowed.
	Listening func()
	// Operators is called with the URL at which operators are served, if they are;
	// nil is allowed.
	Operators func(url string)
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Build describes a binary.
type Build struct{ Version, Revision, GoVersion string }

// OpenDriver opens the driver of a backend URL.
func OpenDriver(ctx context.Context, url string, env driver.Env) (driver.Driver, error) {
	return drivers().Open(ctx, url, env)
}

// drivers are all that the daemon has.
func drivers() *backend.Mux {
	m := &backend.Mux{}
	m.Register([]string{"embedded"}, embedded.OpenURL)
	m.Register(redis.Schemes, redis.OpenURL)
	m.Register(dynamodb.Schemes, dynamodb.OpenURL)
	m.Register(etcd.Schemes, etcd.OpenURL)
	return m
}

// daemon is a running one.
type daemon struct {
	o        Options
	router   *route.Router
	server   *socket.Server
	metrics  *metrics.Metrics
	events   *events.Log
	sinks    sinks
	detector *deadlock.Detector
	// traces is nil if they are off.
	traces   *traces.Tracer
	policy   atomic.Pointer[policy.Policy]
	draining atomic.Bool
	// refusals get why the daemon cannot serve at all.
	refusals chan error
	// deadline is when the stop must have ended; zero before it began.
	deadline time.Time

	mu sync.Mutex
	// config is in force; only the goroutine that reloads writes it.
	config *config.Config
	// branches are the open ones, by what makes them what they are.
	branches map[config.Backend]*branch
	reloads  reloads
}

// Run serves until ctx ends, then drains. An error of one part ends the others
// and is returned.
func Run(ctx context.Context, o Options) error {
	o.Logger = driver.Logger(o.Logger)
	redis.LogClient(o.Logger)
	d := &daemon{
		o: o, router: route.New(nil), metrics: metrics.New(described(o)), events: events.New(o.Config.Events),
		refusals: make(chan error, 1), branches: make(map[config.Backend]*branch), reloads: reloads{loaded: time.Now()},
	}
	d.events.OnMissed(func(n uint64) { d.metrics.EventsDropped(metrics.SinkWatch, n) })
	if c := o.Config.Traces; c.Endpoint != "" {
		var err error
		if d.traces, err = traces.New(ctx, traces.Options{Endpoint: c.Endpoint, OneIn: c.OneIn, Version: o.Build.Version, Logger: o.Logger}); err != nil {
			return err
		}
	}
	d.sinks = newSinks(d)
	d.detector = d.newDetector()
	if o.Config.Replaced {
		o.Logger.Warn("the file's backends and routes are not used: a flag or a variable names the one backend")
	}
	if err := d.apply(ctx, o.Config); err != nil {
		return errors.Join(err, d.close())
	}
	options := socket.Options{
		Locks: d.router, Sessions: d.router, Events: watched{d.events}, Status: d.status, Limits: o.Config.Limits.Peer(), Logger: o.Logger,
		Authorize: d.authorizer(), Ready: d.ready, Limited: d.metrics.LimitHit,
	}
	if d.traces != nil {
		options.Tracer = d.traces
	}
	d.server = socket.New(options)
	err := d.serve(ctx)
	return errors.Join(err, d.close())
}

// serve listens and runs the parts until ctx or one of them ends.
func (d *daemon) serve(ctx context.Context) error {
	listener, err := socket.Listen(d.o.Config.Socket, d.o.Config.Mode)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := []func(context.Context) error{d.reload, d.servable, d.detector.Run}
	if d.o.Config.Metrics != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.o.Config.Metrics)
		if err != nil {
			return errors.Join(fmt.Errorf("metrics listener: %w", err), listener.Close())
		}
		d.o.Logger.Info("metrics are served", driver.LogAddress, "http://"+l.Addr().String()+"/metrics")
		limited := admin.Limit(l)
		parts = append(parts, func(ctx context.Context) error { return d.serveMetrics(ctx, limited) })
	}
	operators, err := d.listenAdmin(ctx)
	if err != nil {
		return errors.Join(err, listener.Close())
	}
	if operators != nil {
		parts = append(parts, func(ctx context.Context) error { return d.serveAdmin(ctx, operators) })
	}
	if d.o.Notifier != nil {
		parts = append(parts, d.notify)
	}
	ended := make(chan error, len(parts)+1)
	go func() {
		err := d.server.Serve(listener)
		if errors.Is(err, socket.ErrServerClosed) {
			err = nil
		}
		ended <- err
	}()
	for _, part := range parts {
		go func() { ended <- part(ctx) }()
	}
	if d.o.Listening != nil {
		d.o.Listening()
	}
	var first error
	running := len(parts) + 1
	select {
	case <-ctx.Done():
	case first = <-ended:
		running--
	}
	cancel(first)
	d.draining.Store(true)
	d.tell(sdnotify.Stopping)
	err = d.drain()
	for range running {
		first = errors.Join(first, <-ended)
	}
	return errors.Join(first, err)
}

// servable waits for a reason for which the daemon cannot serve at all.
func (d *daemon) servable(ctx context.Context) error {
	select {
	case err := <-d.refusals:
		return err
	case <-ctx.Done():
		return nil
	}
}

// drain ends the server, and leaves what is left of its time to close.
func (d *daemon) drain() error {
	c := d.inForce()
	d.deadline = time.Now().Add(c.DrainTimeout)
	ctx, stop := context.WithDeadline(context.Background(), d.deadline)
	defer stop()
	if c.Leave {
		return d.server.Leave(ctx)
	}
	return d.server.Shutdown(ctx)
}

// close ends what has no listener.
func (d *daemon) close() error {
	if d.deadline.IsZero() {
		d.deadline = time.Now().Add(d.inForce().DrainTimeout)
	}
	ctx, stop := context.WithDeadline(context.Background(), d.deadline)
	defer stop()
	d.router.Wait()
	err := d.closeBranches(ctx)
	d.sinks.close() // what was released is told, too
	if d.traces != nil {
		if lost := d.traces.Close(ctx); lost != nil {
			d.o.Logger.Warn("the last spans of traces are not sent", driver.LogError, lost)
		}
	}
	return err
}

func (d *daemon) serveMetrics(ctx context.Context, l net.Listener) error {
	s := d.metrics.Serve(d.anyReady)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics listener: %w", err)
	}
	return nil
}
