package e2e

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// A curl that is killed while it waits leaves the queue long before its wait or
// anybody's TTL ends, by either way of asking and on either store: those behind it
// do not wait for it.
func TestKilledCurlLeavesTheQueueByItsDeath(t *testing.T) {
	curl, err := exec.LookPath("curl")
	if err != nil {
		t.Fatalf("curl is needed: %v; install it by: apt-get install curl", err)
	}
	redis := testenv.StartRedisT(t)
	for store, d := range map[string]*testenv.Process{
		"redis":    testenv.Daemon(t, "serve", "--backend", redis.URL()),
		"embedded": testenv.Daemon(t, "dev"),
	} {
		c := dial(t, d.Endpoint())
		for _, verb := range []string{"acquire", "hold"} {
			t.Run(store+"/"+verb, func(t *testing.T) {
				id := "curl/" + verb
				held := hold(t, c, id)
				cmd := exec.CommandContext(within(t), curl, "-sS", "-N", "--unix-socket", strings.TrimPrefix(d.Endpoint(), "unix://"),
					"http://localhost/locks/"+id+":"+verb, "-d", `{"owner_id":"curl","ttl":"60s"}`)
				var out testenv.Output
				cmd.Stdout, cmd.Stderr = &out, &out
				if err := cmd.Start(); err != nil {
					t.Fatal(err)
				}
				eventually(t, "curl waits", func() bool { return len(queue(t, c, id)) == 1 })
				if err := cmd.Process.Kill(); err != nil {
					t.Fatal(err)
				}
				killed := time.Now()
				_ = cmd.Wait() // killed: its error says so
				eventually(t, "curl has left the queue", func() bool { return len(queue(t, c, id)) == 0 })
				took := time.Since(killed)
				t.Logf("left %v after its death", took.Round(time.Millisecond))
				// Most of it is the allowance for this machine.
				if bound := 10 * time.Second; took > bound {
					t.Errorf("it left the queue %v after its death, want within %v", took, bound)
				}
				// The holder is not disturbed, and the lock is free after it.
				if l := c.lock(t, id); len(l.GetHolders()) != 1 || l.GetHolders()[0].GetOwnerId() != "first" {
					t.Errorf("the lock is %v", l)
				}
				c.release(t, held)
				if l := c.lock(t, id); len(l.GetHolders()) != 0 {
					t.Errorf("after the release the lock is %v; curl printed %s", l, out.String())
				}
			})
		}
	}
}
