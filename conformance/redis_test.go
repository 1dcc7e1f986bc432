package conformance_test

import (
	"context"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	client "github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// judged are the options of a driver that the suite judges: it asks often, and gives a
// call the time that a busy machine takes.
func judged(o redis.Options) redis.Options {
	o.MinTTL, o.Poll, o.Timeout, o.New = 400*time.Millisecond, 200*time.Millisecond, 15*time.Second, true
	return o
}

// onServers is a harness on the servers that have the locks.
func onServers(o redis.Options, servers func() []*testenv.Redis) conformance.Harness {
	o = judged(o)
	each := func(do func(*testenv.Redis) error) error {
		for _, r := range servers() {
			if err := do(r); err != nil {
				return err
			}
		}
		return nil
	}
	return conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return redis.New(o) },
		Wipe: func(ctx context.Context) error {
			return each(func(r *testenv.Redis) error { return wipe(ctx, r) })
		},
		Collect: func(ctx context.Context) error {
			return each(func(r *testenv.Redis) error { return collect(ctx, r) })
		},
	}
}

// wipe drops everything but the stamps, as by hand: without them nothing would be
// granted for as long as a lease of before may stand.
func wipe(ctx context.Context, server *testenv.Redis) error {
	c := server.Client()
	defer func() { _ = c.Close() }()
	keys := c.Scan(ctx, 0, "*", 1000).Iterator()
	for keys.Next(ctx) {
		if key := keys.Val(); !strings.HasSuffix(key, "}:z") && !strings.HasSuffix(key, ":store") {
			if err := c.Del(ctx, key).Err(); err != nil {
				return err
			}
		}
	}
	return keys.Err()
}

// onServer is a harness on one server, which can be frozen; in the clear it can lose
// replies.
func onServer(t *testing.T, o redis.Options, r *testenv.Redis) conformance.Harness {
	t.Helper()
	o.Client.Addr = r.Addr()
	h := onServers(o, func() []*testenv.Redis { return []*testenv.Redis{r} })
	h.Pause = func() (func() error, error) { return r.Resume, r.Pause() }
	if o.Client.TLSConfig == nil {
		h.Link = func(context.Context) (*conformance.Link, error) {
			p, through := testenv.StartProxy(t, r.Addr()), judged(o)
			through.Client.Addr = p.Addr()
			d, err := redis.New(through)
			return &conformance.Link{Driver: d, Cut: p.Cut, LoseReply: func(n int) { p.FailAt(n, testenv.BreakReply, "EVALSHA", "EVAL") }}, err
		}
	}
	return h
}

