package e2e

import (
	"context"
	"strconv"
	"sync/atomic"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/protobuf/types/known/durationpb"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// patience bounds each wait for something that must come.
const patience = 60 * time.Second

// client is a gRPC client of one sidecar.
type client struct {
	lockpb.LockServiceClient
	lockpb.AdminServiceClient
	conn *grpc.ClientConn
}

func dial(t testing.TB, endpoint string) client {
	t.Helper()
	conn, err := grpc.NewClient(endpoint, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = conn.Close() })
	return client{lockpb.NewLockServiceClient(conn), lockpb.NewAdminServiceClient(conn), conn}
}

// within is a context that ends the test's patience.
func within(t testing.TB) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	t.Cleanup(cancel)
	return ctx
}

// eventually polls until the condition holds, and fails the test with what was
// waited for when patience ends.
func eventually(t testing.TB, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// lock reads a lock.
func (c client) lock(t testing.TB, id string) *lockpb.Lock {
	t.Helper()
	l, err := c.Get(within(t), &lockpb.GetRequest{LockId: id})
	if err != nil {
		t.Fatalf("get %q: %v", id, err)
	}
	return l
}

// release gives a lease back.
func (c client) release(t testing.TB, l *lockpb.Lease) {
	t.Helper()
	_, err := c.Release(within(t), &lockpb.ReleaseRequest{
		LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
	})
	if err != nil {
		t.Fatalf("release %q: %v", l.GetLockId(), err)
	}
}

func seconds(s float64) *durationpb.Duration {
	return durationpb.New(time.Duration(s * float64(time.Second)))
}

var serial atomic.Int64

// unique is an id that no other acquire of this process has.
func unique(prefix string) string {
	return prefix + "-" + strconv.FormatInt(time.Now().UnixNano(), 36) + "-" + strconv.FormatInt(serial.Add(1), 10)
}
