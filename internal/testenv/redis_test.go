package testenv

import (
	"context"
	"errors"
	"net"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// get is the value of a key, empty if there is none.
func get(t *testing.T, r *Redis, key string) string {
	t.Helper()
	c := r.Client()
	defer func() { _ = c.Close() }()
	value, err := c.Get(t.Context(), key).Result()
	if err != nil && !errors.Is(err, redis.Nil) {
		t.Fatal(err)
	}
	return value
}

func expect(t *testing.T, what, got, want string) {
	t.Helper()
	if got != want {
		t.Errorf("%s: got %q, want %q", what, got, want)
	}
}

func TestEditionsRestartAndPersistence(t *testing.T) {
	EachEdition(t, func(t *testing.T, e Edition) {
		t.Parallel()
		for _, o := range []RedisOptions{
			{Edition: e, AppendFsync: "always"},
			{Edition: e, AppendFsync: "everysec"},
			{Edition: e, Save: "1 1"},
			{Edition: e},
		} {
			r := StartRedisWith(t, o)
			r.Must(t, "SET", "k", "old")
			backup := r.Backup(t)
			r.Must(t, "SET", "k", "new")
			want := ""
			switch {
			case o.AppendFsync != "":
				// The kernel has what the process wrote; while it syncs the file, everysec
				// puts a write off.
				for deadline := time.Now().Add(waitTimeout); !strings.Contains(r.Must(t, "INFO", "persistence").(string), "aof_buffer_length:0\r"); time.Sleep(10 * time.Millisecond) {
					if time.Now().After(deadline) {
						t.Fatal("the append-only file is not written")
					}
				}
				want = "new"
			case o.Save != "":
				r.Must(t, "SAVE")
				want = "new"
			default:
				want = "old" // the backup's snapshot
			}
			for _, step := range []struct {
				name    string
				restart func() error
				want    string
			}{
				{"restart", func() error { return r.Restart(t.Context()) }, want},
				{"rolled back", func() error { return r.RestartFrom(t.Context(), backup) }, "old"},
				{"restart empty", func() error { return r.RestartEmpty(t.Context()) }, ""},
			} {
				if err := step.restart(); err != nil {
					t.Fatal(err)
				}
				expect(t, step.name, get(t, r, "k"), step.want)
			}
		}
	})
}

func TestMissingEditionIsAnError(t *testing.T) {
	e := Edition{name: "no-such-server"}
	if _, err := StartRedis(t.Context(), RedisOptions{Edition: e}); err == nil || !strings.Contains(err.Error(), "make system") {
		t.Errorf("got %v, want an error that names the command", err)
	}
}

func TestConfigFileIsKept(t *testing.T) {
	r := StartRedisWith(t, RedisOptions{Config: "maxclients 77\nsave \"\"\n"})
	expect(t, "maxclients", r.Must(t, "CONFIG", "GET", "maxclients").([]any)[1].(string), "77")
	r.Must(t, "CONFIG", "SET", "maxclients", "78")
	r.Must(t, "CONFIG", "REWRITE")
	if err := r.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	expect(t, "maxclients", r.Must(t, "CONFIG", "GET", "maxclients").([]any)[1].(string), "78")
}

func TestUnixSocketUsersPassword(t *testing.T) {
	r := StartRedisWith(t, RedisOptions{UnixSocket: true, Users: "user default off\nuser app on >secret ~app:* +@all -@dangerous"})
	c := redis.NewClient(&redis.Options{Network: "unix", Addr: r.Socket(), Username: "app", Password: "secret", MaxRetries: -1})
	defer func() { _ = c.Close() }()
	if err := c.Set(t.Context(), "app:k", "v", 0).Err(); err != nil {
		t.Error(err)
	}
	if err := c.Set(t.Context(), "other", "v", 0).Err(); !redis.HasErrorPrefix(err, "NOPERM") {
		t.Errorf("a key of others: %v", err)
	}
	expect(t, "as administrator", get(t, r, "app:k"), "v")

	p := StartRedisWith(t, RedisOptions{Password: "secret"})
	expect(t, "URL", p.URL(), "redis://:secret@"+p.Addr()+"?new=1")
	p.Must(t, "PING")
	bare := redis.NewClient(&redis.Options{Addr: p.Addr(), MaxRetries: -1})
	defer func() { _ = bare.Close() }()
	if err := bare.Get(t.Context(), "k").Err(); !redis.HasErrorPrefix(err, "NOAUTH") {
		t.Errorf("without a password: %v", err)
	}
}

func TestTLS(t *testing.T) {
	ca, other := NewAuthority(t), NewAuthority(t)
	open := func(server Certificate, client Certificate) *Redis {
		return StartRedisWith(t, RedisOptions{TLS: &RedisTLS{Authority: ca, Server: server, Client: client}})
	}
	app := ca.Client(t, "app")
	mutual, lax, expired := open(ca.Server(t), app), open(ca.Server(t), Certificate{}), open(ca.ExpiredServer(t), Certificate{})
	for _, row := range []struct {
		name  string
		r     *Redis
		trust *Authority
		shown []Certificate
		works bool
	}{
		{"server alone", lax, ca, nil, true},
		{"server of another authority", lax, other, nil, false},
		{"expired server", expired, ca, nil, false},
		{"client", mutual, ca, []Certificate{app}, true},
		{"no client", mutual, ca, nil, false},
		{"expired client", mutual, ca, []Certificate{ca.ExpiredClient(t, "app")}, false},
		{"client of another authority", mutual, ca, []Certificate{other.Client(t, "app")}, false},
	} {
		config, err := row.trust.Config(row.shown...)
		if err != nil {
			t.Fatal(err)
		}
		config.ServerName = "127.0.0.1"
		c := redis.NewClient(&redis.Options{Addr: row.r.Addr(), TLSConfig: config, MaxRetries: -1})
		if err := c.Ping(t.Context()).Err(); (err == nil) != row.works {
			t.Errorf("%s: %v", row.name, err)
		}
		_ = c.Close()
	}
	if !strings.HasPrefix(mutual.URL(), "rediss://") || !strings.Contains(mutual.URL(), "cert_file=") {
		t.Errorf("URL is %s", mutual.URL())
	}
}

func TestMaxMemory(t *testing.T) {
	r := StartRedisWith(t, RedisOptions{Args: []string{"--maxmemory", "100kb", "--maxmemory-policy", "noeviction"}})
	c := r.Client()
	defer func() { _ = c.Close() }()
	if err := c.Set(t.Context(), "k", "v", 0).Err(); !redis.HasErrorPrefix(err, "OOM") {
		t.Errorf("got %v, want OOM", err)
	}
}

func TestSleepAndPause(t *testing.T) {
	r := StartRedisT(t)
	ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	awake := r.Sleep(t, time.Second)
	c := r.Client()
	defer func() { _ = c.Close() }()
	if err := c.Ping(ctx).Err(); err == nil {
		t.Error("a sleeping server answers")
	}
	<-awake
	r.Must(t, "PING")

	if err := r.Pause(); err != nil {
		t.Fatal(err)
	}
	paused, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
	defer cancel()
	if err := c.Ping(paused).Err(); err == nil {
		t.Error("a paused server answers")
	}
	if err := r.Resume(); err != nil {
		t.Fatal(err)
	}
	r.Must(t, "PING")
}

func TestReplica(t *testing.T) {
	primary, replica := StartRedisT(t), StartRedisWith(t, RedisOptions{UnixSocket: true})
	primary.Must(t, "SET", "k", "v")
	replica.ReplicaOf(t, primary)
	expect(t, "first copy", get(t, replica, "k"), "v")
	primary.Must(t, "SET", "k", "w")
	primary.WaitReplicated(t, 1)
	expect(t, "after a write", get(t, replica, "k"), "w")
	conn, err := net.Dial("unix", replica.Socket())
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close()
	replica.Promote(t)
	replica.Must(t, "SET", "k", "x")
}
