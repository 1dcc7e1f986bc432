package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// cancellations is how often a caller leaves around the moment of its grant.
const cancellations = 1000

// A caller that leaves within 4 ms of its grant, before or after, leaves no
// lease and no place behind, by Acquire and by Hold.
func TestCancelAroundTheGrantLeavesNothing(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	c := dial(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	for _, way := range []struct {
		name string
		take func(ctx context.Context, id string)
	}{
		{"Acquire", func(ctx context.Context, id string) {
			_, _ = c.Acquire(ctx, &lockpb.AcquireRequest{LockId: id, Ttl: seconds(1)})
		}},
		{"Hold", func(ctx context.Context, id string) {
			s, err := c.Hold(ctx)
			if err != nil {
				return
			}
			_ = s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{
				Acquire: &lockpb.AcquireRequest{LockId: id, Ttl: seconds(1), RequestId: unique("cancel")},
			}})
			for {
				if _, err := s.Recv(); err != nil {
					return
				}
			}
		}},
	} {
		t.Run(way.name, func(t *testing.T) {
			for i := range cancellations / 2 {
				// A lock of its own: a reply that was already written when its
				// caller left keeps the lease for one TTL.
				id := fmt.Sprintf("cancel/%s/%d", way.name, i)
				// The holder releases at a moment of its own, and the waiter
				// leaves up to 4 ms before or after it.
				held, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Ttl: seconds(60)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := context.WithCancel(t.Context())
				left := make(chan struct{})
				go func() { defer close(left); way.take(ctx, id) }()
				eventually(t, "the waiter queues", func() bool { return len(c.lock(t, id).GetWaiters()) == 1 })
				leave := time.AfterFunc(time.Duration(rand.Int64N(int64(8*time.Millisecond))), cancel)
				handOff := time.NewTimer(4 * time.Millisecond)
				<-handOff.C
				c.release(t, held)
				<-left
				leave.Stop()
				cancel()
			}
		})
	}
	// What was written and not read is gone after one TTL, which is a second.
	eventually(t, "nothing is held and nobody waits", func() bool {
		locks, err := c.List(within(t), &lockpb.ListRequest{Prefix: "cancel/"})
		if err != nil {
			t.Fatal(err)
		}
		return len(locks.GetLocks()) == 0
	})
}
