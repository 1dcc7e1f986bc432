package testenv

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// redisInstall is the command that installs what is missing.
const redisInstall = "apt-get install redis-server"

// startTimeout is how long a server may take to answer.
const startTimeout = 20 * time.Second

// RedisOptions configure a redis-server.
type RedisOptions struct {
	// Args are further arguments of redis-server.
	Args []string
}

// Redis is a redis-server on a free port of loopback, without persistence.
type Redis struct {
	*Process
	dir  string
	port int
	o    RedisOptions
}

// StartRedis starts a server and waits until it answers.
func StartRedis(ctx context.Context, o RedisOptions) (*Redis, error) {
	dir, err := os.MkdirTemp("", "lsredis")
	if err != nil {
		return nil, err
	}
	r := &Redis{dir: dir, o: o}
	for range 5 { // a port may be taken between the look and the bind
		if r.port, err = freePort(); err != nil {
			break
		}
		if err = r.start(ctx); err == nil {
			return r, nil
		}
		if errors.Is(err, exec.ErrNotFound) {
			break
		}
	}
	_ = os.RemoveAll(dir)
	return nil, err
}

// StartRedisT starts a server for the length of a test.
func StartRedisT(t testing.TB) *Redis {
	t.Helper()
	r, err := StartRedis(t.Context(), RedisOptions{})
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
	path, err := exec.LookPath("redis-server")
	if err != nil {
		return fmt.Errorf("redis-server is needed: %w; install it by: %s", err, redisInstall)
	}
	args := append([]string{
		"--port", strconv.Itoa(r.port), "--bind", "127.0.0.1", "--dir", r.dir, "--save", "", "--appendonly", "no", "--daemonize", "no",
	}, r.o.Args...)
	if r.Process, err = run(exec.Command(path, args...)); err != nil {
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

// URL is the server's backend URL.
func (r *Redis) URL() string { return "redis://" + r.Addr() }

// Client is a new client of the server, for the test's own commands.
func (r *Redis) Client() *redis.Client {
	return redis.NewClient(&redis.Options{Addr: r.Addr(), MaxRetries: -1, Protocol: 2, DisableIdentity: true})
}

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
	conn, err := net.Dial("tcp", r.Addr())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := conn.Write([]byte("MONITOR\r\n")); err != nil {
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

// Restart kills the server and starts it again on its port, empty.
func (r *Redis) Restart(ctx context.Context) error {
	r.Kill()
	return r.start(ctx)
}

// Stop ends the server and removes its directory.
func (r *Redis) Stop() error {
	err := r.Process.Stop()
	return errors.Join(err, os.RemoveAll(r.dir))
}

func freePort() (int, error) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		return 0, err
	}
	defer func() { _ = l.Close() }()
	return l.Addr().(*net.TCPAddr).Port, nil
}
