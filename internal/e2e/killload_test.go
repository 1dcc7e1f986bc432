package e2e

import (
	"context"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"sync"
	"sync/atomic"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// cycler acquires and releases one lock, and knows what it was answered last.
type cycler struct {
	lock string
	held *lockpb.Lease // nil after a release that was answered
	last int64         // the highest token that was answered
	// releasing: a release was sent and not answered.
	releasing bool
}

// run goes on until a call fails, because the sidecar was killed. Of the calls
// that were answered, only LOCK_HELD by the grant whose answer was lost is no
// success.
func (c *cycler) run(ctx context.Context, cl client, answers *atomic.Int64) {
	for {
		if c.held == nil {
			l, err := cl.Acquire(ctx, &lockpb.AcquireRequest{LockId: c.lock, Wait: seconds(0), Ttl: seconds(60)})
			if err != nil {
				return
			}
			c.held, c.last = l, l.GetFencingToken()
			answers.Add(1)
		}
		c.releasing = true
		if _, err := cl.Release(ctx, &lockpb.ReleaseRequest{LockId: c.lock, LeaseId: c.held.GetLeaseId(), FencingToken: c.held.GetFencingToken()}); err != nil {
			return
		}
		c.held, c.releasing = nil, false
		answers.Add(1)
	}
}

// check compares what the restarted sidecar has with what was answered, and frees
// the lock for the next round.
func (c *cycler) check(t *testing.T, cl client) {
	t.Helper()
	l := cl.lock(t, c.lock)
	if l.GetFencingToken() < c.last {
		t.Errorf("%s: the last token is %d, %d was answered", c.lock, l.GetFencingToken(), c.last)
	}
	switch holders := l.GetHolders(); {
	case c.held != nil && !c.releasing && (len(holders) != 1 || holders[0].GetFencingToken() != c.last):
		t.Errorf("%s: the grant of %d was answered; after the kill the lock is %v", c.lock, c.last, l)
	case c.held == nil && len(holders) == 1 && holders[0].GetFencingToken() <= c.last:
		t.Errorf("%s: the release of %d was answered; after the kill the lock is %v", c.lock, c.last, l)
	case len(holders) == 1:
		if _, err := cl.ForceRelease(within(t), &lockpb.ForceReleaseRequest{
			LockId: c.lock, FencingToken: holders[0].GetFencingToken(), Reason: "the next round", Immediate: true,
		}); err != nil {
			t.Error(err)
		}
	}
	c.held, c.releasing = nil, false
}

// A sidecar on a file that is killed in the middle of its writes has everything
// that it answered.
func TestNothingAnsweredIsLostByAKillUnderLoad(t *testing.T) {
	t.Parallel()
	dir, err := os.MkdirTemp("", "lsload") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	args := []string{"serve", "--backend", "embedded://" + filepath.Join(dir, "locks.db"), "--socket", filepath.Join(dir, "run", "api.sock")}
	cyclers := make([]cycler, 16)
	for i := range cyclers {
		cyclers[i].lock = fmt.Sprint("load/", i)
	}
	for round := range 40 {
		d := testenv.Daemon(t, args...)
		cl := dial(t, d.Endpoint())
		for i := range cyclers {
			cyclers[i].check(t, cl)
		}
		var answers atomic.Int64
		var wg sync.WaitGroup
		ctx, cancel := context.WithCancel(within(t))
		for i := range cyclers {
			wg.Go(func() { cyclers[i].run(ctx, cl, &answers) })
		}
		enough := rand.Int64N(1000)
		eventually(t, "the load runs", func() bool { return answers.Load() > enough })
		d.Kill()
		cancel()
		wg.Wait()
		_ = cl.conn.Close()
		if t.Failed() {
			t.Fatalf("in round %d", round)
		}
	}
}
