package redis

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func TestAServerThatEvictsIsRefused(t *testing.T) {
	server := testenv.StartRedisT(t, "--maxmemory", "100mb", "--maxmemory-policy", "allkeys-lru")
	s := openURL(t, server.URL())
	for name, call := range map[string]func() error{
		"acquire": func() error { _, err := s.Acquire(t.Context(), request("a", "r")); return err },
		"ping":    func() error { return s.Ping(t.Context()) },
		"list":    func() error { _, err := s.List(t.Context(), &driver.ListRequest{PageSize: 1}); return err },
		"sweep":   func() error { _, err := s.Sweep(t.Context()); return err },
	} {
		if err := call(); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "allkeys-lru") || !strings.Contains(err.Error(), "allow_eviction=1") {
			t.Errorf("%s: %v, want ErrUnavailable that names the policy and the way out", name, err)
		}
	}
	if d := s.Describe(); len(d) != 1 || !strings.Contains(d[0].Refused, "allkeys-lru") || d[0].EvictionPolicy != "allkeys-lru" {
		t.Errorf("the server is described as %+v", d)
	}
	allowed := openURL(t, server.URL("allow_eviction=1"))
	granted(t, allowed, request("a", "r"))
	if d := allowed.Describe(); d[0].Refused != "" || !strings.Contains(strings.Join(d[0].Warnings, "\n"), "evict") {
		t.Errorf("the allowed server is described as %+v", d)
	}
	// It is asked again by the next connection.
	server.Must(t, "CONFIG", "SET", "maxmemory-policy", "noeviction")
	granted(t, s, request("b", "r"))
	if d := s.Describe(); d[0].Refused != "" || d[0].EvictionPolicy != "noeviction" {
		t.Errorf("the server is described as %+v", d)
	}
}

func TestServersAreDescribed(t *testing.T) {
	testenv.EachEdition(t, func(t *testing.T, e testenv.Edition) {
		server := testenv.StartRedisWith(t, testenv.RedisOptions{Edition: e, AppendFsync: "always"})
		s := openURL(t, server.URL())
		if d := s.Describe(); len(d) != 1 || d[0].Address != server.Addr() || d[0].Role != "" || !d[0].CheckedAt.IsZero() {
			t.Errorf("before the first connection: %+v", d)
		}
		granted(t, s, request("a", "r"))
		info, err := server.Info(t.Context(), "all")
		if err != nil {
			t.Fatal(err)
		}
		d := s.Describe()[0]
		program, version := "Redis ", info["redis_version"]
		if v := info["valkey_version"]; v != "" {
			program, version = "Valkey ", v
		}
		if d.Role != "primary" || d.Version != program+version || d.RunID != info["run_id"] || d.EvictionPolicy != "noeviction" ||
			d.Persistence != "append-only file" || len(d.Warnings) != 0 || d.CheckedAt.IsZero() {
			t.Errorf("the server is described as %+v", d)
		}
		if id := s.topology.route(0).told.Load(); id.replID != info["master_replid"] || id.readAt == 0 {
			t.Errorf("its replication is %+v, want %s", id, info["master_replid"])
		}
	})
}

// A server that says by no INFO who it is might evict, and might be a replica.
func TestAServerThatMayNotSayWhoItIsIsRefused(t *testing.T) {
	server := testenv.StartRedisT(t)
	server.Must(t, "ACL", "SETUSER", "app", "on", ">hunter2", "~*", "&*", "+@all", "-info")
	s := openURL(t, "redis://app:hunter2@"+server.Addr())
	_, err := s.Acquire(t.Context(), request("a", "r"))
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "INFO") || strings.Contains(err.Error(), "hunter2") {
		t.Errorf("acquire: %v", err)
	}
}

// documentedUser is the rules of the documented user.
func documentedUser(t *testing.T) []any {
	t.Helper()
	raw, err := os.ReadFile("../../docs/redis/users.acl")
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if f := strings.Fields(line); len(f) > 2 && f[1] == "locksidecar" {
			rules := []any{"ACL", "SETUSER"}
			for _, rule := range f[1:] {
				rules = append(rules, rule)
			}
			return rules
		}
	}
	t.Fatal("there is no such user")
	return nil
}

func TestTheDocumentedUserOnACluster(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	for _, r := range env.Nodes {
		r.Must(t, append(documentedUser(t), "+cluster|slots", "+asking")...)
	}
	s := openURL(t, strings.Replace(env.URL("timeout=20s"), "//", "//locksidecar:change-me@", 1))
	for i := range 20 {
		r := request(fmt.Sprint("a", i), "r")
		release(t, s, r, eventually(t, s, r))
	}
	// A slot of which nothing has moved is asked for at both.
	lock := lockIn(t, s, env.Nodes[0], "asked")
	m := env.BeginMove(t, int(s.slot(shardOf(lock))), env.Nodes[0], env.Nodes[1])
	ended := make(chan error, 1)
	s.AcquireAsync(t.Context(), request(lock, "r"), func(_ *driver.AcquireResult, err error) { ended <- err })
	m.Keys(t) // while one of the keys is there, the old owner says TRYAGAIN
	until(t, "the new owner is asked", func() bool {
		return strings.Contains(env.Nodes[1].Must(t, "INFO", "commandstats").(string), "cmdstat_asking:")
	})
	m.End(t)
	if err := <-ended; err != nil && !errors.Is(err, driver.ErrQuarantined) {
		t.Errorf("an acquire during a move: %v", err)
	}
	for _, r := range env.Nodes {
		if denied := r.Must(t, "ACL", "LOG").([]any); len(denied) > 0 {
			t.Errorf("the user was denied: %v", denied)
		}
	}
}

func TestWaitForReplicas(t *testing.T) {
	primary, replica := testenv.StartRedisT(t), testenv.StartRedisT(t)
	replica.ReplicaOf(t, primary)
	replica.WaitLinked(t)
	primary.Must(t, append(documentedUser(t), "+wait")...)
	open := func(timeout string) *Store {
		return openURL(t, "redis://locksidecar:change-me@"+primary.Addr()+"?wait_replicas=1&timeout="+timeout)
	}
	patient, s := open("20s"), open("4s")
	r := request("a", "r")
	l := granted(t, patient, r)
	if n := replica.Must(t, "EXISTS", s.shardPrefix(shardOf("a"))+"l:a"); n != int64(1) {
		t.Error("the replica does not have a lease that was granted")
	}
	if err := replica.Pause(); err != nil {
		t.Fatal(err)
	}
	for name, call := range map[string]func() error{
		"acquire":    func() error { _, err := s.Acquire(t.Context(), request("b", "r")); return err },
		"its repeat": func() error { _, err := s.Acquire(t.Context(), request("a", "r")); return err },
		"renewal": func() error {
			_, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
			return err
		},
		"many at once": func() error {
			return s.RenewMany(t.Context(), []driver.RenewRequest{{LeaseRef: refOf(r, l), TTL: time.Minute}})[0].Err
		},
	} {
		if err := call(); !errors.Is(err, driver.ErrIndeterminate) || !strings.Contains(err.Error(), "replicas") {
			t.Errorf("%s without the replica: %v, want ErrIndeterminate", name, err)
		}
	}
	if err := replica.Resume(); err != nil {
		t.Fatal(err)
	}
	granted(t, patient, request("a", "r"))
}
