// Command sidecar serves locks on a table of PostgreSQL through a Unix socket: a
// sidecar of a third party's driver, composed of locksidecar's public packages.
//
// It has the whole API but events. What the locksidecar command has beside it
// (configuration, several backends, a policy, metrics) is not public, and not
// here.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"log/slog"
	"os"
	"os/signal"
	"syscall"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/conformance/examples/postgres"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func main() {
	url := flag.String("backend", "", "postgres://user@host/database")
	path := flag.String("socket", "/run/locksidecar/api.sock", "where to listen")
	flag.Parse()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := serve(ctx, *url, *path)
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "sidecar:", err)
		os.Exit(1)
	}
}

// drainFor bounds the end.
const drainFor = 10 * time.Second

// serve listens until ctx ends, and releases what it holds.
func serve(ctx context.Context, url, path string) error {
	logger := slog.New(slog.NewTextHandler(os.Stderr, nil))
	var stores backend.Mux
	stores.Register(postgres.Schemes, postgres.OpenURL)
	d, err := stores.Open(ctx, url, driver.Env{Logger: logger})
	if err != nil {
		return err
	}
	store := backend.New(breaker.New(d, breaker.Options{}), backend.Options{Logger: logger})
	keeper := renew.New(store, renew.Options{Logger: logger})
	server := socket.New(socket.Options{
		Locks: store, Sessions: socket.Kept(keeper), Logger: logger,
		Status: func(context.Context, *lockpb.GetStatusRequest) *lockpb.Status { return status(store) },
	})
	listener, err := socket.Listen(path, 0o660)
	if err != nil {
		return errors.Join(err, keeper.Close(ctx), store.Close())
	}
	logger.Info("listening", driver.LogAddress, path)
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	select {
	case err = <-served: // before anybody asked it to end
	case <-ctx.Done():
	}
	drain, cancel := context.WithTimeout(context.Background(), drainFor)
	defer cancel()
	return errors.Join(err, server.Shutdown(drain), keeper.Close(drain), store.Close())
}

// status tells what the store promises, to operators and to the conformance
// suite.
func status(store *backend.Store) *lockpb.Status {
	c := store.Capabilities()
	return &lockpb.Status{Backends: []*lockpb.Backend{{
		Name: store.Name(), Driver: c.Name, Serving: true,
		Capabilities: &lockpb.Capabilities{
			MinTtl: durationpb.New(c.MinTTL), MaxTtl: durationpb.New(c.MaxTTL), Lateness: durationpb.New(c.Lateness), Poll: durationpb.New(c.Poll),
			Shared: c.Shared, ExpiryAtOnce: c.ExpiryAtOnce, Clock: string(c.Clock), Durability: string(c.Durability), Retention: durationpb.New(c.Retention),
		},
	}}}
}
