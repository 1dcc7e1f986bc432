package socket_test

import (
	"context"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func TestShutdownTellsReleasesAndEnds(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", Ttl: seconds(60)})
	h.granted()
	_, lines, event := holdLine(t, s.path, "b", `{"ttl":"60s"}`)
	if event["granted"] == nil {
		t.Fatal(event)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "c", Ttl: seconds(60)}); err != nil {
		t.Fatal(err)
	}
	// What lingers outlives the sidecar, over either protocol.
	h.acquire(&lockpb.AcquireRequest{LockId: "lingers", Ttl: seconds(60), Linger: true})
	h.granted()
	_, _, event = holdLine(t, s.path, "lingers-too", `{"ttl":"60s","linger":true}`)
	if event["granted"] == nil {
		t.Fatal(event)
	}
	waiting := make(chan error, 1)
	go func() {
		_, err := dial(t, s.path).Acquire(within(t), &lockpb.AcquireRequest{LockId: "c"})
		waiting <- err
	}()
	eventually(t, "the acquire waits", func() bool { return s.waiters(t, "c") == 1 })
	silent, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = silent.Close() }()

	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.server.Shutdown(ctx) }()
	if _, err := h.Recv(); status.Code(err) != codes.Unavailable || infoOf(t, err).GetReason() != "DRAINING" {
		t.Errorf("the stream ended with %v", err)
	}
	if err := <-waiting; status.Code(err) != codes.Unavailable || infoOf(t, err).GetReason() != "DRAINING" {
		t.Errorf("the waiting acquire ended with %v", err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "DRAINING") {
		t.Errorf("the stream over HTTP ended with %q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Shutdown = %v", err)
	}
	eventually(t, "the leases are released", func() bool { return s.free(t, "a")() && s.free(t, "b")() })
	if s.free(t, "lingers")() || s.free(t, "lingers-too")() {
		t.Error("a lease that lingers was released")
	}
	if _, err := os.Lstat(s.path); err == nil {
		t.Error("the socket is left behind")
	}
	if err := s.server.Serve(listen(t, s.path)); err != socket.ErrServerClosed { //nolint:errorlint // the very value
		t.Errorf("Serve after Shutdown = %v", err)
	}
}

// Leave ends the streams as Shutdown does, and says that their leases stand.
func TestLeaveLeavesTheLeasesToBeAdopted(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	h := dial(t, s.path).hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "a", Ttl: seconds(60)})
	h.granted()
	_, lines, event := holdLine(t, s.path, "b", `{"ttl":"60s"}`)
	if event["granted"] == nil {
		t.Fatal(event)
	}
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	ended := make(chan error, 1)
	go func() { ended <- s.server.Leave(ctx) }()
	if _, err := h.Recv(); status.Code(err) != codes.Unavailable || infoOf(t, err).GetReason() != "DRAINING" || infoOf(t, err).GetMetadata()["leases"] != "left" {
		t.Errorf("the stream ended with %v", err)
	}
	rest, err := io.ReadAll(lines)
	if err != nil || !strings.Contains(string(rest), "DRAINING") || !strings.Contains(string(rest), `"leases":"left"`) {
		t.Errorf("the stream over HTTP ended with %q, %v", rest, err)
	}
	if err := <-ended; err != nil {
		t.Errorf("Leave = %v", err)
	}
	if err := s.keeper.Close(ctx); err != nil {
		t.Errorf("Close = %v", err)
	}
	for _, id := range []string{"a", "b"} {
		if s.free(t, id)() {
			t.Errorf("%s was released", id)
		}
	}
}

// A call that does not end is cut off with the context.
func TestShutdownIsBoundByItsContext(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	// A client that never reads what it is told.
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	_, _ = io.WriteString(c, "POST /locks/a:acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 10\r\n\r\n{")
	other := dial(t, s.path)
	if _, err := other.Get(within(t), &lockpb.GetRequest{LockId: "a"}); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.Background(), 50*time.Millisecond)
	defer cancel()
	if err := s.server.Shutdown(ctx); err == nil {
		t.Log("the request was not read yet")
	}
}
