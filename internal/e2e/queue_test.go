package e2e

import (
	"context"
	"fmt"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// fleet starts sidecars on one store.
func fleet(t *testing.T, redis *testenv.Redis, n int) []client {
	t.Helper()
	clients := make([]client, n)
	for i := range clients {
		clients[i] = dial(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	}
	return clients
}

// waiter waits by a unary acquire and reports its grant.
func waiter(t *testing.T, ctx context.Context, c client, r *lockpb.AcquireRequest, grants chan<- *lockpb.Lease) {
	t.Helper()
	go func() {
		l, err := c.Acquire(ctx, r)
		if err != nil {
			t.Errorf("%s: %v", r.GetOwnerId(), err)
			l = &lockpb.Lease{OwnerId: r.GetOwnerId()}
		}
		grants <- l
	}()
}

// queue returns the owners that wait, in the store's order.
func queue(t *testing.T, c client, id string) []string {
	t.Helper()
	var owners []string
	for _, w := range c.lock(t, id).GetWaiters() {
		owners = append(owners, w.GetOwnerId())
	}
	return owners
}

func hold(t *testing.T, c client, id string) *lockpb.Lease {
	t.Helper()
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, OwnerId: "first", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// serve releases lease after lease and returns the owners in the order in which
// they were granted. Each grant must carry a higher token.
func serve(t *testing.T, c client, held *lockpb.Lease, grants <-chan *lockpb.Lease, n int) (order []string) {
	t.Helper()
	for range n {
		last := held.GetFencingToken()
		c.release(t, held)
		select {
		case held = <-grants:
		case <-time.After(patience):
			t.Fatalf("nobody was granted after %v", order)
		}
		if held.GetFencingToken() <= last {
			t.Fatalf("token %d after %d", held.GetFencingToken(), last)
		}
		order = append(order, held.GetOwnerId())
	}
	c.release(t, held)
	return order
}

// 64 waiters on four sidecars, 30 of them killed by SIGKILL: the others are
// served in the store's order, and nobody waits for the dead.
func TestFleetServesInTheStoresOrder(t *testing.T) {
	redis := testenv.StartRedisT(t)
	daemons := make([]*testenv.Process, 4)
	clients := make([]client, 4)
	for i := range daemons {
		daemons[i] = testenv.Daemon(t, "serve", "--backend", redis.URL("max_ttl=10m"))
		clients[i] = dial(t, daemons[i].Endpoint())
	}
	const id = "queue/order"
	// It takes a while until all have queued, one after the other.
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	held, err := clients[0].Acquire(ctx, &lockpb.AcquireRequest{LockId: id, OwnerId: "first", Ttl: seconds(600)})
	if err != nil {
		t.Fatal(err)
	}
	grants := make(chan *lockpb.Lease, 64)
	var victims []*exec.Cmd
	for i := range 64 {
		name := fmt.Sprintf("waiter-%02d", i)
		if i%2 == 1 && len(victims) < 30 {
			name = "victim" + strings.TrimPrefix(name, "waiter")
			cmd := exec.Command(testenv.Binary(t), "acquire", id, "--owner", name, "--ttl", "60s", "--wait", "300s")
			cmd.Env = append(cmd.Environ(), "LOCKSIDECAR_ENDPOINT="+daemons[i%4].Endpoint())
			if err := cmd.Start(); err != nil {
				t.Fatal(err)
			}
			victims = append(victims, cmd)
		} else {
			waiter(t, ctx, clients[i%4], &lockpb.AcquireRequest{LockId: id, OwnerId: name, Ttl: seconds(60)}, grants)
		}
		eventually(t, name+" queues", func() bool { return len(queue(t, clients[0], id)) == i+1 })
	}
	before := queue(t, clients[0], id)
	if !slices.IsSortedFunc(before, func(a, b string) int { return strings.Compare(a[7:], b[7:]) }) {
		t.Fatalf("the queue is not in the order of arrival: %v", before)
	}
	for _, v := range victims {
		if err := v.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = v.Wait() // killed: its error says so
	}
	living := slices.DeleteFunc(before, func(o string) bool { return strings.HasPrefix(o, "victim") })
	killed := time.Now()
	eventually(t, "the dead have left the queue", func() bool { return len(queue(t, clients[0], id)) == len(living) })
	t.Logf("30 dead waiters left the queue within %v", time.Since(killed).Round(time.Millisecond))
	if got := serve(t, clients[0], held, grants, len(living)); !slices.Equal(got, living) {
		t.Errorf("granted in the order\n%v\nwant\n%v", got, living)
	}
}

// With every notification lost, a waiter still gets the lock within the poll
// bound.
func TestLostNotificationsCostAtMostAPoll(t *testing.T) {
	redis := testenv.StartRedisT(t)
	clients := fleet(t, redis, 2)
	const id, waiters = "queue/silent", 4
	held := hold(t, clients[0], id)
	grants := make(chan *lockpb.Lease, waiters)
	for i := range waiters {
		waiter(t, within(t), clients[i%2], &lockpb.AcquireRequest{LockId: id, OwnerId: fmt.Sprint(i), Ttl: seconds(60)}, grants)
		eventually(t, "the waiter queues", func() bool { return len(queue(t, clients[0], id)) == i+1 })
	}
	want := queue(t, clients[0], id)
	// No sidecar may subscribe any more, and those that have are cut off: every
	// PUBLISH of a script now reaches nobody.
	redis.Must(t, "ACL", "SETUSER", "default", "-subscribe", "-psubscribe", "-ssubscribe")
	redis.Must(t, "CLIENT", "KILL", "TYPE", "pubsub")
	status, err := clients[0].GetStatus(within(t), &lockpb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	poll := status.GetBackends()[0].GetCapabilities().GetPoll().AsDuration()
	start := time.Now()
	if got := serve(t, clients[0], held, grants, waiters); !slices.Equal(got, want) {
		t.Errorf("granted in the order %v, want %v", got, want)
	}
	// Twice the bound is the machine's allowance, not the sidecar's: the test
	// is to tell a poll from a place that waits for its deadline.
	if took, bound := time.Since(start), waiters*2*poll; took > bound {
		t.Errorf("%d hand-offs without notifications took %v, the bound is %v", waiters, took, bound)
	}
}

// Higher priorities overtake, but only a bounded number of those before them.
func TestPrioritiesOvertakeABoundedNumber(t *testing.T) {
	redis := testenv.StartRedisT(t)
	clients := fleet(t, redis, 2)
	const id = "queue/priority"
	held := hold(t, clients[0], id)
	grants := make(chan *lockpb.Lease, 32)
	var names []string
	enter := func(name string, priority uint32) {
		names = append(names, name)
		waiter(t, within(t), clients[len(names)%2], &lockpb.AcquireRequest{LockId: id, OwnerId: name, Ttl: seconds(60), Priority: priority}, grants)
		eventually(t, name+" queues", func() bool { return len(queue(t, clients[0], id)) == len(names) })
	}
	for i := range 12 {
		enter(fmt.Sprintf("low-%02d", i), 0)
	}
	enter("high", 1) // a head start of 8 of the 12
	got := serve(t, clients[0], held, grants, len(names))
	if at := slices.Index(got, "high"); at != 4 && at != 5 {
		t.Errorf("priority 1 was granted as number %d of %v, want it to overtake 7 or 8 of the 12", at+1, got)
	}
	low := slices.DeleteFunc(slices.Clone(got), func(o string) bool { return o == "high" })
	if !slices.IsSorted(low) {
		t.Errorf("equal priorities changed their order: %v", low)
	}
}