// document is a file of docs/redis.
func document(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile("../docs/redis/" + name)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// The documented user, on a server with the documented settings, by TLS with a
// client's certificate: it may do what the driver does, and nothing is in its
// list that the driver does not do.
func TestRedisTLSAsTheDocumentedUser(t *testing.T) {
	t.Parallel()
	authority := testenv.NewAuthority(t)
	shown := authority.Client(t, "locksidecar")
	acl := document(t, "users.acl")
	_, user, _ := strings.Cut(acl, "\n") // after the default user
	if told := document(t, "../redis.md"); !strings.Contains(told, "    "+user) {
		t.Errorf("docs/redis.md does not show the user:\n%s", user)
	}
	server := testenv.StartRedisWith(t, testenv.RedisOptions{
		TLS: &testenv.RedisTLS{Authority: authority, Server: authority.Server(t), Client: shown}, Users: acl, Config: document(t, "redis.conf"),
	})
	var o redis.Options
	var err error
	if o.Client.TLSConfig, err = authority.Config(shown); err != nil {
		t.Fatal(err)
	}
	o.Client.Username, o.Client.Password = "locksidecar", "change-me"
	certified(t, row{name: "redis-tls-acl", table: "redis-tls-acl", whole: true}, onServer(t, o, server))
	if *repeats > 0 {
		return // what follows is about the whole of the suite
	}
	rare(t, o, server)

	if denied := server.Must(t, "ACL", "LOG").([]any); len(denied) > 0 {
		t.Errorf("the user was denied: %v", denied)
	}
	used := server.Must(t, "INFO", "commandstats").(string)
	for command := range strings.FieldsSeq(acl) {
		if command, ok := strings.CutPrefix(command, "+"); ok && !strings.Contains(used, "cmdstat_"+command+":") {
			t.Errorf("the user may do %s, which the driver did not do", command)
		}
	}
}

// rare makes the driver do what the suite does not: it mends a place of which the
// server lost a part, and sends in full a script that is always unknown.
func rare(t *testing.T, o redis.Options, server *testenv.Redis) {
	t.Helper()
	o.Client.Addr = server.Addr()
	d, err := redis.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	acquire := func(request string) {
		t.Helper()
		if _, err := d.Acquire(t.Context(), &driver.AcquireRequest{
			LockID: "rare", OwnerID: request, RequestID: request, Key: driver.KeyOf(request), TTL: time.Minute, PlaceTTL: time.Minute, Enqueue: true,
		}); err != nil {
			t.Fatal(err)
		}
	}
	acquire("holder")
	acquire("waiter")
	for _, key := range server.Must(t, "KEYS", "*:d:rare").([]any) {
		server.Must(t, "DEL", key)
	}
	acquire("another")
	options := o.Client
	c := client.NewClient(&options)
	defer func() { _ = c.Close() }()
	if err := c.Eval(t.Context(), "return 1", nil).Err(); err != nil {
		t.Errorf("a script in full: %v", err)
	}
}

// Slots with locks of the suite's own move from one primary to the next all the
// time.
func TestRedisClusterWhileSlotsMove(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	h := onServers(redis.Options{Cluster: env.Addrs()}, func() []*testenv.Redis { return env.Nodes })
	// What changes the data from outside meets no slot in two places.
	var still sync.Mutex
	unmoved := func(do func(context.Context) error) func(context.Context) error {
		return func(ctx context.Context) error {
			still.Lock()
			defer still.Unlock()
			return do(ctx)
		}
	}
	h.Wipe, h.Collect = unmoved(h.Wipe), unmoved(h.Collect)

	ctx, stop := context.WithCancel(t.Context())
	var mover sync.WaitGroup
	moves := 0
	mover.Go(func() {
		for i := 0; ctx.Err() == nil; i++ {
			from, to := env.Nodes[i%3], env.Nodes[(i+1)%3]
			func() {
				still.Lock()
				defer still.Unlock()
				if slot, ok := busySlot(t, env, from); ok {
					m := env.BeginMove(t, slot, from, to)
					vouch(t, slot, from, to)
					m.Keys(t)
					m.End(t)
					moves++
				}
			}()
			select {
			case <-ctx.Done():
			case <-time.After(20 * time.Millisecond): // the pace, so that the suite gets on
			}
		}
	})
	certified(t, row{name: "redis-cluster-moving", table: "redis-cluster-moving", whole: true}, h)
	stop()
	mover.Wait()
	if moves < 10 {
		t.Errorf("only %d slots moved meanwhile", moves)
	}
	t.Logf("%d slots moved", moves)
}

// vouch stamps a slot that is about to move for its new owner, which will have all
// of its data: whoever does not know that would grant nothing for as long as a
// lease of before may stand. The old stamp goes at once, and before anything else
// of the slot, so that nobody meets it at the new owner.
func vouch(t *testing.T, slot int, from, to *testenv.Redis) {
	t.Helper()
	info, err := to.Info(t.Context(), "replication")
	if err != nil {
		t.Error(err)
	}
	c := to.Client()
	defer func() { _ = c.Close() }()
	for _, key := range from.Must(t, "CLUSTER", "GETKEYSINSLOT", slot, 1000).([]any) {
		if !strings.HasSuffix(key.(string), "}:z") {
			continue
		}
		stamp := from.Must(t, "GET", key).(string)
		_, rest, ok := strings.Cut(stamp, " ")
		if !ok {
			t.Errorf("the stamp is %q", stamp)
			continue
		}
		p := c.Pipeline()
		p.Do(t.Context(), "ASKING")
		p.Do(t.Context(), "SET", key, info["master_replid"]+" "+rest)
		if _, err := p.Exec(t.Context()); err != nil {
			t.Error(err)
		}
		from.Must(t, "DEL", key)
	}
}

// busySlot is the slot of any lock of a node.
func busySlot(t *testing.T, env *testenv.Cluster, r *testenv.Redis) (slot int, ok bool) {
	c := r.Client()
	defer func() { _ = c.Close() }()
	locks := c.Scan(t.Context(), 0, "*}:l:*", 1000).Iterator()
	if !locks.Next(t.Context()) {
		return 0, false
	}
	return env.KeySlot(t, locks.Val()), true
}

// collect drops the records of free locks, as the server does after their
// retention.
func collect(ctx context.Context, server *testenv.Redis) error {
	c := server.Client()
	defer func() { _ = c.Close() }()
	records := c.Scan(ctx, 0, "*:l:*", 1000).Iterator()
	for records.Next(ctx) {
		record := records.Val()
		holders, err := c.HGet(ctx, record, "h").Result()
		if err != nil {
			return err
		}
		if holders != "" {
			continue
		}
		if left, err := c.PTTL(ctx, record).Result(); err != nil || left <= 0 {
			return fmt.Errorf("the record %s would never be collected: %v, %w", record, left, err)
		}
		if err := c.Del(ctx, record).Err(); err != nil {
			return err
		}
	}
	return records.Err()
}
