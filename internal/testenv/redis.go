package testenv

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisInstall is the command that installs what is missing.
const redisInstall = "apt-get install redis-server"

// startTimeout is how long a server may take to answer.
const startTimeout = 90 * time.Second

// Redis is a redis-server on a free port of loopback, without persistence
// unless its options ask for it.
type Redis struct {
	*Process
	dir  string
	port int
	bus  int // the port of a Cluster's bus
	o    RedisOptions
}

// StartRedis starts a server and waits until it answers.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	if err := o.Edition.Missing(); err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "lsredis")
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir, o: o}
	for range 5 { // a port may be taken between the look and the bind
		if r.port, r.bus, err = freePorts(); err != nil {
			break
		}
		if err = r.start(ctx); err == nil {
			return r, nil
		}
	}
	_ = os.RemoveAll(dir)
	return nil, err
}

// StartRedisT starts a server for the length of a test, with further arguments
// of redis-server.
func StartRedisT(t testing.TB, args ...string) *Redis {
	t.Helper()
	return StartRedisWith(t, RedisOptions{Args: args})
}

// StartRedisWith starts a server with options for the length of a test.
func StartRedisWith(t testing.TB, o RedisOptions) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := r.Stop(); err != nil {
			t.Error(err)
		}
	})
	return r
}

func (r *Redis) start(ctx context.Context) error {
	cmd, err := r.command()
	if err != nil {
		return err
	}
	if r.Process, err = run(cmd); err != nil {
		return err
	}
	c := r.Client()
	defer func() { _ = c.Close() }()
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	for c.Ping(ctx).Err() != nil {
		select {
		case <-r.ended:
			return fmt.Errorf("redis-server ended: %w; it printed:\n%s", r.err, r.Output())
		case <-ctx.Done():
			r.Kill()
			return fmt.Errorf("redis-server does not answer; it printed:\n%s", r.Output())
		case <-time.After(10 * time.Millisecond):
		}
	}
	return nil
}

// Addr is host:port.
func (r *Redis) Addr() string { return net.JoinHostPort("127.0.0.1", strconv.Itoa(r.port)) }

// Client is a new client of the server, for the test's own commands: it may do
// everything.
func (r *Redis) Client() *redis.Client { return redis.NewClient(r.clientOptions()) }

// Must runs a command on the server.
func (r *Redis) Must(t testing.TB, args ...any) any {
	t.Helper()
	c := r.Client()
	defer func() { _ = c.Close() }()
	reply, err := c.Do(t.Context(), args...).Result()
	if err != nil {
		t.Fatalf("redis: %v: %v", args, err)
	}
	return reply
}

// Monitor collects, until the test ends, every command that the server runs.
func (r *Redis) Monitor(t testing.TB) *Output {
	t.Helper()
	conn, err := r.dial("MONITOR")
	if err != nil {
		t.Fatal(err)
	}
	out, done := &Output{}, make(chan struct{})
	go func() {
		defer close(done)
		buf := make([]byte, 64<<10)
		for {
			n, err := conn.Read(buf)
			_, _ = out.Write(buf[:n]) // it never fails
			if err != nil {
				return
			}
		}
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-done
	})
	return out
}

// Restart kills the server and starts it again on its port, with what its
// persistence kept of the data: without persistence, empty.
func (r *Redis) Restart(ctx context.Context) error {
	r.Kill()
	return r.start(ctx)
}

// Stop ends the server and removes its directory.
func (r *Redis) Stop() error {
	err := r.Process.Stop()
	return errors.Join(err, os.RemoveAll(r.dir))
}

// freePorts are two ports that nobody listens on, below those that the system gives
// to whoever asks for any: a server that restarts finds its own free.
func freePorts() (a, b int, err error) {
	const first, last = 10_000, 32_000
	var ports []int
	for range 100 {
		port := first + rand.IntN(last-first)
		l, taken := net.Listen("tcp", net.JoinHostPort("127.0.0.1", strconv.Itoa(port)))
		if taken != nil {
			err = taken
			continue
		}
		defer func() { _ = l.Close() }() // held until both are known, so that they differ
		if ports = append(ports, port); len(ports) == 2 {
			return ports[0], ports[1], nil
		}
	}
	return 0, 0, fmt.Errorf("no two ports from %d to %d are free: %w", first, last, err)
}
