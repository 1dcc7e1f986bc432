package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// knot are applications at two sidecars, each of which holds a lock and waits for
// that of the next one; the locks are on Redis and on etcd in turn.
type knot struct {
	n        int
	sidecars []*configured
	leases   []*lockpb.Lease
	ended    []chan error
	granted  []chan *lockpb.Lease
	closed   time.Time
}

// tie makes a knot of n on two sidecars with that deadlock section.
func tie(t *testing.T, n int, section string) *knot {
	t.Helper()
	redis, etcd := testenv.StartRedisT(t), testenv.StartEtcd(t, testenv.EtcdOptions{})
	text := fmt.Sprintf("backends:\n  r: {url: '%s'}\n  e: {url: '%s'}\nroutes:\n- {match: even/**, backend: r}\n- {match: odd/**, backend: e}\n%s", redis.URL(), etcd.URL(), section)
	k := &knot{n: n, sidecars: []*configured{configure(t, text), configure(t, text)}}
	for i := range n {
		l, err := k.at(i).Acquire(within(t), &lockpb.AcquireRequest{LockId: k.lock(i), OwnerId: k.owner(i), Ttl: seconds(60)})
		if err != nil {
			t.Fatal(err)
		}
		k.leases = append(k.leases, l)
		k.ended, k.granted = append(k.ended, make(chan error, 1)), append(k.granted, make(chan *lockpb.Lease, 1))
	}
	for i := range n {
		if i == n-1 {
			// The others wait before the last one ties the knot.
			eventually(t, "all but one wait", func() bool {
				waiters := 0
				for j := range n {
					waiters += len(k.at(j).lock(t, k.lock(j)).GetWaiters())
				}
				return waiters == n-1
			})
			k.closed = time.Now()
		}
		go func() {
			l, err := k.at(i).Acquire(context.WithoutCancel(t.Context()), &lockpb.AcquireRequest{LockId: k.lock((i + 1) % n), OwnerId: k.owner(i), Ttl: seconds(60), Wait: seconds(50)})
			if err != nil {
				k.ended[i] <- err
				return
			}
			k.granted[i] <- l
		}()
	}
	return k
}

func (k *knot) at(i int) *configured { return k.sidecars[i%2] }
func (k *knot) owner(i int) string   { return fmt.Sprint("app-", i) }
func (k *knot) lock(i int) string    { return fmt.Sprint([]string{"even/", "odd/"}[i%2], i) }

// A cycle of 2, 3 and 5 applications over two sidecars and two stores is shown by
// both, and one waiter is refused with the whole of it; then the others get
// through.
func TestDeadlockOverTwoSidecarsAndTwoStoresIsBroken(t *testing.T) {
	for _, n := range []int{2, 3, 5} {
		t.Run(fmt.Sprint(n), func(t *testing.T) {
			k := tie(t, n, "deadlock: {resolve: youngest-waiter}\n")
			victim := -1
			eventually(t, "a waiter is refused", func() bool {
				for i := range n {
					select {
					case err := <-k.ended[i]:
						victim = i
						t.Logf("the deadlock of %d was found and broken %v after it was there", n, time.Since(k.closed).Round(time.Millisecond))
						k.isRefused(t, err)
						return true
					default:
					}
				}
				return false
			})
			// The victim gives up what it holds, and so do all in turn.
			k.at(victim).release(t, k.leases[victim])
			for i := 1; i < n; i++ {
				at := (victim + n - i) % n
				select {
				case l := <-k.granted[at]:
					k.at(at).release(t, l)
					k.at(at).release(t, k.leases[at])
				case err := <-k.ended[at]:
					t.Fatalf("another one was refused: %v", err)
				case <-time.After(patience):
					t.Fatalf("%s got nothing", k.owner(at))
				}
			}
			told := map[string]bool{}
			for _, c := range k.sidecars {
				for _, e := range eventsOfType(t, c.client, "deadlock") {
					if len(e.GetDeadlock().GetWaits()) != n {
						t.Errorf("told as %v", e)
					}
					told[e.GetId()] = true
				}
			}
			if len(told) != 1 {
				t.Errorf("the fleet told %d deadlocks, want one", len(told))
			}
		})
	}
}

