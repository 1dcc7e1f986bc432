package socket_test

import (
	"testing"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	rpb "google.golang.org/grpc/reflection/grpc_reflection_v1"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func TestUnaryCalls(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "user:42/cart", OwnerId: "me", Ttl: seconds(10), Metadata: map[string]string{"host": "web-1"}})
	if err != nil {
		t.Fatal(err)
	}
	if l.GetFencingToken() <= 0 || l.GetLeaseId() == "" || l.GetRequestId() == "" || l.GetHoldCount() != 1 ||
		l.GetValidFor().AsDuration() <= 0 || l.GetValidFor().AsDuration() > l.GetTtl().AsDuration() || l.GetValidUntilBoottimeNs() == 0 {
		t.Errorf("the lease is not complete: %v", l)
	}
	_, err = c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "user:42/cart", OwnerId: "you", Wait: seconds(0)})
	if info := infoOf(t, err); status.Code(err) != codes.Aborted || info.GetReason() != "LOCK_HELD" || info.GetMetadata()["holder"] != "me" {
		t.Errorf("a try at a held lock: %v, %v", err, info)
	}
	if _, err := c.Renew(within(t), &lockpb.RenewRequest{LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}); err != nil {
		t.Error(err)
	}
	got, err := c.Get(within(t), &lockpb.GetRequest{LockId: "user:42/cart"})
	if err != nil || len(got.GetHolders()) != 1 || got.GetBackend() != "embedded" || got.GetHolders()[0].GetMetadata()["host"] != "web-1" {
		t.Errorf("get: %v, %v", got, err)
	}
	_, err = c.Release(within(t), &lockpb.ReleaseRequest{LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken() + 1})
	if info := infoOf(t, err); info.GetReason() != "STALE_TOKEN" || info.GetMetadata()["actual"] == "" {
		t.Errorf("a release with a wrong token: %v", err)
	}
	for range 2 { // repeating it gives the same answer
		r, err := c.Release(within(t), &lockpb.ReleaseRequest{LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId()})
		if err != nil || r.GetHoldCount() != 0 {
			t.Errorf("release: %v, %v", r, err)
		}
	}
}

// Without lease id and token, a request id undoes an acquire whose reply was
// lost.
func TestReleaseByRequestIDAlone(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", RequestId: "lost-reply"}); err != nil {
		t.Fatal(err)
	}
	if _, err := c.Release(within(t), &lockpb.ReleaseRequest{LockId: "a", RequestId: "lost-reply"}); err != nil {
		t.Fatal(err)
	}
	if n := len(s.holders(t, "a")); n != 0 {
		t.Errorf("%d holders are left", n)
	}
}

func TestAdmin(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", OwnerId: "me"})
	if err != nil {
		t.Fatal(err)
	}
	page, err := c.admin.List(within(t), &lockpb.ListRequest{Prefix: "a"})
	if err != nil || len(page.GetLocks()) != 1 || page.GetLocks()[0].GetHolders()[0].GetOwnerId() != "me" {
		t.Errorf("list: %v, %v", page, err)
	}
	_, err = c.admin.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "a", FencingToken: l.GetFencingToken()})
	if info := infoOf(t, err); info.GetReason() != "INVALID_REASON" {
		t.Errorf("a force-release without a reason: %v", err)
	}
	r, err := c.admin.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "a", FencingToken: l.GetFencingToken(), Reason: "it hangs", Immediate: true})
	if err != nil || !r.GetEnded() || r.GetHolder().GetOwnerId() != "me" {
		t.Errorf("force-release: %v, %v", r, err)
	}
	_, err = c.Renew(within(t), &lockpb.RenewRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
	if info := infoOf(t, err); info.GetReason() != "LEASE_LOST" || info.GetMetadata()["cause"] != "forced" {
		t.Errorf("renewing a forced lease: %v", err)
	}
	if st, err := c.admin.GetStatus(within(t), &lockpb.GetStatusRequest{}); err != nil || st.GetDraining() {
		t.Errorf("status: %v, %v", st, err)
	}
}

func TestHealthAndReflection(t *testing.T) {
	s := start(t, socket.Options{Ready: func() map[string]bool { return map[string]bool{"up": true, "down": false} }}, nil)
	c := dial(t, s.path)
	h := healthpb.NewHealthClient(c.conn)
	for name, want := range map[string]healthpb.HealthCheckResponse_ServingStatus{
		"": healthpb.HealthCheckResponse_SERVING, "up": healthpb.HealthCheckResponse_SERVING, "down": healthpb.HealthCheckResponse_NOT_SERVING,
	} {
		if got, err := h.Check(within(t), &healthpb.HealthCheckRequest{Service: name}); err != nil || got.GetStatus() != want {
			t.Errorf("health of %q is %v, %v; want %v", name, got, err, want)
		}
	}
	if _, err := h.Check(within(t), &healthpb.HealthCheckRequest{Service: "nobody"}); status.Code(err) != codes.NotFound {
		t.Errorf("health of an unknown entry: %v", err)
	}
	w, err := h.Watch(within(t), &healthpb.HealthCheckRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if got, err := w.Recv(); err != nil || got.GetStatus() != healthpb.HealthCheckResponse_SERVING {
		t.Errorf("watch: %v, %v", got, err)
	}
	stream, err := rpb.NewServerReflectionClient(c.conn).ServerReflectionInfo(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := stream.Send(&rpb.ServerReflectionRequest{MessageRequest: &rpb.ServerReflectionRequest_ListServices{}}); err != nil {
		t.Fatal(err)
	}
	services, err := stream.Recv()
	if err != nil || len(services.GetListServicesResponse().GetService()) < 4 {
		t.Errorf("reflection: %v, %v", services, err)
	}
	_ = stream.CloseSend()
}

// Python, Node and Java name a socket in :authority in their own ways.
func TestAnyAuthorityIsAccepted(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	for _, authority := range []string{"localhost", s.path, "%2Ftmp%2Fx.sock", "unix:" + s.path, "x.sock:0", "[::1]"} {
		c := dial(t, s.path, grpc.WithAuthority(authority))
		if _, err := c.Get(within(t), &lockpb.GetRequest{LockId: "a"}); err != nil {
			t.Errorf("authority %q: %v", authority, err)
		}
	}
}
