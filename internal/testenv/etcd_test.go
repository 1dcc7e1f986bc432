package testenv

import (
	"context"
	"errors"
	"os/exec"
	"slices"
	"strings"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
)

// value is the value of a key in an etcd, empty if there is none.
func value(t *testing.T, e *Etcd, key string) string {
	t.Helper()
	r, err := e.Client(t).Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return ""
	}
	return string(r.Kvs[0].Value)
}

func put(t *testing.T, e *Etcd, key, value string) (revision int64) {
	t.Helper()
	r, err := e.Client(t).Put(t.Context(), key, value)
	if err != nil {
		t.Fatal(err)
	}
	return r.Header.Revision
}

func TestEtcdRestartRestoreAndCompaction(t *testing.T) {
	t.Parallel()
	for _, members := range []int{1, 3} {
		e := StartEtcd(t, EtcdOptions{Members: members})
		put(t, e, "k", "old")
		old := e.Snapshot(t)
		last := put(t, e, "k", "new")
		for _, step := range []struct {
			name    string
			restart func() error
			want    string
		}{
			{"restart", func() error { return e.Restart(t.Context()) }, "new"},
			{"restart of a member", func() error { return e.Members[members-1].Restart(t.Context()) }, "new"},
			{"restored", func() error { return e.RestartFrom(t.Context(), old) }, "old"},
			{"restart empty", func() error { return e.RestartEmpty(t.Context()) }, ""},
			{"restored with a higher revision", func() error {
				return e.RestartFrom(t.Context(), old, "--bump-revision", "1000", "--mark-compacted")
			}, "old"},
		} {
			if err := step.restart(); err != nil {
				t.Fatalf("%s: %v", step.name, err)
			}
			expect(t, step.name, value(t, e, "k"), step.want)
		}
		if now := put(t, e, "k", "newest"); now <= last {
			t.Errorf("the revision is %d after %d", now, last)
		}
		at := e.Compact(t)
		_, err := e.Client(t).Get(t.Context(), "k", clientv3.WithRev(at-1))
		if !errors.Is(err, rpctypes.ErrCompacted) {
			t.Errorf("a read before the compaction: %v", err)
		}
		if keys := e.Keys(t, ""); !slices.Equal(keys, []string{"k"}) || len(e.Leases(t)) != 0 {
			t.Errorf("there are %v and leases %v", keys, e.Leases(t))
		}
	}
}

func TestEtcdLeaderAndMajority(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{Members: 3})
	put(t, e, "k", "1")
	old := e.Leader(t)
	old.Kill()
	next := e.Leader(t)
	if next == old {
		t.Fatal("a dead member leads")
	}
	put(t, e, "k", "2")

	if err := next.Pause(); err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := e.Client(t).Get(ctx, "k"); err == nil {
		t.Error("one member of three answers")
	}
	if err := next.Resume(); err != nil {
		t.Fatal(err)
	}
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "what was written", value(t, e, "k"), "2")
	if n := len(e.Followers(t)); n != 2 {
		t.Errorf("there are %d followers", n)
	}

	if err := e.Pause(); err != nil {
		t.Fatal(err)
	}
	paused, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	if _, err := e.Client(t).Get(paused, "k"); err == nil {
		t.Error("a paused etcd answers")
	}
	if err := e.Resume(); err != nil {
		t.Fatal(err)
	}
	expect(t, "after the pause", value(t, e, "k"), "2")
}

// The user may touch its prefix and nothing else, by its certificate or by its
// password; nobody else may touch anything.
func TestEtcdUsersAndTLS(t *testing.T) {
	t.Parallel()
	ca, other := NewAuthority(t), NewAuthority(t)
	app := ca.Client(t, "app")
	e := StartEtcd(t, EtcdOptions{
		TLS:   &EtcdTLS{Authority: ca, Server: ca.Server(t), Client: ca.Client(t, "nobody")},
		Users: []EtcdUser{{Name: "app", Prefix: "app/"}, {Name: "spoken", Password: "secret", Prefix: "spoken/"}},
	})
	if u := e.URL(); !strings.HasPrefix(u, "etcd://127.0.0.1:") || !strings.Contains(u, "cert_file=") || !strings.Contains(u, "ca_file=") {
		t.Errorf("the URL is %s", u)
	}
	for _, row := range []struct {
		name        string
		trust       *Authority
		shown       []Certificate
		user        string
		key         string
		works, seen bool // seen: there is a connection
	}{
		{"its prefix", ca, []Certificate{app}, "", "app/k", true, true},
		{"another prefix", ca, []Certificate{app}, "", "spoken/k", false, true},
		{"by password", ca, []Certificate{ca.Client(t, "nobody")}, "spoken", "spoken/k", true, true},
		{"by password, another prefix", ca, []Certificate{ca.Client(t, "nobody")}, "spoken", "app/k", false, true},
		{"an unknown name", ca, []Certificate{ca.Client(t, "nobody")}, "", "app/k", false, true},
		{"no certificate", ca, nil, "", "app/k", false, false},
		{"an expired certificate", ca, []Certificate{ca.ExpiredClient(t, "app")}, "", "app/k", false, false},
		{"a client of another authority", ca, []Certificate{other.Client(t, "app")}, "", "app/k", false, false},
		{"a server of another authority", other, []Certificate{app}, "", "app/k", false, false},
	} {
		config, err := row.trust.Config(row.shown...)
		if err != nil {
			t.Fatal(err)
		}
		o := clientv3.Config{Endpoints: e.Addrs(), TLS: config, Logger: zap.NewNop()}
		if row.user != "" {
			o.Username, o.Password = row.user, "secret"
		}
		c, err := clientv3.New(o)
		if err != nil {
			t.Fatalf("%s: %v", row.name, err)
		}
		patient := startTimeout
		if !row.seen {
			patient = patience // the client tries for as long as it may
		}
		ctx, cancel := context.WithTimeout(t.Context(), patient)
		_, err = c.Put(ctx, row.key, "v")
		cancel()
		if (err == nil) != row.works {
			t.Errorf("%s: %v", row.name, err)
		}
		if refused := errors.Is(err, rpctypes.ErrPermissionDenied) || errors.Is(err, rpctypes.ErrUserEmpty); !row.works && row.seen != refused {
			t.Errorf("%s: %v", row.name, err)
		}
		_ = c.Close()
	}
	expect(t, "as administrator", value(t, e, "app/k"), "v")
}

func TestEtcdctl(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{})
	put(t, e, "k", "v")
	e.EnableUsers(t)
	cmd := exec.Command(Etcdctl(t), "get", "--print-value-only", "k")
	cmd.Env = e.Environ(t)
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	expect(t, "etcdctl says", strings.TrimSpace(string(out)), "v")
}
