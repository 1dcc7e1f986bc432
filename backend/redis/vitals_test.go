package redis

import (
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func TestVitalsAreReadFromInfo(t *testing.T) {
	for name, c := range map[string]struct {
		info string
		want driver.Vitals
	}{
		"alone, by the machine's memory": {
			"# Replication\r\nrole:master\r\nconnected_slaves:0\r\n# Memory\r\nused_memory:1000\r\nmaxmemory:0\r\ntotal_system_memory:4000\r\n",
			driver.Vitals{Replicates: true, MemoryUsed: .25},
		},
		"the slowest of those that are online": {
			"role:master\r\nslave0:ip=::1,port=1,state=online,offset=1,lag=1\r\nslave1:ip=::1,port=2,state=online,offset=1,lag=7\r\n" +
				"slave2:ip=::1,port=3,state=wait_bgsave,offset=0,lag=99\r\nslave_read_only:1\r\nused_memory:30\r\nmaxmemory:40\r\ntotal_system_memory:4000\r\n",
			driver.Vitals{Replicates: true, Replicas: 2, ReplicationLag: 7 * time.Second, MemoryUsed: .75},
		},
		"it does not tell": {"", driver.Vitals{}},
		"nonsense":         {"slave0:lag=x,state\r\nused_memory:much\r\nmaxmemory:-\r\n", driver.Vitals{}},
	} {
		if got := vitals(c.info); got != c.want {
			t.Errorf("%s: %+v, want %+v", name, got, c.want)
		}
	}
}

// A replica that is stopped falls behind, and the server says so.
func TestMeasuresAServerWithAReplica(t *testing.T) {
	primary := testenv.StartRedisT(t)
	replica := testenv.StartRedisT(t)
	primary.Must(t, "config", "set", "maxmemory", "100mb")
	s := measured(t, primary)
	v, err := s.Measure(t.Context())
	if err != nil || !v.Replicates || v.Replicas != 0 || v.MemoryUsed <= 0 || v.MemoryUsed >= 1 {
		t.Errorf("alone: %+v, %v", v, err)
	}
	replica.ReplicaOf(t, primary)
	primary.WaitReplicated(t, 1)
	if v, err = s.Measure(t.Context()); err != nil || v.Replicas != 1 || v.ReplicationLag > 5*time.Second {
		t.Errorf("with a replica: %+v, %v", v, err)
	}
	if err := syscall.Kill(replica.Pid(), syscall.SIGSTOP); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = syscall.Kill(replica.Pid(), syscall.SIGCONT) })
	deadline := time.Now().Add(time.Minute)
	for v.ReplicationLag < 3*time.Second {
		if v, err = s.Measure(t.Context()); err != nil || time.Now().After(deadline) {
			t.Fatalf("with a replica that hangs: %+v, %v", v, err)
		}
		time.Sleep(50 * time.Millisecond)
	}
	if err := s.Close(); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Measure(t.Context()); err == nil {
		t.Error("a closed driver measured")
	}
}

func measured(t *testing.T, server *testenv.Redis) *Store {
	t.Helper()
	o := Options{}
	o.Client.Addr = server.Addr()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	return s
}
