package socket_test

import (
	"errors"
	"io"
	"strconv"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// stream is a Hold call of a test.
type stream struct {
	t testing.TB
	grpc.BidiStreamingClient[lockpb.HoldRequest, lockpb.HoldResponse]
}

func (c client) hold(t testing.TB) stream {
	t.Helper()
	st, err := c.Hold(within(t))
	if err != nil {
		t.Fatal(err)
	}
	return stream{t, st}
}

func (s stream) acquire(in *lockpb.AcquireRequest) {
	s.t.Helper()
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: in}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s stream) adopt(in *lockpb.AdoptRequest) {
	s.t.Helper()
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: in}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s stream) release(in *lockpb.ReleaseRequest) {
	s.t.Helper()
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: in}}); err != nil {
		s.t.Fatal(err)
	}
}

func (s stream) next() *lockpb.HoldResponse {
	s.t.Helper()
	r, err := s.Recv()
	if err != nil {
		s.t.Fatal(err)
	}
	return r
}

// granted is the lease of the next event, past those that tell of waiting.
func (s stream) granted() *lockpb.Lease {
	s.t.Helper()
	r := s.next()
	for r.GetQueued() != nil {
		r = s.next()
	}
	if r.GetGranted() == nil {
		s.t.Fatalf("the event is %v, want granted", r)
	}
	return r.GetGranted()
}

// failed is the error of the next event, past those that tell of waiting.
func (s stream) failed() error {
	s.t.Helper()
	r := s.next()
	for r.GetQueued() != nil {
		r = s.next()
	}
	return status.FromProto(statusOf(r.GetError())).Err()
}

func TestHoldGrantsQueuesAndReleases(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	first, second := dial(t, s.path).hold(t), dial(t, s.path).hold(t)
	first.acquire(&lockpb.AcquireRequest{LockId: "a", RequestId: "one", OwnerId: "first"})
	l := first.granted()
	second.acquire(&lockpb.AcquireRequest{LockId: "a", RequestId: "two", OwnerId: "second"})
	if q := second.next(); q.GetQueued().GetPosition() != 1 || q.GetQueued().GetQueueLength() != 1 || q.GetRequestId() != "two" || q.GetLockId() != "a" {
		t.Errorf("the waiter is told %v", q)
	}
	first.release(&lockpb.ReleaseRequest{LockId: "a", RequestId: "one"})
	if r := first.next(); r.GetReleased() == nil || r.GetRequestId() != "one" || r.GetReleased().GetHoldCount() != 0 {
		t.Errorf("the release is answered with %v", r)
	}
	if next := second.granted(); next.GetFencingToken() <= l.GetFencingToken() {
		t.Errorf("token %d after %d", next.GetFencingToken(), l.GetFencingToken())
	}
}

func TestHoldTellsFailuresAndGoesOn(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	h := dial(t, s.path).hold(t)
	for _, c := range []struct {
		in     *lockpb.AcquireRequest
		reason string
	}{
		{&lockpb.AcquireRequest{LockId: "a//b", RequestId: "1"}, "INVALID_LOCK_ID"},
		{&lockpb.AcquireRequest{LockId: "a", RequestId: "2", Ttl: seconds(-1)}, "INVALID_TTL"},
		{&lockpb.AcquireRequest{LockId: "a", RequestId: "3", MaxHold: seconds(0)}, "INVALID_MAX_HOLD"},
		{&lockpb.AcquireRequest{LockId: "a", RequestId: "4", Priority: 1 << 31}, "INVALID_PRIORITY"},
	} {
		h.acquire(c.in)
		r := h.next()
		err := status.FromProto(statusOf(r.GetError())).Err()
		if info := infoOf(t, err); r.GetRequestId() != c.in.GetRequestId() || info.GetReason() != c.reason || status.Code(err) != codes.InvalidArgument {
			t.Errorf("%v was answered with %v", c.in, r)
		}
	}
	if err := h.Send(&lockpb.HoldRequest{}); err != nil {
		t.Fatal(err)
	}
	if r := h.next(); r.GetError() == nil {
		t.Errorf("an empty request was answered with %v", r)
	}
	h.acquire(&lockpb.AcquireRequest{LockId: "a"})
	h.granted()
}

// Half-closing releases nothing; cancelling does.
func TestHalfCloseHoldsAndCancelReleases(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", Ttl: seconds(60)})
	l := h.granted()
	if err := h.CloseSend(); err != nil {
		t.Fatal(err)
	}
	// A later call on the connection is answered after the half-close was read.
	other := c.hold(t)
	other.acquire(&lockpb.AcquireRequest{LockId: "b"})
	other.granted()
	if got := s.holders(t, "a"); len(got) != 1 || got[0].Token != l.GetFencingToken() {
		t.Fatalf("after the half-close the holders are %v", got)
	}
	eventuallyCancelled(t, s, c)
}

// eventuallyCancelled holds a lock on a stream of its own, cancels it while the
// connection stays, and waits for the release.
func eventuallyCancelled(t *testing.T, s *sidecar, c client) {
	t.Helper()
	ctx, cancel := contextWithCancel(t)
	st, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h := stream{t, st}
	h.acquire(&lockpb.AcquireRequest{LockId: "cancelled", Ttl: seconds(60)})
	h.granted()
	cancel()
	eventually(t, "the cancelled stream's lease is released", s.free(t, "cancelled"))
}

