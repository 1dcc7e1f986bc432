package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

func backendOf(t *testing.T, c client) *lockpb.Backend {
	t.Helper()
	status, err := c.GetStatus(within(t), &lockpb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return status.GetBackends()[0]
}

func TestStatusSaysWhoTheServerIs(t *testing.T) {
	redis := testenv.StartRedisT(t)
	c := dial(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	hold(t, c, "a")
	b := backendOf(t, c)
	if len(b.GetServers()) != 1 || strings.Contains(b.String(), redis.Addr()) {
		t.Fatalf("status: %v", b)
	}
	if s := b.GetServers()[0]; s.GetRole() != "primary" || !strings.HasPrefix(s.GetVersion(), "Redis ") || s.GetEvictionPolicy() != "noeviction" ||
		s.GetRunId() == "" || s.GetRefused() != "" || s.GetCheckedAt() == nil || len(s.GetWarnings()) != 1 {
		t.Errorf("the server is %v", s)
	}
}

// A server that may evict leases is not used, and the status and the log say why.
func TestAServerThatEvictsIsNotUsed(t *testing.T) {
	redis := testenv.StartRedisT(t, "--maxmemory", "100mb", "--maxmemory-policy", "volatile-ttl")
	d := testenv.Daemon(t, "serve", "--backend", redis.URL())
	c := dial(t, d.Endpoint())
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"}); err == nil || strings.Contains(err.Error(), redis.Addr()) {
		t.Errorf("acquire: %v", err)
	}
	b := backendOf(t, c)
	if len(b.GetServers()) != 1 || !strings.Contains(b.GetServers()[0].GetRefused(), "volatile-ttl") || b.GetServing() {
		t.Errorf("status: %v", b)
	}
	eventually(t, "the log says it", func() bool { return strings.Contains(d.Output(), "volatile-ttl") })
	hold(t, dial(t, testenv.Daemon(t, "serve", "--backend", redis.URL("allow_eviction=1")).Endpoint()), "a")
}

// A lease that the replica has goes on over a failover: it is renewed at the new
// primary, under its token.
func TestAHeldLeaseOutlivesAFailover(t *testing.T) {
	t.Parallel()
	env := testenv.StartSentinel(t, testenv.RedisOptions{})
	c := dial(t, testenv.Daemon(t, "serve", "--backend", env.URL()).Endpoint())
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Minute)
	defer cancel()
	stream, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "a", Ttl: seconds(45)}}}); err != nil {
		t.Fatal(err)
	}
	var lease *lockpb.Lease
	lost := make(chan *lockpb.HoldResponse, 1)
	for lease == nil {
		r, err := stream.Recv()
		if err != nil {
			t.Fatal(err)
		}
		lease = r.GetGranted()
	}
	go func() {
		for {
			r, err := stream.Recv()
			if err != nil {
				return
			}
			if r.GetLost() != nil {
				lost <- r
			}
		}
	}()
	first := env.Primary(t)
	first.WaitReplicated(t, 2)
	env.KillPrimary(t)
	env.WaitForFailover(t, first)
	eventually(t, "the lease is renewed at the new primary", func() bool {
		select {
		case r := <-lost:
			t.Fatalf("the lease is lost: %v", r)
		default:
		}
		l, err := c.Get(within(t), &lockpb.GetRequest{LockId: "a"})
		if err != nil || len(l.GetHolders()) != 1 {
			return false
		}
		h := l.GetHolders()[0]
		if h.GetFencingToken() != lease.GetFencingToken() {
			t.Fatalf("the lock is held under %d, want %d", h.GetFencingToken(), lease.GetFencingToken())
		}
		return h.GetExpiresAt().AsTime().After(lease.GetExpiresAt().AsTime())
	})
}
