package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net/url"
	"os"
	"os/exec"
	"os/user"
	"path/filepath"
	"strconv"
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
	data := filepath.Join(s.dir, "data")
	initdb := exec.Command(program(t, "initdb"), "-D", data, "-U", "locksidecar", "-A", "trust", "-E", "UTF8", "--locale=C", "--no-sync")
	initdb.Dir, initdb.SysProcAttr = s.dir, as
	if out, err := initdb.CombinedOutput(); err != nil {
		t.Fatalf("initdb: %v\n%s", err, out)
	}
	s.cmd = exec.Command(program(t, "postgres"), "-D", data, "-k", s.dir, "-c", "listen_addresses=", "-c", "fsync=off", "-c", "max_connections=300")
	s.cmd.Dir, s.cmd.SysProcAttr, s.cmd.Stdout, s.cmd.Stderr = s.dir, as, s.log, s.log
	if err := s.cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(s.exited)
		_ = s.cmd.Wait()
	}()
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

// pause freezes the server: the process that starts others first, then those.
func (s *server) pause() error { return s.signal(syscall.SIGSTOP, false) }

// resume lets it go on, in the reverse order.
func (s *server) resume() error { return s.signal(syscall.SIGCONT, true) }

func (s *server) signal(sig syscall.Signal, reverse bool) error {
	own := func() error { return s.cmd.Process.Signal(sig) }
	rest := func() (err error) {
		for _, pid := range children(s.cmd.Process.Pid) {
			if e := syscall.Kill(pid, sig); e != nil && !errors.Is(e, syscall.ESRCH) {
				err = errors.Join(err, fmt.Errorf("signal to %d: %w", pid, e))
			}
		}
		return err
	}
	if reverse {
		return errors.Join(rest(), own())
	}
	return errors.Join(own(), rest())
}

// children are the processes whose parent is pid.
func children(pid int) (pids []int) {
	stats, _ := filepath.Glob("/proc/[0-9]*/stat")
	for _, file := range stats {
		raw, err := os.ReadFile(file)
		if err != nil {
			continue // it has ended
		}
		// The name may contain anything, and ends with the last parenthesis.
		fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
		if child, err := strconv.Atoi(filepath.Base(filepath.Dir(file))); err == nil && len(fields) > 1 && fields[1] == strconv.Itoa(pid) {
			pids = append(pids, child)
		}
	}
	return pids
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

// unprivileged is how to run a server: one of PostgreSQL refuses to be root, so
// for root it is the package's user, who gets the directory.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	as := &syscall.SysProcAttr{}
	if os.Getuid() != 0 {
		return as
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("root needs the package's user: %v; install it by: %s", err, install)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as
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
