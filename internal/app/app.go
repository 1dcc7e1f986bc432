// Package app composes the daemon: backend(breaker(driver)), renewal, socket,
// metrics and events. It is the only package that knows them all.
//
// It guarantees that the daemon serves although its backend is down (and says
// so), and that it stops in this order:
//
//  1. no new grant is made, waiting acquires are told DRAINING;
//  2. streams end and what they hold is released;
//  3. the keeper waits for the releases;
//  4. the metrics listener and the backend's connections close;
//  5. the socket's files are removed.
package app

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"log/slog"
	"net"
	"net/http"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/policy"
	"github.com/locksidecar/locksidecar/internal/sdnotify"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

const (
	// probeEvery is how often an idle backend is asked for a sign of life.
	probeEvery = time.Second
	// probeTimeout bounds one such question.
	probeTimeout = 2 * time.Second
	// drainTimeout bounds the stop.
	drainTimeout = 10 * time.Second
)

// Options are a daemon's.
type Options struct {
	// Backend is the backend's URL.
	Backend string
	// Socket is the path of the Unix socket, Mode its mode.
	Socket string
	Mode   fs.FileMode
	// Metrics is the address of the metrics' listener; empty means none.
	Metrics string
	// Limits bound each peer, Sizes the fields of its requests.
	Limits socket.Limits
	Sizes  backend.Limits
	// Policy says who may do what; nil means that the socket's mode does.
	Policy *policy.Policy
	// Build describes the binary.
	Build Build
	// Notifier tells the service manager that the daemon is ready, alive and
	// stopping; nil means that there is none.
	Notifier *sdnotify.Notifier
	// Listening is called once the socket answers; nil is allowed.
	Listening func()
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Build describes a binary.
type Build struct{ Version, Revision, GoVersion string }

// OpenDriver opens the driver of a backend URL.
func OpenDriver(ctx context.Context, url string, env driver.Env) (driver.Driver, error) {
	var m backend.Mux
	m.Register([]string{"embedded"}, embedded.OpenURL)
	m.Register(redis.Schemes, redis.OpenURL)
	return m.Open(ctx, url, env)
}

// daemon is a running one.
type daemon struct {
	o        Options
	breaker  *breaker.Breaker
	store    *backend.Store
	keeper   *renew.Keeper
	server   *socket.Server
	metrics  *metrics.Metrics
	events   *events.Log
	ready    atomic.Bool
	draining atomic.Bool
}

// Run serves until ctx ends, then drains. An error of one part ends the others
// and is returned.
func Run(ctx context.Context, o Options) error {
	o.Logger = driver.Logger(o.Logger)
	redis.LogClient(o.Logger)
	raw, err := OpenDriver(ctx, o.Backend, driver.Env{Logger: o.Logger})
	if err != nil {
		return err
	}
	d := &daemon{o: o}
	d.metrics = metrics.New(raw.Capabilities().Name, o.Build.Version)
	d.breaker = breaker.New(raw, breaker.Options{OnStateChange: func(name, from, to string) {
		o.Logger.Warn("the circuit breaker changed", driver.LogCalls, name, driver.LogState, to, driver.LogWas, from)
	}})
	d.events = events.New(0)
	told := observer{d.metrics, d.events}
	d.store = backend.New(d.breaker, backend.Options{Observer: told, Limits: o.Sizes, Logger: o.Logger})
	d.keeper = renew.New(d.store, renew.Options{Observer: told, Logger: o.Logger})
	d.server = socket.New(socket.Options{
		Locks: d.store, Sessions: d.keeper, Events: watched{d.events}, Status: d.status, Limits: o.Limits, Logger: o.Logger,
		Authorize: authorize(o.Policy),
		Ready:     func() map[string]bool { return map[string]bool{d.store.Name(): d.ready.Load()} },
	})
	err = d.serve(ctx)
	return errors.Join(err, d.close())
}

// serve listens and runs the parts until ctx or one of them ends.
func (d *daemon) serve(ctx context.Context) error {
	listener, err := socket.Listen(d.o.Socket, d.o.Mode)
	if err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	parts := []func(context.Context) error{d.probe}
	if d.o.Metrics != "" {
		l, err := new(net.ListenConfig).Listen(ctx, "tcp", d.o.Metrics)
		if err != nil {
			return errors.Join(fmt.Errorf("metrics listener: %w", err), listener.Close())
		}
		d.o.Logger.Info("metrics are served", driver.LogAddress, "http://"+l.Addr().String()+"/metrics")
		parts = append(parts, func(ctx context.Context) error { return d.serveMetrics(ctx, l) })
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
	drain, stop := context.WithTimeout(context.WithoutCancel(ctx), drainTimeout)
	defer stop()
	err = d.server.Shutdown(drain)
	for range running {
		first = errors.Join(first, <-ended)
	}
	return errors.Join(first, err)
}

// close ends what has no listener.
func (d *daemon) close() error {
	drain, stop := context.WithTimeout(context.Background(), drainTimeout)
	defer stop()
	return errors.Join(d.keeper.Close(drain), d.store.Close())
}

// probe asks the backend for a sign of life until ctx ends.
func (d *daemon) probe(ctx context.Context) error {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	for first := true; ; first = false {
		ask, cancel := context.WithTimeout(ctx, probeTimeout)
		err := d.store.Ping(ask)
		cancel()
		if ctx.Err() != nil {
			return nil
		}
		if errors.Is(err, driver.ErrInvalid) { // no daemon of these options can serve the store
			return fmt.Errorf("backend %q: %w", d.store.Name(), err)
		}
		if was := d.ready.Swap(err == nil); was != (err == nil) || first && err != nil {
			d.tellReady(err)
		}
		d.metrics.Ready(err == nil)
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil
		}
	}
}

// tellReady logs whether the backend answers.
func (d *daemon) tellReady(err error) {
	if err != nil {
		d.o.Logger.Warn("the backend does not answer", driver.LogBackend, d.store.Name(), driver.LogError, err)
		return
	}
	d.o.Logger.Info("the backend answers", driver.LogBackend, d.store.Name())
}

func (d *daemon) serveMetrics(ctx context.Context, l net.Listener) error {
	s := d.metrics.Serve(d.ready.Load)
	stop := context.AfterFunc(ctx, func() { _ = s.Close() })
	defer stop()
	if err := s.Serve(l); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("metrics listener: %w", err)
	}
	return nil
}
