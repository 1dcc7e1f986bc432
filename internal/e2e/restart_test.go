package e2e

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	sidecar "github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// restarts is how often the sidecar is killed under a held lease.
const restarts = 300

// kill -9 of the sidecar and its restart within the TTL: whoever held a lease
// attaches to it again and keeps its lease id and its token, nobody else gets the
// lock in between, and no grant that was answered is forgotten.
func TestLeasesSurviveKillsOfTheSidecar(t *testing.T) {
	for name, url := range map[string]func(t *testing.T) string{
		"redis":    func(t *testing.T) string { return testenv.StartRedisT(t).URL() },
		"embedded": func(t *testing.T) string { return "embedded://" + filepath.Join(t.TempDir(), "locks.db") },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			dir, err := os.MkdirTemp("", "lskill") // short: a socket's path is bounded
			if err != nil {
				t.Fatal(err)
			}
			t.Cleanup(func() { _ = os.RemoveAll(dir) })
			args := []string{"serve", "--backend", url(t), "--socket", filepath.Join(dir, "run", "api.sock")}
			h := &holder{lock: "held", owner: "owner-0"}
			var answered *lockpb.Lease // the last grant before a kill
			for round := range restarts {
				h.round(t, testenv.Daemon(t, args...), round, &answered)
				if t.Failed() {
					t.Fatalf("in round %d", round)
				}
			}
		})
	}
}

// holder is an application that keeps its lease over the ends of its sidecar.
type holder struct {
	lock, owner string
	lease       *lockpb.Lease
}

// round is one life of the sidecar, which it ends by SIGKILL.
func (h *holder) round(t *testing.T, d *testenv.Process, round int, answered **lockpb.Lease) {
	t.Helper()
	c := dial(t, d.Endpoint())
	defer func() { _ = c.conn.Close() }()
	if a := *answered; a != nil {
		if l := c.lock(t, a.GetLockId()); len(l.GetHolders()) != 1 || l.GetHolders()[0].GetFencingToken() != a.GetFencingToken() {
			t.Errorf("the grant of token %d was answered before the kill, after it the lock is %v", a.GetFencingToken(), l)
		}
	}
	if h.lease != nil {
		h.excludes(t, c, "before the holder is back")
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	h.attach(t, ctx, c)
	h.excludes(t, c, "with the holder back")
	if round%10 == 9 {
		h.handOver(t, c, round)
	}
	var err error
	if *answered, err = c.Acquire(within(t), &lockpb.AcquireRequest{LockId: fmt.Sprint("answered/", round), Ttl: seconds(60)}); err != nil {
		t.Fatal(err)
	}
	d.Kill()
}

// attach takes the lock, or adopts the lease of before, on a stream of its own.
func (h *holder) attach(t *testing.T, ctx context.Context, c client) {
	t.Helper()
	stream, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	req := &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{
		LockId: h.lock, OwnerId: h.owner, RequestId: unique("hold"), Ttl: seconds(60), Wait: seconds(0),
	}}}
	if h.lease != nil {
		req = &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
			LockId: h.lock, LeaseId: h.lease.GetLeaseId(), FencingToken: h.lease.GetFencingToken(), RequestId: h.lease.GetRequestId(), Ttl: seconds(60),
		}}}
	}
	if err := stream.Send(req); err != nil {
		t.Fatal(err)
	}
	answer, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	got := answer.GetGranted()
	if got == nil {
		t.Fatalf("the sidecar answered %v, want the lease", answer)
	}
	if was := h.lease; was != nil && (got.GetLeaseId() != was.GetLeaseId() || got.GetFencingToken() != was.GetFencingToken() || got.GetHoldCount() != 1) {
		t.Errorf("adopted %v, want the lease %v", got, was)
	}
	h.lease = got
}

// excludes has another owner try the lock.
func (h *holder) excludes(t *testing.T, c client, when string) {
	t.Helper()
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: h.lock, OwnerId: "rival", Wait: seconds(0)})
	if reason, _ := sidecar.Reason(err); reason != "LOCK_HELD" {
		t.Errorf("%s a rival got %v, %v; want LOCK_HELD", when, l, err)
	}
}

// handOver lets the rival have the lock; it is the holder from then on.
func (h *holder) handOver(t *testing.T, c client, round int) {
	t.Helper()
	c.release(t, h.lease)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: h.lock, OwnerId: fmt.Sprint("owner-", round), Wait: seconds(0), Ttl: seconds(60)})
	if err != nil {
		t.Fatalf("the lock was released and cannot be had: %v", err)
	}
	if l.GetFencingToken() <= h.lease.GetFencingToken() {
		t.Errorf("the token %d follows %d", l.GetFencingToken(), h.lease.GetFencingToken())
	}
	h.lease, h.owner = l, l.GetOwnerId()
}
