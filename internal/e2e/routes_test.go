package e2e

import (
	"fmt"
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// streamed is a Hold stream whose events are counted.
type streamed struct {
	grpc.BidiStreamingClient[lockpb.HoldRequest, lockpb.HoldResponse]
}

func (c client) stream(t *testing.T) streamed {
	t.Helper()
	s, err := c.Hold(metadata.AppendToOutgoingContext(t.Context(), "locksidecar-renewals", "1"))
	if err != nil {
		t.Fatal(err)
	}
	return streamed{s}
}

func (s streamed) send(t *testing.T, in *lockpb.AcquireRequest) {
	t.Helper()
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: in}}); err != nil {
		t.Fatal(err)
	}
}

// granted reads events until one grants, and passes over renewals.
func (s streamed) granted(t *testing.T) *lockpb.Lease {
	t.Helper()
	for {
		r, err := s.Recv()
		switch {
		case err != nil:
			t.Fatal(err)
		case r.GetGranted() != nil:
			return r.GetGranted()
		case r.GetLost() != nil || r.GetError() != nil:
			t.Fatalf("%v", r)
		}
	}
}

// Routes move under a thousand leases: none is lost, each is renewed where it
// is, none is granted elsewhere while it stands, and whoever comes next gets the
// lock on the new backend, with a higher token.
func TestReloadMovesRoutesUnderAThousandLeases(t *testing.T) {
	const leases = 1000
	a, b := testenv.StartRedisT(t), testenv.StartRedisT(t)
	text := func(to string) string {
		return fmt.Sprintf("backends:\n  a: {url: '%s'}\n  b: {url: '%s'}\nroutes:\n- {match: moving/**, backend: %s}\n- {match: '**', backend: b}\n", a.URL(), b.URL(), to)
	}
	c := configure(t, text("a"))
	onA := dial(t, testenv.Daemon(t, "serve", "--backend", a.URL()).Endpoint())
	onB := dial(t, testenv.Daemon(t, "serve", "--backend", b.URL()).Endpoint())
	held := c.stream(t)
	for i := range leases {
		held.send(t, &lockpb.AcquireRequest{LockId: fmt.Sprintf("moving/%d", i), OwnerId: "app", RequestId: fmt.Sprintf("request-%d", i), Ttl: seconds(10)})
	}
	tokens := map[string]*lockpb.Lease{}
	for range leases {
		l := held.granted(t)
		tokens[l.GetLockId()] = l
	}
	if len(tokens) != leases {
		t.Fatalf("%d leases", len(tokens))
	}
	unary, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "moving/unary", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	waiting := make(chan *lockpb.Lease, 1)
	acquire := func(id string) {
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Ttl: seconds(60)})
		if err != nil {
			t.Errorf("%s: %v", id, err)
		}
		waiting <- l
	}
	go acquire("moving/unary")
	eventually(t, "one waits on the old backend", func() bool { return len(onA.lock(t, "moving/unary").GetWaiters()) == 1 })

	if got := c.hangup(t, text("b")); got.GetStale() || got.GetReloads() < 1 {
		t.Fatalf("the reload: %v\n%s", got, c.d.Output())
	}
	// Every lease is renewed twice from here on.
	for renewed, twice := map[string]int{}, 0; twice < leases; {
		r, err := held.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.GetLost() != nil, r.GetError() != nil:
			t.Fatalf("after the reload: %v", r)
		case r.GetRenewed() != nil:
			if id := r.GetRenewed().GetLockId(); r.GetRenewed().GetFencingToken() != tokens[id].GetFencingToken() {
				t.Fatalf("renewed under another token: %v", r)
			} else if renewed[id]++; renewed[id] == 2 {
				twice++
			}
		}
	}
	s := c.status(t)
	if s.GetLeasesHeld() != leases || len(s.GetBackends()) != 2 || !s.GetBackends()[1].GetRetired() || s.GetBackends()[1].GetName() != "a" {
		t.Errorf("status: %v", s)
	}
	for _, id := range []string{"moving/0", "moving/999"} {
		if got := c.lock(t, id); got.GetBackend() != "a" || len(got.GetHolders()) != 1 {
			t.Errorf("%s is shown as %v", id, got)
		}
		if got := onB.lock(t, id); len(got.GetHolders()) != 0 || len(got.GetWaiters()) != 0 {
			t.Errorf("%s is on the new backend: %v", id, got)
		}
		if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Wait: seconds(0)}); reasonOf(err) != "LOCK_HELD " {
			t.Errorf("%s: %v", id, err)
		}
	}
	// What belongs to a lease goes where it is.
	if unary, err = c.Renew(within(t), &lockpb.RenewRequest{LockId: "moving/unary", LeaseId: unary.GetLeaseId(), FencingToken: unary.GetFencingToken(), Ttl: seconds(60)}); err != nil {
		t.Fatalf("a caller renews: %v", err)
	}
	held.send(t, &lockpb.AcquireRequest{LockId: "moving/1", OwnerId: "app", RequestId: "again", Reentrant: true, Ttl: seconds(10)})
	if l := held.granted(t); l.GetFencingToken() != tokens["moving/1"].GetFencingToken() || l.GetHoldCount() != 2 {
		t.Errorf("re-entered as %v", l)
	}
	c.release(t, unary)
	w := <-waiting
	if got := onA.lock(t, "moving/unary"); len(got.GetHolders()) != 1 || got.GetHolders()[0].GetFencingToken() != w.GetFencingToken() {
		t.Errorf("the waiter of the old backend was granted %v, there is %v", w, got)
	}
	c.release(t, w)

	// A newcomer waits for the lease to end, and gets the lock on the new one.
	go acquire("moving/0")
	if err := held.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: &lockpb.ReleaseRequest{RequestId: "request-0"}}}); err != nil {
		t.Fatal(err)
	}
	moved := <-waiting
	if got := onB.lock(t, "moving/0"); len(got.GetHolders()) != 1 || got.GetHolders()[0].GetFencingToken() != moved.GetFencingToken() {
		t.Errorf("the newcomer was granted %v, the new backend has %v", moved, got)
	}
	if moved.GetFencingToken() <= tokens["moving/0"].GetFencingToken() {
		t.Errorf("token %d after %d", moved.GetFencingToken(), tokens["moving/0"].GetFencingToken())
	}
	if n := c.metric(t, `locksidecar_config_reloads_total{result="ok"}`); n != "1" {
		t.Errorf("%s reloads", n)
	}
	for _, reason := range []string{"expired", "unknown", "unreachable", "reattached"} {
		if n := c.metric(t, `locksidecar_leases_lost_total{backend="a",lock_class="other",reason="`+reason+`"}`); n != "0" {
			t.Errorf("%s leases were lost: %s", n, reason)
		}
	}

	// When the last lease has gone, so has the old backend.
	if err := held.CloseSend(); err != nil {
		t.Fatal(err)
	}
	for i := range leases {
		if i == 0 {
			continue
		}
		id := fmt.Sprintf("moving/%d", i)
		if i == 1 { // its second hold
			c.release(t, &lockpb.Lease{LockId: id, LeaseId: tokens[id].GetLeaseId(), FencingToken: tokens[id].GetFencingToken(), RequestId: "again"})
		}
		c.release(t, tokens[id])
	}
	eventually(t, "the old backend is closed", func() bool {
		s := c.status(t)
		return len(s.GetBackends()) == 1 && s.GetBackends()[0].GetName() == "b" && s.GetLeasesHeld() == 0
	})
	eventually(t, "a closed backend has no metric of its readiness", func() bool {
		return c.metric(t, `locksidecar_backend_ready{backend="a"}`) == "none"
	})
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "moving/5"}); err != nil {
		t.Errorf("after all: %v", err)
	}
}
