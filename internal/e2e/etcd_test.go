package e2e

import (
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func TestStatusSaysWhoTheMembersAre(t *testing.T) {
	t.Parallel()
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 3})
	c := dial(t, testenv.Daemon(t, "serve", "--backend", e.URL()).Endpoint())
	hold(t, c, "a")
	eventually(t, "the status names three members of which one leads", func() bool {
		b := backendOf(t, c)
		leaders := 0
		for _, s := range b.GetServers() {
			if strings.Contains(s.String(), "127.0.0.1") {
				t.Fatalf("the status has an address: %v", s)
			}
			if !strings.Contains(s.GetVersion(), "3.7.3") || len(s.GetWarnings()) > 0 || s.GetRefused() != "" {
				t.Fatalf("the member is %v", s)
			}
			if s.GetRole() == "leader" {
				leaders++
			}
		}
		return len(b.GetServers()) == 3 && leaders == 1 && b.GetServing()
	})
}

// A member of a version with known bugs of leases is used, and reported.
func TestAnOldEtcdIsReported(t *testing.T) {
	e := testenv.StartEtcd(t, testenv.EtcdOptions{})
	for version, old := range map[string]bool{
		"3.4.39": true, "3.5.22": true, "3.5.23": false, "3.6.0": true, "3.6.4": true, "3.6.5": false, "3.7.3": false, "4.0.0": false, "3.6.0-rc.1": true,
	} {
		proxy := testenv.StartEtcdProxy(t, e.Members[0].Addr())
		proxy.SetVersion(version)
		d := testenv.Daemon(t, "serve", "--backend", proxy.URL())
		c := dial(t, d.Endpoint())
		hold(t, c, "a-"+version)
		eventually(t, "the status knows the version "+version, func() bool {
			b := backendOf(t, c)
			return len(b.GetServers()) == 1 && strings.Contains(b.GetServers()[0].GetVersion(), version)
		})
		if w := backendOf(t, c).GetServers()[0].GetWarnings(); (len(w) > 0) != old {
			t.Errorf("the warnings of %s are %q", version, w)
		}
		if old {
			eventually(t, "the log says that "+version+" is old", func() bool { return strings.Contains(d.Output(), version) })
		}
	}
}

// A lease that is held goes on over the loss of the leader, under its token.
func TestAHeldLeaseOutlivesALeader(t *testing.T) {
	t.Parallel()
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 3})
	c := dial(t, testenv.Daemon(t, "serve", "--backend", e.URL()).Endpoint())
	held := c.stream(t)
	held.send(t, &lockpb.AcquireRequest{LockId: "a", Ttl: seconds(45)})
	l := held.granted(t)
	e.Leader(t).Kill()
	for renewed := false; !renewed; {
		r, err := held.Recv()
		if err != nil {
			t.Fatal(err)
		}
		switch {
		case r.GetLost() != nil, r.GetError() != nil:
			t.Fatalf("after the loss of the leader: %v", r)
		case r.GetRenewed() != nil:
			if r.GetRenewed().GetFencingToken() != l.GetFencingToken() {
				t.Fatalf("renewed under another token: %v", r)
			}
			renewed = true
		}
	}
}
