package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"runtime"
	"slices"
	"strconv"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"golang.org/x/sys/unix"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// eventually polls until the condition holds.
func eventually(t *testing.T, what string, condition func() bool) {
	t.Helper()
	deadline := time.After(patience)
	tick := time.NewTicker(5 * time.Millisecond)
	defer tick.Stop()
	for !condition() {
		select {
		case <-tick.C:
		case <-deadline:
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
	}
}

// locked is a running locksidecar.
type locked struct {
	*exec.Cmd
	out, errs testenv.Output
	ended     chan struct{}
}

// environ is the test's environment with the endpoint, and with further
// variables.
func environ(endpoint string, more ...string) []string {
	return append(append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+endpoint), more...)
}

// begin starts a command line of locksidecar.
func begin(t *testing.T, endpoint string, args ...string) *locked {
	t.Helper()
	l := &locked{Cmd: exec.Command("locksidecar", args...), ended: make(chan struct{})}
	l.Env = environ(endpoint)
	l.Stdout, l.Stderr = &l.out, &l.errs
	l.run(t)
	return l
}

// run starts the command; at the test's end nothing of it is left.
func (l *locked) run(t *testing.T) {
	t.Helper()
	// PDEATHSIG is about the thread that forks.
	started := make(chan error, 1)
	if l.SysProcAttr == nil {
		l.SysProcAttr = &syscall.SysProcAttr{}
	}
	testenv.DieWithParent(l.SysProcAttr)
	go func() {
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := l.Start()
		started <- err
		if err == nil {
			_ = l.Wait() // the exit code tells
		}
		close(l.ended)
	}()
	if err := <-started; err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = l.Process.Signal(syscall.SIGCONT)
		_ = l.Process.Kill()
		<-l.ended
		if t.Failed() {
			t.Logf("%s printed:\n%s%s", strings.Join(l.Args, " "), l.out.String(), l.errs.String())
		}
	})
}

func (l *locked) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := l.Process.Signal(s); err != nil {
		t.Fatalf("%v: %v", s, err)
	}
}

// code waits for the end and returns the exit code, -1 for a signal's death.
func (l *locked) code(t *testing.T) int {
	t.Helper()
	select {
	case <-l.ended:
	case <-time.After(patience):
		t.Fatalf("%s did not end within %v", strings.Join(l.Args, " "), patience)
	}
	return l.ProcessState.ExitCode()
}

// says waits for a line of the command's output and returns what follows the
// word in it.
func (l *locked) says(t *testing.T, word string) string {
	t.Helper()
	var rest string
	eventually(t, fmt.Sprintf("the command says %q", word), func() bool {
		for line := range strings.Lines(l.out.String()) {
			if after, ok := strings.CutPrefix(line, word); ok && strings.HasSuffix(line, "\n") {
				rest = strings.TrimSpace(after)
				return true
			}
		}
		select {
		case <-l.ended:
			t.Fatalf("it ended with %d and never said %q:\n%s%s", l.ProcessState.ExitCode(), word, l.out.String(), l.errs.String())
		default:
		}
		return false
	})
	return rest
}

// pids waits for a line of process ids.
func (l *locked) pids(t *testing.T, word string) (pids []int) {
	t.Helper()
	for _, f := range strings.Fields(l.says(t, word)) {
		pid, err := strconv.Atoi(f)
		if err != nil {
			t.Fatal(err)
		}
		pids = append(pids, pid)
	}
	t.Cleanup(func() {
		for _, pid := range pids {
			if alive(pid) {
				_ = syscall.Kill(pid, syscall.SIGKILL) // the test has failed
			}
		}
	})
	return pids
}

// alive says whether a process runs: a zombie does not.
func alive(pid int) bool {
	p, ok := readProcess(pid)
	return ok && !p.dead()
}

// running are those of the processes that run.
func running(pids []int) []int {
	return slices.DeleteFunc(slices.Clone(pids), func(pid int) bool { return !alive(pid) })
}

func connect(t *testing.T, endpoint string) *client.Client {
	t.Helper()
	cl, err := client.New(endpoint)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = cl.Close() })
	return cl
}

