package postgres_test

import (
	"context"
	"net/url"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"
)

// install is the command that installs what is missing.
const install = "apt-get install postgresql"

// server is a PostgreSQL of a test's own: a new cluster, reached by a Unix socket
// alone. It does not fsync: the suite is about what the driver decides, and kills
// no server.
type server struct {
	dir    string
	cmd    *exec.Cmd
	log    *output
	exited chan struct{}
}

// startServer starts a server for the length of a test.
func startServer(t *testing.T) *server {
	t.Helper()
	s := &server{log: &output{}, exited: make(chan struct{})}
	var err error
	// Short: the path of a socket is bounded.
	if s.dir, err = os.MkdirTemp("", "lspg"); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(s.dir) })
	as := unprivileged(t, s.dir)
	dieWithTest(as)
	data := filepath.Join(s.dir, "data")
	initdb := exec.Command(program(t, "initdb"), "-D", data, "-U", "locksidecar", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = s.dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.cmd = exec.Command(program(t, "postgres"), "-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300")
	s.cmd.Dir, s.cmd.SysProcAttr, s.cmd.Stdout, s.cmd.Stderr = s.dir, as, s.log, s.log
	started := make(chan error)
	go func() {
		defer close(s.exited)
		runtime.LockOSThread() // the server dies with this thread
		err := s.cmd.Start()
		started <- err
		if err == nil {
			_ = s.cmd.Wait()
		}
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(s.stop)
	s.await(t)
	return s
}

// await waits until the server answers.
func (s *server) await(t *testing.T) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		conn, err := pgx.Connect(ctx, s.url())
		if err == nil {
			tick.Stop()
			_ = conn.Close(ctx)
			return
		}
		select {
		case <-tick.C:
		case <-s.exited:
			t.Fatalf("postgres ended; it printed:\n%s", s.log)
		case <-ctx.Done():
			t.Fatalf("postgres does not answer: %v; it printed:\n%s", err, s.log)
		}
	}
}

// url is a backend URL of the server, with further parameters of the driver.
func (s *server) url(parameters ...string) string {
	return "postgres://locksidecar@/postgres?" + strings.Join(append(parameters, "host="+url.QueryEscape(s.dir)), "&")
}

// stop ends the server: at once, and for certain if it does not.
func (s *server) stop() {
	select {
	case <-s.exited:
		return
	default:
	}
	_ = s.resume()
	_ = s.cmd.Process.Signal(syscall.SIGQUIT)
	select {
	case <-s.exited:
	case <-time.After(20 * time.Second):
		_ = s.cmd.Process.Kill()
		<-s.exited
	}
}

// program is the path of one of PostgreSQL's, which Debian keeps out of PATH.
func program(t *testing.T, name string) string {
	t.Helper()
	if path, err := exec.LookPath(name); err == nil {
		return path
	}
	found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/" + name)
	if len(found) == 0 {
		t.Fatalf("%s is missing; install it by: %s", name, install)
	}
	return found[len(found)-1]
}

// output is what a process has printed so far.
type output struct {
	mu   sync.Mutex
	text strings.Builder
}

func (o *output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.Write(p)
}

func (o *output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.text.String()
}
