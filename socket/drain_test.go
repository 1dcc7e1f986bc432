package socket_test

import (
	"bufio"
	"context"
	"encoding/json"
	"net/http"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	spb "google.golang.org/genproto/googleapis/rpc/status"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func millisecond() *durationpb.Duration { return durationpb.New(time.Millisecond) }

// drained drains a lock until the drain ends by itself, and returns why it failed.
func drained(t *testing.T, c client, in *lockpb.DrainRequest) error {
	t.Helper()
	stream, err := c.admin.Drain(within(t), in)
	if err != nil {
		return err
	}
	for {
		r, err := stream.Recv()
		if err != nil {
			return err
		}
		if e := r.GetError(); e != nil {
			return status.FromProto(&spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}).Err()
		}
		if r.GetLost().GetReason() == "max_hold" {
			return nil
		}
	}
}

// A drain waits for the holder before all who wait, over both protocols; nobody is
// granted the lock before the client ends it, and those who waited go on.
func TestDrainKeepsALockFromBeingGranted(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := dial(t, s.path)
	holder, waiter := dial(t, s.path).hold(t), dial(t, s.path).hold(t)
	holder.acquire(&lockpb.AcquireRequest{LockId: "a", RequestId: "one", OwnerId: "holder"})
	l := holder.granted()
	waiter.acquire(&lockpb.AcquireRequest{LockId: "a", OwnerId: "waiter", Priority: 9})
	waiter.next()
	if err := drained(t, c, &lockpb.DrainRequest{LockId: "a"}); status.Code(err) != codes.InvalidArgument || infoOf(t, err).GetReason() != "INVALID_REASON" {
		t.Errorf("without a reason: %v", err)
	}
	if err := drained(t, c, &lockpb.DrainRequest{LockId: "a", Reason: "test", Wait: seconds(0)}); infoOf(t, err).GetReason() != "LOCK_HELD" {
		t.Errorf("without waiting: %v", err)
	}

	ctx, end := context.WithCancel(within(t))
	defer end()
	stream, err := c.admin.Drain(ctx, &lockpb.DrainRequest{LockId: "a", Reason: "the printer is repaired"})
	if err != nil {
		t.Fatal(err)
	}
	if r, err := stream.Recv(); err != nil || r.GetQueued() == nil {
		t.Fatalf("told %v, %v", r, err)
	}
	for until := time.Now().Add(patience); ; {
		got, err := c.Get(within(t), &lockpb.GetRequest{LockId: "a"})
		if err != nil || time.Now().After(until) {
			t.Fatalf("the queue is %v, %v", got, err)
		}
		if w := got.GetWaiters(); len(w) == 2 && strings.HasPrefix(w[0].GetOwnerId(), "drain-") {
			break
		}
	}
	holder.release(&lockpb.ReleaseRequest{LockId: "a", RequestId: "one"})
	r, err := stream.Recv()
	for err == nil && r.GetQueued() != nil {
		r, err = stream.Recv()
	}
	if g := r.GetGranted(); err != nil || g.GetFencingToken() <= l.GetFencingToken() || g.GetMetadata()["reason"] != "the printer is repaired" || g.GetMetadata()["operator"] == "" {
		t.Fatalf("told %v, %v", r, err)
	}

	// Another one over HTTP goes before the waiter, too.
	body := strings.NewReader(`{"reason": "once more", "max_hold": "0.001s"}`)
	req, err := http.NewRequestWithContext(within(t), http.MethodPost, "http://sidecar/locks/a:drain", body)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	answer, err := httpClient(t, s.path).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = answer.Body.Close() }()
	lines := bufio.NewScanner(answer.Body)
	kinds := ""
	for lines.Scan() {
		var e map[string]json.RawMessage
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			t.Fatalf("%s: %v", lines.Bytes(), err)
		}
		for _, kind := range []string{"queued", "granted", "lost"} {
			if e[kind] == nil {
				continue
			}
			if kinds == "" {
				end() // the first drain ends once the second one waits
			}
			if !strings.HasSuffix(kinds, kind) {
				kinds += kind
			}
		}
	}
	if kinds != "queuedgrantedlost" {
		t.Errorf("over HTTP it is told %q", kinds)
	}
	if g := waiter.granted(); g.GetOwnerId() != "waiter" {
		t.Errorf("granted %v", g)
	}
}
