package redis

import (
	"context"
	"fmt"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// replicated adds to a pipeline of scripts, if replicas are to be waited for,
// that it waits for them. What it returns says after the pipeline whether they
// fell short. The key that it writes first makes the wait one for everything
// before it: the server counts from the connection's own last write, and a
// repeat that finds its lease writes nothing.
func (n *node) replicated(ctx context.Context, pipe redis.Pipeliner, batch []*call) func() error {
	want := n.s.o.WaitReplicas
	if want == 0 || batch[0].script == nil || batch[0].key == "" {
		return func() error { return nil }
	}
	if batch[0].asking {
		pipe.Do(ctx, "asking")
	}
	mark := pipe.Set(ctx, batch[0].key, "", time.Minute)
	wait := pipe.Do(ctx, "wait", want, (n.s.o.Timeout / 2).Milliseconds())
	return func() error {
		switch got, err := wait.Int64(); {
		case mark.Err() != nil:
			return fmt.Errorf("%w: what was written may not be replicated: %w", driver.ErrIndeterminate, mark.Err())
		case err != nil:
			return fmt.Errorf("%w: what was written may not be replicated: %w", driver.ErrIndeterminate, err)
		case got < int64(want):
			return fmt.Errorf("%w: %d of %d replicas have what was written", driver.ErrIndeterminate, got, want)
		}
		return nil
	}
}
