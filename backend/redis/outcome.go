package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// refusals are the replies by which a server says that it did not run the
// command at all.
var refusals = []string{
	"LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN",
	"MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOPERM", "NOSCRIPT", "ERR max number of clients", "ERR unknown command",
	"ERR AUTH", "ERR DB index",
}

// unsentError is of a connection that was not made or not accepted, so that
// nothing was sent on it.
type unsentError struct{ error }

func (e unsentError) Unwrap() error { return e.error }

// dial marks the errors of a dialer.
func dial(next func(context.Context, string, string) (net.Conn, error)) func(context.Context, string, string) (net.Conn, error) {
	return func(ctx context.Context, network, addr string) (net.Conn, error) {
		conn, err := next(ctx, network, addr)
		if err != nil {
			return nil, unsentError{err}
		}
		return conn, nil
	}
}

// outcome says what an error proves about the command.
func (s *Store) outcome(err error) error {
	if err == nil {
		return nil
	}
	var reply redis.Error
	var unsent unsentError
	switch {
	case s.closed.Load():
		return driver.ErrClosed
	case errors.Is(err, redis.ErrPoolTimeout), errors.Is(err, redis.ErrClosed), errors.As(err, &unsent):
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	case errors.As(err, &reply):
		for _, prefix := range refusals {
			if strings.HasPrefix(reply.Error(), prefix) {
				return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
			}
		}
	}
	return fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
}
