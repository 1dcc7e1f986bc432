package e2e

import (
	"fmt"
	"path/filepath"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// One sidecar is led from store to store by its configuration, while locks are
// held and waited for: the tokens of each lock rise throughout, those that are
// ahead of every clock too.
func TestSwitchingStoresKeepsTokensRising(t *testing.T) {
	t.Parallel()
	const locks = 20
	backends := fmt.Sprintf("backends:\n  redis: {url: '%s'}\n  etcd: {url: '%s'}\n  dynamodb: {url: '%s'}\n  embedded: {url: '%s'}\n",
		testenv.StartRedisT(t).URL(), testenv.StartEtcd(t, testenv.EtcdOptions{}).URL(), testenv.StartDynamoT(t).URL("locks", "timeout=20s"),
		"embedded://"+filepath.Join(t.TempDir(), "locks.db"))
	text := func(to string) string { return backends + "routes:\n- {match: '**', backend: " + to + "}\n" }
	c := configure(t, text("redis"))
	tokens := make(map[string]int64)
	acquire := func(id string, floor int64) *lockpb.Lease {
		t.Helper()
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Ttl: seconds(60), TokenFloor: floor})
		if err != nil {
			t.Fatalf("%s: %v", id, err)
		}
		if l.GetFencingToken() <= tokens[id] {
			t.Errorf("%s: the token %d follows %d", id, l.GetFencingToken(), tokens[id])
		}
		tokens[id] = l.GetFencingToken()
		return l
	}
	ahead := time.Now().Add(time.Hour).UnixMicro()
	for i := range locks {
		c.release(t, acquire(fmt.Sprint("lock-", i), ahead*int64(i%2)))
	}
	was := "redis"
	for _, to := range []string{"etcd", "dynamodb", "embedded", "redis", "dynamodb", "etcd"} {
		held := make([]*lockpb.Lease, locks)
		for i := range held[:locks/2] {
			held[i] = acquire(fmt.Sprint("lock-", i), 0)
		}
		if got := c.hangup(t, text(to)); got.GetStale() {
			t.Fatalf("to %s: %v\n%s", to, got, c.d.Output())
		}
		for i := range locks {
			id := fmt.Sprint("lock-", i)
			if held[i] != nil {
				if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Wait: seconds(0)}); reasonOf(err) == "none" {
					t.Errorf("%s is held on %s, and granted on %s: %v", id, was, to, err)
				}
				if _, err := c.Renew(within(t), &lockpb.RenewRequest{LockId: id, LeaseId: held[i].GetLeaseId(), FencingToken: held[i].GetFencingToken()}); err != nil {
					t.Errorf("%s: renew after the change: %v", id, err)
				}
				c.release(t, held[i])
			}
			l := acquire(id, 0)
			if got := c.lock(t, id).GetBackend(); got != to {
				t.Errorf("%s is on %s, want %s", id, got, to)
			}
			c.release(t, l)
		}
		was = to
	}
	for i := range locks {
		if token := tokens[fmt.Sprint("lock-", i)]; i%2 == 1 && token <= ahead {
			t.Errorf("the token %d has fallen below %d", token, ahead)
		}
	}
}
