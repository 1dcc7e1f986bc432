package app

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"os"
	"path/filepath"
	"time"

	"github.com/locksidecar/locksidecar/internal/deadlock"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// privateTimeout bounds the end of a private sidecar.
const privateTimeout = 5 * time.Second

// Private serves a backend to this process alone, by the API, on a socket in a
// directory that nobody else may enter: for commands of operators where no daemon
// runs. What is done goes to the logger. close ends it.
func Private(ctx context.Context, url string, log *slog.Logger) (endpoint string, end func() error, err error) {
	local, err := OpenLocal(ctx, url, log)
	if err != nil {
		return "", nil, err
	}
	closed := func(err error) error {
		ctx, cancel := context.WithTimeout(context.Background(), privateTimeout)
		defer cancel()
		return errors.Join(err, local.Close(ctx))
	}
	dir, err := os.MkdirTemp("", "locksidecar") // with the mode 0700
	if err != nil {
		return "", nil, closed(err)
	}
	path := filepath.Join(dir, "api.sock")
	listener, err := socket.Listen(path, 0o600)
	if err != nil {
		return "", nil, closed(errors.Join(err, os.RemoveAll(dir)))
	}
	detector := deadlock.New(deadlock.Options{
		Stores: func() []deadlock.Local { return []deadlock.Local{local.Store} },
		Policy: func() (bool, bool) { return false, false },
		Looked: func(*deadlock.Finding, []deadlock.Deadlock) {},
		Logger: log,
	})
	server := socket.New(socket.Options{
		Locks: local.Store, Sessions: socket.Kept(local.Keeper), Logger: log,
		Status: func(ctx context.Context, in *lockpb.GetStatusRequest) *lockpb.Status {
			found, at := detector.Latest()
			if in.GetFindDeadlocks() {
				found, at = detector.Look(ctx)
			}
			s := &lockpb.Status{}
			detector.Describe(s, found, at)
			return s
		},
	})
	served := make(chan error, 1)
	go func() { served <- server.Serve(listener) }()
	return "unix://" + path, func() error {
		ctx, cancel := context.WithTimeout(context.Background(), privateTimeout)
		defer cancel()
		err := server.Shutdown(ctx)
		if ended := <-served; !errors.Is(ended, socket.ErrServerClosed) {
			err = errors.Join(err, fmt.Errorf("the private sidecar: %w", ended))
		}
		return errors.Join(closed(err), os.RemoveAll(dir))
	}, nil
}