func (k *knot) isRefused(t *testing.T, err error) {
	t.Helper()
	details := status.Convert(err).Details()
	info, ok := details[0].(*errdetails.ErrorInfo)
	if !ok || info.GetReason() != "DEADLOCK" || info.GetMetadata()["cycle_length"] != fmt.Sprint(k.n) {
		t.Fatalf("refused with %v %v", err, details)
	}
	var cycle []struct {
		Lock  string `json:"lock_id"`
		Owner string `json:"owner_id"`
		For   string `json:"waits_for"`
	}
	if err := json.Unmarshal([]byte(info.GetMetadata()["cycle"]), &cycle); err != nil || len(cycle) != k.n {
		t.Fatalf("the cycle is %q: %v", info.GetMetadata()["cycle"], err)
	}
	for i, w := range cycle {
		if w.For != cycle[(i+1)%k.n].Owner || w.Lock == "" {
			t.Errorf("the cycle is %+v", cycle)
		}
	}
}

// eventsOfType are those that a sidecar has told.
func eventsOfType(t *testing.T, c client, kind string) (found []*lockpb.Event) {
	t.Helper()
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	s, err := c.Watch(ctx, &lockpb.WatchRequest{After: "oldest"})
	if err != nil {
		t.Fatal(err)
	}
	// What was told before this lock was taken comes before it.
	id := unique("mark")
	l, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: "even/" + id})
	if err != nil {
		t.Fatal(err)
	}
	defer c.release(t, l)
	for {
		e, err := s.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetType() == kind {
			found = append(found, e)
		}
		if e.GetLockId() == "even/"+id {
			return found
		}
	}
}

// Without the policy nobody is refused: both sidecars show the deadlock with the
// one id, as do the command and the metrics, until a wait ends.
func TestDeadlockIsToldWithoutAPolicy(t *testing.T) {
	k := tie(t, 2, "")
	var seen sync.Map
	for i, c := range k.sidecars {
		eventually(t, "the deadlock is in the status", func() bool {
			s := c.status(t)
			if len(s.GetDeadlocks()) == 0 {
				return false
			}
			seen.Store(s.GetDeadlocks()[0].GetId(), true)
			search := s.GetDeadlockSearch()
			if !search.GetDetect() || search.GetResolve() || search.GetTruncated() {
				t.Fatalf("sidecar %d: %v", i, search)
			}
			return len(search.GetFailed()) == 0 // a read of a store that was late
		})
	}
	ids := 0
	seen.Range(func(_, _ any) bool { ids++; return true })
	if ids != 1 {
		t.Errorf("it has %d ids", ids)
	}
	show := func() string {
		exit, printed := command(t, "deadlocks", "--endpoint", k.sidecars[0].d.Endpoint())
		if exit != 0 {
			t.Fatalf("exit %d: %s", exit, printed)
		}
		return printed
	}
	if table := show(); strings.Count(table, "app-") != 4 || !strings.Contains(table, "even/0") || !strings.Contains(table, "odd/1") {
		t.Errorf("the command shows\n%s", table)
	}
	for series, want := range map[string]string{"locksidecar_deadlocks": "1", "locksidecar_deadlocks_detected_total": "1", "locksidecar_deadlocks_broken_total": "0"} {
		if got := k.sidecars[0].metric(t, series); got != want {
			t.Errorf("%s is %s, want %s", series, got, want)
		}
	}
	for i := range 2 {
		select {
		case err := <-k.ended[i]:
			t.Fatalf("refused without a policy: %v", err)
		default:
		}
	}
	k.at(1).release(t, k.leases[1])
	k.at(0).release(t, <-k.granted[0])
	k.at(0).release(t, k.leases[0])
	k.at(1).release(t, <-k.granted[1])
	if table := show(); strings.Contains(table, "app-") {
		t.Errorf("it has ended, the command shows\n%s", table)
	}
}
