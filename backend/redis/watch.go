package redis

import (
	"context"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// resubscribe is the pause after a subscription broke.
const resubscribe = 200 * time.Millisecond

// Watch delivers the messages of the driver's inbox. Each time that the
// subscription is made it sends HintResync, since messages before it were lost.
func (s *Store) Watch(ctx context.Context, sink func(driver.Hint)) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	sub := s.client.Subscribe(ctx, s.inbox)
	defer func() { _ = sub.Close() }()
	stop := context.AfterFunc(ctx, func() { _ = sub.Close() })
	defer stop()
	for failed := false; ; {
		message, err := sub.Receive(ctx)
		if ctx.Err() != nil {
			return ctx.Err()
		}
		if err != nil {
			if s.closed.Load() {
				return driver.ErrClosed
			}
			if !failed {
				s.o.Logger.Warn("the subscription for hints broke, waiters poll until it is back", driver.LogBackend, "redis", driver.LogError, err)
			}
			failed = true
			pause := time.NewTimer(resubscribe)
			select {
			case <-pause.C:
			case <-ctx.Done():
			}
			pause.Stop()
			continue
		}
		switch m := message.(type) {
		case *redis.Subscription:
			failed = false
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
		return driver.Hint{Kind: driver.HintRevoked, LockID: f[1], Token: integer(f[2])}, true
	}
	return h, false
}