func holder(t *testing.T, cl *client.Client, lock string) *lockpb.Holder {
	t.Helper()
	l, err := cl.Get(t.Context(), &lockpb.GetRequest{LockId: lock})
	if err != nil {
		t.Fatal(err)
	}
	if len(l.GetHolders()) == 0 {
		return nil
	}
	return l.GetHolders()[0]
}

// held waits until somebody holds the lock.
func held(t *testing.T, cl *client.Client, lock string) (h *lockpb.Holder) {
	t.Helper()
	eventually(t, lock+" is held", func() bool { h = holder(t, cl, lock); return h != nil })
	return h
}

func force(t *testing.T, cl *client.Client, lock string) {
	t.Helper()
	_, err := cl.ForceRelease(t.Context(), &lockpb.ForceReleaseRequest{
		LockId: lock, FencingToken: held(t, cl, lock).GetFencingToken(), Reason: "test",
	})
	if err != nil {
		t.Fatal(err)
	}
}

// next acquires the lock as the next holder and says what ran at that moment.
func next(t *testing.T, cl *client.Client, lock string, pids []int) (ran []int) {
	t.Helper()
	l, err := cl.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: lock, Wait: durationpb.New(patience)})
	ran = running(pids)
	if err != nil {
		t.Fatal(err)
	}
	_, err = cl.Release(t.Context(), &lockpb.ReleaseRequest{LockId: lock, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
	if err != nil {
		t.Fatal(err)
	}
	return ran
}

func dev(t *testing.T) (*testenv.Process, *client.Client) {
	t.Helper()
	d := testenv.Daemon(t, "dev")
	return d, connect(t, d.Endpoint())
}

// script writes a shell script and returns its path.
func script(t *testing.T, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "script")
	if err := os.WriteFile(path, []byte("#!/bin/bash\n"+text), 0o700); err != nil {
		t.Fatal(err)
	}
	return path
}

// socketPath is a path for a daemon that is started more than once.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "ls")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "api.sock")
}

// stalls watches how long this process, and so probably the machine, stands still.
// What it returns ends that and tells the longest time.
func stalls(t *testing.T) (longest func() time.Duration) {
	t.Helper()
	const every = 50 * time.Millisecond
	stop, ended := make(chan struct{}), make(chan time.Duration, 1)
	go func() {
		tick := time.NewTicker(every)
		defer tick.Stop()
		last, most := time.Now(), time.Duration(0)
		for {
			select {
			case <-tick.C:
				most, last = max(most, time.Since(last)-every), time.Now()
			case <-stop:
				ended <- max(most, time.Since(last)-every)
				return
			}
		}
	}()
	end := sync.OnceValue(func() time.Duration { close(stop); return <-ended })
	t.Cleanup(func() { end() })
	return end
}

// screen is a pseudo-terminal with somebody before it.
type screen struct {
	*locked
	pty *os.File
	tty *os.File
	buf testenv.Output
	at  int
}

// types sends what a person types.
func (s *screen) types(t *testing.T, text string) {
	t.Helper()
	if _, err := s.pty.WriteString(text); err != nil {
		t.Fatal(err)
	}
}

// shows waits until the screen shows the text, after what was waited for before.
func (s *screen) shows(t *testing.T, text string) {
	t.Helper()
	eventually(t, fmt.Sprintf("the screen shows %q", text), func() bool {
		i := strings.Index(s.buf.String()[s.at:], text)
		if i < 0 {
			return false
		}
		s.at += i + len(text)
		return true
	})
}

func (s *screen) modes(t *testing.T) *unix.Termios {
	t.Helper()
	m, err := unix.IoctlGetTermios(int(s.tty.Fd()), unix.TCGETS)
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// collect reads what the screen shows until the terminal is gone.
func (s *screen) collect() {
	buf := make([]byte, 4096)
	for {
		n, err := s.pty.Read(buf)
		_, _ = s.buf.Write(bytes.Clone(buf[:n]))
		if err != nil && !errors.Is(err, syscall.EINTR) {
			return
		}
	}
}

func secondsOf(n int) *durationpb.Duration { return durationpb.New(time.Duration(n) * time.Second) }
