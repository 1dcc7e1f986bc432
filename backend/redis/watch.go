package redis

import (
	"context"
	"errors"
	"math/rand/v2"
	"net"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// resubscribe is the pause after a subscription broke.
	resubscribe = 200 * time.Millisecond
	// silence is how long a subscription may bring nothing before the server is
	// asked for a sign of life, and then how long it may take to give one.
	silence = 5 * time.Second
)

// Watch delivers the messages of the driver's inbox. Each time that the
// subscription is made it sends HintResync, since messages before it were lost.
func (s *Store) Watch(ctx context.Context, sink func(driver.Hint)) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	watching, stop := context.WithCancel(ctx)
	defer stop()
	defer context.AfterFunc(s.stopped, stop)()
	for failed := false; ; {
		err := s.subscription(watching, func(h driver.Hint) { failed = false; sink(h) })
		switch {
		case ctx.Err() != nil:
			return ctx.Err()
		case s.closed.Load():
			return driver.ErrClosed
		case !failed:
			s.o.Logger.Warn("the subscription for hints broke, waiters poll until it is back", driver.LogBackend, "redis", driver.LogError, err)
		}
		failed = true
		pause := time.NewTimer(resubscribe)
		select {
		case <-pause.C:
		case <-watching.Done():
		}
		pause.Stop()
	}
}

// subscription delivers hints until the subscription breaks or ctx ends.
func (s *Store) subscription(ctx context.Context, sink func(driver.Hint)) error {
	// Each server of a Cluster gets what is published at any.
	all := s.topology.all()
	if len(all) == 0 {
		if err := s.topology.refresh(ctx); err != nil {
			return err
		}
		if all = s.topology.all(); len(all) == 0 {
			return driver.ErrUnavailable
		}
	}
	n := all[rand.IntN(len(all))]
	sub := n.client.Subscribe(ctx, s.inbox)
	defer func() { _ = sub.Close() }()
	defer context.AfterFunc(ctx, func() { _ = sub.Close() })()
	defer context.AfterFunc(n.gone, func() { _ = sub.Close() })()
	for asked := false; ; {
		message, err := sub.ReceiveTimeout(ctx, s.silence)
		var late net.Error
		switch {
		case err == nil:
			asked = false
		case errors.As(err, &late) && late.Timeout() && !asked:
			if err := sub.Ping(ctx); err != nil {
				return err
			}
			asked = true
			continue
		default:
			return err
		}
		switch m := message.(type) {
		case *redis.Subscription:
			sink(driver.Hint{Kind: driver.HintResync})
		case *redis.Message:
			if h, ok := parseHint(m.Payload); ok {
				sink(h)
			}
		}
	}
}

// parseHint reads "g", lock id, request id or "r", lock id, token. Whatever else
// arrives is ignored: a hint decides nothing.
func parseHint(payload string) (h driver.Hint, ok bool) {
	f := strings.Split(payload, fieldSeparator)
	if len(f) != 3 {
		return h, false
	}
	switch f[0] {
	case "g":
		return driver.Hint{Kind: driver.HintGrantable, LockID: f[1], RequestID: f[2]}, true
	case "r":
		token, err := strconv.ParseInt(f[2], 10, 64)
		return driver.Hint{Kind: driver.HintRevoked, LockID: f[1], Token: token}, err == nil
	}
	return h, false
}
