package socket_test

import (
	"context"
	"encoding/json"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// A deadlock is shown to those who may inspect all of its locks, and a refused
// waiter is told of those that it may inspect, and of its own.
func TestDeadlocksTellNothingThatMayNotBeInspected(t *testing.T) {
	waits := func(locks ...string) *lockpb.Deadlock {
		d := &lockpb.Deadlock{}
		for _, l := range locks {
			d.Waits = append(d.Waits, &lockpb.Wait{LockId: l})
		}
		return d
	}
	asked := false
	s := start(t, socket.Options{
		Authorize: allowed(map[string]string{"seen": "inspect", "mine": "acquire", "theirs": ""}),
		Status: func(_ context.Context, in *lockpb.GetStatusRequest) *lockpb.Status {
			asked = in.GetFindDeadlocks()
			return &lockpb.Status{Deadlocks: []*lockpb.Deadlock{waits("seen/1", "theirs/1"), waits("seen/1", "seen/2")}}
		},
	}, nil)
	c := dial(t, s.path)
	if got, err := c.admin.GetStatus(within(t), &lockpb.GetStatusRequest{FindDeadlocks: true}); err != nil || len(got.GetDeadlocks()) != 1 || !asked {
		t.Errorf("the status shows %v, %v", got, err)
	}
	web := httpClient(t, s.path)
	if code, got, _ := call(t, web, "GET", "/status?find_deadlocks=false", ""); code != 200 || asked {
		t.Errorf("HTTP: %d %v, asked to look %t", code, got, asked)
	}
	if code, _, _ := call(t, web, "GET", "/status?find_deadlocks=perhaps", ""); code != 400 {
		t.Errorf("HTTP: %d for what is no boolean", code)
	}

	if _, err := s.store.Acquire(within(t), &backend.AcquireRequest{LockID: "mine/1"}); err != nil {
		t.Fatal(err)
	}
	cycle := &backend.DeadlockError{Cycle: []backend.Wait{
		{LockID: "mine/1", OwnerID: "me", For: "you"}, {LockID: "theirs/1", OwnerID: "you", For: "her"}, {LockID: "seen/1", OwnerID: "her", For: "me"},
	}}
	refuse := func(request string) {
		deadline := time.Now().Add(patience)
		for !s.store.Refuse("mine/1", request, cycle) {
			if time.Now().After(deadline) {
				t.Errorf("%s never waits", request)
				return
			}
			time.Sleep(5 * time.Millisecond)
		}
	}
	is := func(what, reason string, metadata map[string]string) {
		t.Helper()
		var told []struct {
			Lock string `json:"lock_id"`
		}
		err := json.Unmarshal([]byte(metadata["cycle"]), &told)
		if reason != "DEADLOCK" || err != nil || len(told) != 2 || told[0].Lock != "mine/1" || told[1].Lock != "seen/1" || metadata["cycle_length"] != "3" {
			t.Errorf("%s: %s %v, %v", what, reason, metadata, err)
		}
	}
	go refuse("unary")
	_, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "mine/1", OwnerId: "me", RequestId: "unary"})
	info := infoOf(t, err)
	is("Acquire", info.GetReason(), info.GetMetadata())
	if strings.Contains(err.Error(), "theirs") {
		t.Errorf("it tells of a lock that may not be inspected: %v", err)
	}
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "mine/1", OwnerId: "me", RequestId: "held"})
	go refuse("held")
	for r := h.next(); ; r = h.next() {
		if r.GetError() != nil {
			info := infoOf(t, status.FromProto(statusOf(r.GetError())).Err())
			is("Hold", info.GetReason(), info.GetMetadata())
			break
		}
	}
	// Both gave up their places.
	for deadline := time.Now().Add(patience); ; time.Sleep(5 * time.Millisecond) {
		l, err := s.store.Get(within(t), "mine/1")
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Waiters) == 0 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("places are left: %+v", l.Waiters)
		}
	}
}
