package socket_test

import (
	"strconv"
	"sync/atomic"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func isLimit(t *testing.T, err error, limit string) {
	t.Helper()
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("the error is %v, want RESOURCE_EXHAUSTED", err)
		return
	}
	if info := infoOf(t, err); info.GetReason() != "LIMIT_EXCEEDED" || info.GetMetadata()["limit"] != limit {
		t.Errorf("the error is %v, want the limit of %s", info, limit)
	}
}

func TestConnectionsOfAPeerAreLimited(t *testing.T) {
	var hit atomic.Int64
	s := start(t, socket.Options{Limits: socket.Limits{Connections: 1}, Limited: func(limit string) {
		if limit != "connections" {
			t.Errorf("the limit of %q was hit", limit)
		}
		hit.Add(1)
	}}, nil)
	c := dial(t, s.path)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	over := dial(t, s.path)
	_, err = over.Get(within(t), &lockpb.GetRequest{LockId: "a"})
	isLimit(t, err, "connections")
	if code, e, _ := call(t, httpClient(t, s.path), "GET", "/locks/a", ""); code != 429 || reasonIn(t, e) != "LIMIT_EXCEEDED" {
		t.Errorf("over HTTP: %d %v", code, e)
	}
	if n := hit.Load(); n != 2 {
		t.Errorf("the limit was hit %d times, want 2", n)
	}
	// A limit must not lose a lease.
	if _, err := over.Renew(within(t), &lockpb.RenewRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}); err != nil {
		t.Errorf("renew: %v", err)
	}
	if _, err := over.Release(within(t), &lockpb.ReleaseRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}); err != nil {
		t.Errorf("release: %v", err)
	}
	// When the first connection is gone, there is room again.
	_ = over.conn.Close()
	_ = c.conn.Close()
	eventually(t, "a new connection is served", func() bool {
		again := dial(t, s.path)
		defer func() { _ = again.conn.Close() }()
		_, err := again.Get(within(t), &lockpb.GetRequest{LockId: "a"})
		return err == nil
	})
}

func TestLeasesAndWaitersOfAPeerAreLimited(t *testing.T) {
	s := start(t, socket.Options{Limits: socket.Limits{Leases: 2, Waiters: 2}}, nil)
	c := dial(t, s.path)
	h := c.hold(t)
	var leases []*lockpb.Lease
	for i := range 2 {
		h.acquire(&lockpb.AcquireRequest{LockId: "held/" + strconv.Itoa(i), RequestId: strconv.Itoa(i)})
		leases = append(leases, h.granted())
	}
	h.acquire(&lockpb.AcquireRequest{LockId: "one/more"})
	isLimit(t, h.failed(), "leases")

	// Released ones make room.
	h.release(&lockpb.ReleaseRequest{LockId: "held/0", RequestId: "0"})
	if h.next().GetReleased() == nil {
		t.Fatal("not released")
	}
	for i := range 2 {
		h.acquire(&lockpb.AcquireRequest{LockId: "held/1", RequestId: "w" + strconv.Itoa(i), OwnerId: strconv.Itoa(i)})
		if r := h.next(); r.GetQueued() == nil {
			t.Fatalf("not queued: %v", r)
		}
	}
	h.acquire(&lockpb.AcquireRequest{LockId: "held/1", RequestId: "w2"})
	isLimit(t, h.failed(), "waiters")
	_, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "held/1"})
	isLimit(t, err, "waiters")

	// A waiter that is given up makes room; adopting needs none.
	h.release(&lockpb.ReleaseRequest{LockId: "held/1", RequestId: "w1"})
	for r := h.next(); r.GetReleased() == nil; r = h.next() {
	}
	err = c.hold(t).Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
		LockId: "held/1", LeaseId: leases[1].GetLeaseId(), FencingToken: leases[1].GetFencingToken(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	for r := h.next(); r.GetLost() == nil; r = h.next() {
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "free", Wait: seconds(0)}); err != nil {
		t.Errorf("there is room again, but: %v", err)
	}
}

// A client that does not read loses its stream, not the server its memory.
func TestStreamThatIsNotReadIsEnded(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	h := dial(t, s.path).hold(t)
	bad := &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "//", RequestId: "r"}}}
	for range 1 << 20 {
		if err := h.Send(bad); err != nil {
			return
		}
	}
	t.Error("a million events were kept for a client that does not read")
}

// Leases and waiters are counted over HTTP as over gRPC, together.
func TestLeasesAndWaitersOverHTTPAreLimited(t *testing.T) {
	s := start(t, socket.Options{Limits: socket.Limits{Leases: 2, Waiters: 1}}, nil)
	web := httpClient(t, s.path)
	h := dial(t, s.path).hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "first", RequestId: "first"})
	h.granted()
	if _, _, event := holdLine(t, s.path, "first", "{}"); event["queued"] == nil {
		t.Fatalf("it does not wait: %v", event)
	}
	limit := func(path string) string {
		t.Helper()
		code, e, _ := call(t, web, "POST", path, `{"wait":"0s"}`)
		if code != 429 || reasonIn(t, e) != "LIMIT_EXCEEDED" {
			t.Errorf("%s: %d %v", path, code, e)
			return ""
		}
		details, _ := e["details"].([]any)
		info, _ := details[0].(map[string]any)
		metadata, _ := info["metadata"].(map[string]any)
		name, _ := metadata["limit"].(string)
		return name
	}
	for _, verb := range []string{":hold", ":acquire"} {
		if got := limit("/locks/free" + verb); got != "waiters" {
			t.Errorf("%s: the limit is %q, want waiters", verb, got)
		}
	}
	h.acquire(&lockpb.AcquireRequest{LockId: "free"})
	isLimit(t, h.failed(), "waiters")
	// The one that waits is granted, which makes two leases.
	h.release(&lockpb.ReleaseRequest{LockId: "first", RequestId: "first"})
	if r := h.next(); r.GetReleased() == nil {
		t.Errorf("released: %v", r)
	}
	eventually(t, "it is granted", func() bool { return s.keeper.Held() == 1 && s.waiters(t, "first") == 0 })
	h.acquire(&lockpb.AcquireRequest{LockId: "second"})
	h.granted()
	for _, verb := range []string{":hold", ":acquire"} {
		if got := limit("/locks/free" + verb); got != "leases" {
			t.Errorf("%s: the limit is %q, want leases", verb, got)
		}
	}
}