// A stream whose client has no more requests ends when nothing is left to tell.
func TestHalfClosedStreamEndsWithItsLastHold(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	h := dial(t, s.path).hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", RequestId: "r"})
	h.granted()
	h.release(&lockpb.ReleaseRequest{LockId: "a", RequestId: "r"})
	h.release(&lockpb.ReleaseRequest{LockId: "never", LeaseId: "x", FencingToken: 1, RequestId: "other"})
	if err := h.CloseSend(); err != nil {
		t.Fatal(err)
	}
	answered := map[string]bool{}
	for {
		r, err := h.Recv()
		if errors.Is(err, io.EOF) {
			break
		}
		if err != nil {
			t.Fatal(err)
		}
		answered[r.GetRequestId()] = true
	}
	if !answered["r"] || !answered["other"] {
		t.Errorf("the stream ended after the answers %v", answered)
	}
}

// startParting is start with time enough for a client to end its connection
// after its streams.
func startParting(t testing.TB) *sidecar {
	t.Helper()
	return startServer(t, socket.Options{}, nil, func(o socket.Options) *socket.Server {
		return socket.NewParting(o, 10*time.Second)
	})
}

// A connection that breaks releases nothing: the application adopts its lease on
// a new stream.
func TestBrokenConnectionKeepsTheLeaseForAdoption(t *testing.T) {
	s := startParting(t)
	c := dial(t, s.path)
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", Ttl: seconds(60)})
	l := h.granted()
	_ = c.conn.Close()
	eventually(t, "the keeper renews it no more", func() bool { return s.keeper.Held() == 0 })
	if got := s.holders(t, "a"); len(got) != 1 {
		t.Fatalf("the lease was released with its connection: %v", got)
	}
	again := dial(t, s.path).hold(t)
	again.adopt(&lockpb.AdoptRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: "adopt"})
	if got := again.granted(); got.GetFencingToken() != l.GetFencingToken() || got.GetLeaseId() != l.GetLeaseId() {
		t.Errorf("adopted %v, want the lease %v", got, l)
	}
	again.release(&lockpb.ReleaseRequest{LockId: "a", RequestId: "adopt"})
	if r := again.next(); r.GetReleased() == nil {
		t.Errorf("released: %v", r)
	}
	if n := len(s.holders(t, "a")); n != 0 {
		t.Errorf("%d holders are left", n)
	}
}

// A client that gives its connection up resets its streams first: that is no
// wish to release, although the sidecar sees the reset before the end.
func TestResetWithTheConnectionsEndKeepsTheLease(t *testing.T) {
	s := startParting(t)
	for i := range 20 {
		lock := "parting/" + strconv.Itoa(i)
		c := dial(t, s.path)
		ctx, cancel := contextWithCancel(t)
		st, err := c.Hold(ctx)
		if err != nil {
			t.Fatal(err)
		}
		h := stream{t, st}
		h.acquire(&lockpb.AcquireRequest{LockId: lock, RequestId: lock, Ttl: longerThanPatience})
		lease := h.granted()
		cancel()
		_ = c.conn.Close()
		again := dial(t, s.path).hold(t)
		again.adopt(&lockpb.AdoptRequest{LockId: lock, LeaseId: lease.GetLeaseId(), FencingToken: lease.GetFencingToken(), RequestId: lock})
		if got := again.granted(); got.GetFencingToken() != lease.GetFencingToken() {
			t.Errorf("adopted token %d, want %d", got.GetFencingToken(), lease.GetFencingToken())
		}
	}
}

func TestHoldIsToldOfForceRelease(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", RequestId: "r", Ttl: seconds(60)})
	l := h.granted()
	_, err := c.admin.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "a", FencingToken: l.GetFencingToken(), Reason: "test"})
	if err != nil {
		t.Fatal(err)
	}
	if r := h.next(); r.GetLost().GetReason() != "forced" || r.GetLost().GetFencingToken() != l.GetFencingToken() {
		t.Errorf("the holder is told %v", r)
	}
	h.release(&lockpb.ReleaseRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: "r"})
	if r := h.next(); r.GetReleased() == nil {
		t.Errorf("the acknowledgement is answered with %v", r)
	}
}

func TestRenewalsAreToldOnRequest(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	st, err := dial(t, s.path).Hold(metadata.AppendToOutgoingContext(within(t), "locksidecar-renewals", "1"))
	if err != nil {
		t.Fatal(err)
	}
	h := stream{t, st}
	h.acquire(&lockpb.AcquireRequest{LockId: "a", Ttl: seconds(6)})
	l := h.granted()
	if r := h.next().GetRenewed(); r.GetValidUntilBoottimeNs() <= l.GetValidUntilBoottimeNs() || r.GetFencingToken() != l.GetFencingToken() {
		t.Errorf("renewed: %v after %v", r, l)
	}
}

// One stream carries many locks, and nothing is left of them when it is
// cancelled.
func TestManyLocksOnOneStream(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	ctx, cancel := contextWithCancel(t)
	st, err := dial(t, s.path).Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h := stream{t, st}
	const n = 500
	for i := range n {
		h.acquire(&lockpb.AcquireRequest{LockId: "many/" + strconv.Itoa(i), RequestId: strconv.Itoa(i), Ttl: seconds(60)})
	}
	seen := map[string]bool{}
	for range n {
		seen[h.granted().GetRequestId()] = true
	}
	if len(seen) != n || s.keeper.Held() != n {
		t.Errorf("%d requests answered, %d leases held; want %d", len(seen), s.keeper.Held(), n)
	}
	cancel()
	eventually(t, "all are released", func() bool {
		page, err := s.store.List(within(t), listAll)
		return err == nil && len(page.Locks) == 0
	})
}
