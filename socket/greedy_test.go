package socket_test

import (
	"context"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"strconv"
	"strings"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/metadata"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// greedyLimits are reached at once.
var greedyLimits = socket.Limits{Connections: 24, Leases: 50, Waiters: 100, Calls: 200, Streams: 50}

// childGreedy takes all that it can get, until its standard input ends: every
// connection, streams that are not read, requests that never end, headers
// without end, and acquires from all sides.
func childGreedy() error {
	path := os.Getenv("SOCKET_TEST_PATH")
	conn, err := grpc.NewClient("unix://"+path, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		return err
	}
	c := lockpb.NewLockServiceClient(conn)
	st, err := c.Hold(context.Background())
	if err != nil {
		return err
	}
	var refused atomic.Int64
	flood := func(do func(n int) error) {
		go func() {
			for n := 0; ; n++ {
				if do(n) != nil {
					refused.Add(1)
				}
			}
		}()
	}
	for i := range 4 {
		flood(func(n int) error {
			_, err := c.Acquire(context.Background(), &lockpb.AcquireRequest{LockId: fmt.Sprintf("greedy/%d/%d", i, n), Wait: seconds(0)})
			return err
		})
		flood(func(int) error { // waits, for as long as it is let
			ctx, cancel := context.WithTimeout(context.Background(), 100*time.Millisecond)
			defer cancel()
			_, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: "contended"})
			return err
		})
		flood(func(int) error {
			ctx := metadata.AppendToOutgoingContext(context.Background(), "padding", strings.Repeat("x", 40<<10))
			_, err := c.Get(ctx, &lockpb.GetRequest{LockId: "greedy"})
			return err
		})
		flood(func(int) error { // a stream and a stream and a stream, until they are cut off
			ctx, cancel := context.WithTimeout(context.Background(), time.Second)
			defer cancel()
			st, err := c.Hold(ctx)
			if err == nil {
				_, err = st.Recv()
			}
			return err
		})
	}
	// Sends, and never reads.
	flood(func(n int) error {
		return st.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{
			LockId: "greedy/held/" + strconv.Itoa(n), RequestId: strconv.Itoa(n), Wait: seconds(0),
		}}})
	})
	// Connections without end: a head or a body that never ends, a hold that is
	// not read.
	starts := []string{
		"", "P", "POST /locks/greedy:acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 1000\r\n\r\n{",
		"GET /locks/greedy HTTP/1.1\r\nPadding: ", "POST /locks/greedy:hold HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n",
	}
	var open []net.Conn
	flood(func(n int) error {
		c, err := net.Dial("unix", path)
		if err != nil {
			return err
		}
		if open = append(open, c); len(open) > 200 {
			_ = open[0].Close()
			open = open[1:]
		}
		_ = c.SetWriteDeadline(time.Now().Add(10 * time.Millisecond))
		_, err = io.WriteString(c, starts[n%len(starts)])
		return err
	})
	for refused.Load() < 1000 {
		time.Sleep(time.Millisecond)
	}
	fmt.Println("granted") // by now it has reached its limits
	return nil
}

// patientClient opens a connection for each request. The queue of connections
// that nobody has accepted yet is the kernel's, for all peers together, and a
// process that does nothing but connect may fill it for a moment: that, and
// nothing else, is tried again.
func patientClient(t *testing.T, path string) *http.Client {
	t.Helper()
	tr := &http.Transport{DisableKeepAlives: true, DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		for {
			c, err := new(net.Dialer).DialContext(ctx, "unix", path)
			if !errors.Is(err, syscall.EAGAIN) {
				return c, err
			}
			select {
			case <-ctx.Done():
				return nil, ctx.Err()
			case <-time.After(time.Millisecond):
			}
		}
	}}
	t.Cleanup(tr.CloseIdleConnections)
	return &http.Client{Transport: tr}
}

// While one process takes all that it can get, another one acquires, holds,
// renews, waits and releases on the connection that it has, and gets new ones.
func TestAGreedyPeerDoesNotDisturbOthers(t *testing.T) {
	s := start(t, socket.Options{Limits: greedyLimits, Logger: slog.New(slog.DiscardHandler)}, nil)
	c := dial(t, s.path)
	// Each call has the test's patience; the streams last for all of them.
	ctx, cancel := context.WithTimeout(t.Context(), 4*time.Minute)
	defer cancel()
	st, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	h := stream{t, st}
	// A lease of before, whose renewals are told.
	kept, err := c.Hold(metadata.AppendToOutgoingContext(ctx, "locksidecar-renewals", "1"))
	if err != nil {
		t.Fatal(err)
	}
	if err := kept.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "before"}}}); err != nil {
		t.Fatal(err)
	}
	if r, err := kept.Recv(); err != nil || r.GetGranted() == nil {
		t.Fatalf("the lease of before: %v, %v", r, err)
	}
	greedy := spawn(t, s, "greedy")
	web := patientClient(t, s.path)
	for i := range 20 {
		id := "modest/" + strconv.Itoa(i)
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id})
		if err != nil {
			t.Fatalf("acquire: %v", err)
		}
		proof := &lockpb.RenewRequest{LockId: id, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}
		if _, err := c.Renew(within(t), proof); err != nil {
			t.Errorf("renew: %v", err)
		}
		if code, e, _ := call(t, web, "POST", "/locks/"+id+"/http:acquire", ""); code != 200 {
			t.Errorf("acquire over HTTP: %d %v", code, e)
		}
		h.acquire(&lockpb.AcquireRequest{LockId: id, RequestId: id})
		if r := h.next(); r.GetQueued() == nil {
			t.Fatalf("want a place in the queue, got %v", r)
		}
		if _, err := c.Release(within(t), &lockpb.ReleaseRequest{LockId: id, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}); err != nil {
			t.Errorf("release: %v", err)
		}
		h.granted()
	}
	if r, err := kept.Recv(); err != nil || r.GetRenewed() == nil {
		t.Errorf("the lease of before: %v, %v; want that it is renewed", r, err)
	}
	// The greedy one is still there, and has no more than it may.
	if err := greedy.Signal(syscall.Signal(0)); err != nil {
		t.Errorf("the greedy process: %v", err)
	}
	// Those that waited when the limit was reached may have been granted.
	if n, most := s.keeper.Held()-21, greedyLimits.Leases+greedyLimits.Waiters; n > most {
		t.Errorf("the keeper holds %d leases for the greedy one, want at most %d", n, most)
	}
}
