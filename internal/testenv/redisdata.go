package testenv

import (
	"context"
	"errors"
	"fmt"
	"io"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// RestartEmpty kills the server, removes its data and starts it again on its
// port.
func (r *Redis) RestartEmpty(ctx context.Context) error {
	r.Kill()
	if err := os.RemoveAll(r.DataDir()); err != nil {
		return err
	}
	return r.start(ctx)
}

// Backup is a copy of a server's data at one moment.
type Backup struct{ dir string }

// Backup copies the server's data as it is now: its append-only file if it has
// one, else a snapshot that is written for it. It lives as long as the test.
func (r *Redis) Backup(t testing.TB) Backup {
	t.Helper()
	if r.o.AppendFsync == "" {
		r.Must(t, "SAVE")
	}
	b := Backup{dir: filepath.Join(t.TempDir(), "data")}
	if err := os.CopyFS(b.dir, os.DirFS(r.DataDir())); err != nil {
		t.Fatal(err)
	}
	return b
}

// RestartFrom kills the server and starts it again on its port with the data of
// a backup: what was written since is gone.
func (r *Redis) RestartFrom(ctx context.Context, b Backup) error {
	r.Kill()
	if err := os.RemoveAll(r.DataDir()); err != nil {
		return err
	}
	if err := os.CopyFS(r.DataDir(), os.DirFS(b.dir)); err != nil {
		return err
	}
	return r.start(ctx)
}

// Sleep makes the server's main thread sleep by DEBUG SLEEP, so that nothing is
// answered, while its sockets stay open. It returns once the command is sent;
// what is sent after it waits. The channel is closed when the server is awake.
// Unlike Pause it ends by itself.
func (r *Redis) Sleep(t testing.TB, d time.Duration) <-chan struct{} {
	t.Helper()
	conn, err := r.dial(fmt.Sprintf("DEBUG SLEEP %.6f\r\nQUIT", d.Seconds()))
	if err != nil {
		t.Fatal(err)
	}
	awake := make(chan struct{})
	go func() {
		defer close(awake)
		_, _ = io.Copy(io.Discard, conn) // QUIT ends it
		_ = conn.Close()
	}()
	t.Cleanup(func() {
		_ = conn.Close()
		<-awake
	})
	return awake
}

// Info is a section of INFO, field by field.
func (r *Redis) Info(ctx context.Context, section string) (map[string]string, error) {
	c := r.Client()
	defer func() { _ = c.Close() }()
	return info(ctx, c, section)
}

func info(ctx context.Context, c *redis.Client, section string) (map[string]string, error) {
	text, err := c.Info(ctx, section).Result()
	if err != nil {
		return nil, err
	}
	return fields(text), nil
}

// fields are the name:value lines of a text.
func fields(text string) map[string]string {
	m := make(map[string]string)
	for line := range strings.Lines(text) {
		if name, value, ok := strings.Cut(strings.TrimSpace(line), ":"); ok {
			m[name] = value
		}
	}
	return m
}

// ReplicaOf makes the server a replica of another and waits until it has its
// data.
func (r *Redis) ReplicaOf(t testing.TB, primary *Redis) {
	t.Helper()
	host, port, err := net.SplitHostPort(primary.Addr())
	if err != nil {
		t.Fatal(err)
	}
	r.Must(t, "REPLICAOF", host, port)
	r.WaitLinked(t)
}

// Promote makes a replica a primary.
func (r *Redis) Promote(t testing.TB) {
	t.Helper()
	r.Must(t, "REPLICAOF", "NO", "ONE")
}

// WaitLinked waits until the server is a replica whose primary sends it what it
// writes.
func (r *Redis) WaitLinked(t testing.TB) {
	t.Helper()
	wait(t, r.Addr()+" has no primary that sends", func(ctx context.Context) error {
		i, err := r.Info(ctx, "replication")
		if err == nil && (i["role"] != "slave" || i["master_link_status"] != "up" || i["master_sync_in_progress"] != "0") {
			err = fmt.Errorf("%v", i)
		}
		return err
	})
}

// WaitReplicated waits until n replicas have every write that the server has
// done so far.
func (r *Redis) WaitReplicated(t testing.TB, n int) {
	t.Helper()
	offset := int64(-1)
	wait(t, fmt.Sprintf("%s has not %d replicas with all of its writes", r.Addr(), n), func(ctx context.Context) error {
		i, err := r.Info(ctx, "replication")
		if err != nil {
			return err
		}
		if offset < 0 {
			if offset, err = strconv.ParseInt(i["master_repl_offset"], 10, 64); err != nil {
				return err
			}
		}
		level := 0
		for k := range n {
			replica := fields(strings.ReplaceAll(strings.ReplaceAll(i[fmt.Sprintf("slave%d", k)], "=", ":"), ",", "\n"))
			has, err := strconv.ParseInt(replica["offset"], 10, 64)
			if err == nil && replica["state"] == "online" && has >= offset {
				level++
			}
		}
		if level < n {
			return fmt.Errorf("%v", i)
		}
		return nil
	})
}

// waitTimeout is how long a deployment may take to get into a state.
const waitTimeout = 60 * time.Second

// wait asks until there is no error; each question is bounded.
func wait(t testing.TB, what string, ask func(ctx context.Context) error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	for {
		once, done := context.WithTimeout(ctx, 2*time.Second)
		err := ask(once)
		done()
		if err == nil {
			return
		}
		select {
		case <-ctx.Done():
			t.Fatalf("after %v: %s: %v", waitTimeout, what, errors.Join(err, ctx.Err()))
		case <-time.After(25 * time.Millisecond):
		}
	}
}
