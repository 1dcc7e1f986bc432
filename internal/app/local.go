package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/renew"
)

// Local are the daemon's parts without a socket: a process that holds leases
// for itself.
type Local struct {
	Store  *backend.Store
	Keeper *renew.Keeper
}

// OpenLocal opens a backend for this process alone. Locks in this process's
// memory would exclude nobody, so embedded: without a file is refused.
func OpenLocal(ctx context.Context, url string, log *slog.Logger) (*Local, error) {
	if url == "embedded:" {
		return nil, fmt.Errorf("%w: embedded: is this process's own memory, which nobody shares; name a store, or run a daemon and use its socket", driver.ErrInvalid)
	}
	raw, err := OpenDriver(ctx, url, driver.Env{Logger: log})
	if err != nil {
		return nil, err
	}
	// Without an observer: what ends, also by force, is told by the next sidecar.
	store := backend.New(breaker.New(raw, breaker.Options{}), backend.Options{Logger: log})
	return &Local{Store: store, Keeper: renew.New(store, renew.Options{Logger: log})}, nil
}

// Close releases what is held, within ctx, and closes the backend.
func (l *Local) Close(ctx context.Context) error {
	return errors.Join(l.Keeper.Close(ctx), l.Store.Close())
}
