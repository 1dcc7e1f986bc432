package socket_test

import (
	"context"
	"math/rand/v2"
	"strconv"
	"sync"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// A caller that leaves about when it is granted leaves nothing behind: on Hold
// whatever the TTL; of an Acquire after one TTL, since the reply may be on its
// way when the caller leaves.
func TestCancelNearTheGrantLeavesNothing(t *testing.T) {
	for name, wait := range map[string]func(context.Context, client, string){
		"acquire": func(ctx context.Context, c client, lock string) {
			_, _ = c.Acquire(ctx, &lockpb.AcquireRequest{LockId: lock, Ttl: seconds(1)})
		},
		"hold": func(ctx context.Context, c client, lock string) {
			st, err := c.Hold(ctx)
			if err != nil {
				return
			}
			_ = st.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: lock, Ttl: longerThanPatience}}})
			for {
				if _, err := st.Recv(); err != nil {
					return
				}
			}
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := start(t, socket.Options{}, nil)
			holder, waiter := dial(t, s.path), dial(t, s.path)
			delays := rand.New(rand.NewPCG(1, 2))
			for i := range 200 {
				lock := "near/" + strconv.Itoa(i)
				l, err := holder.Acquire(within(t), &lockpb.AcquireRequest{LockId: lock, Ttl: seconds(60)})
				if err != nil {
					t.Fatal(err)
				}
				ctx, cancel := contextWithCancel(t)
				var wg sync.WaitGroup
				wg.Go(func() { wait(ctx, waiter, lock) })
				eventually(t, "the caller waits", func() bool { return s.waiters(t, lock) == 1 })
				leaves := time.AfterFunc(time.Duration(delays.IntN(2000))*time.Microsecond, cancel)
				_, err = holder.Release(within(t), &lockpb.ReleaseRequest{LockId: lock, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
				if err != nil {
					t.Fatal(err)
				}
				wg.Wait()
				leaves.Stop()
				cancel()
			}
			eventually(t, "nothing is held and nobody waits", func() bool {
				page, err := s.store.List(within(t), listAll)
				return err == nil && len(page.Locks) == 0
			})
		})
	}
}

// longerThanPatience is the TTL of what a test wants to see released.
var longerThanPatience = durationpb.New(time.Minute)
