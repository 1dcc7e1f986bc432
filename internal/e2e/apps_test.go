package e2e

import (
	"bufio"
	"encoding/json"
	"io"
	"os/exec"
	"path/filepath"
	"strconv"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// languages are those of the example programs, which take the same arguments
// and print the same events.
var languages = []string{"python", "node"}

// event is a line that an example program prints.
type event struct {
	Event  string `json:"event"`
	Token  string `json:"fencing_token"`
	Reason string `json:"reason"`
	Status int    `json:"status"`
}

// app is an example program at work.
type app struct {
	*exec.Cmd
	stdin  io.WriteCloser
	events chan event
}

// startApp runs an example program on a sidecar.
func startApp(t *testing.T, language, endpoint string, args ...string) *app {
	t.Helper()
	var argv []string
	switch language {
	case "python":
		argv = []string{testenv.Python(t), filepath.Join(root, "examples/python/hold.py")}
	case "node":
		argv = []string{testenv.Node(t), filepath.Join(root, "examples/node/dist/hold.js")}
	}
	argv = append(argv, "--endpoint", endpoint)
	argv = append(argv, args...)
	a := &app{Cmd: exec.Command(argv[0], argv[1:]...), events: make(chan event, 1024)}
	a.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	stdin, err := a.StdinPipe()
	if err != nil {
		t.Fatal(err)
	}
	a.stdin = stdin
	stdout, err := a.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	var stderr testenv.Output
	a.Stderr = &stderr
	if err := a.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(a.events)
		lines := bufio.NewScanner(stdout)
		for lines.Scan() {
			var e event
			if json.Unmarshal(lines.Bytes(), &e) == nil {
				a.events <- e
			}
		}
	}()
	t.Cleanup(func() {
		_ = a.Process.Kill()
		_ = a.Wait()
		if t.Failed() {
			t.Logf("%s %v wrote to stderr:\n%s", language, args, stderr.String())
		}
	})
	return a
}

// next returns the next event.
func (a *app) next(t *testing.T) event {
	t.Helper()
	select {
	case e, open := <-a.events:
		if !open {
			t.Fatal("the program ended before its next event")
		}
		return e
	case <-time.After(patience):
		t.Fatalf("no event within %v", patience)
	}
	return event{}
}

// expect returns the next event, which must be of the kind.
func (a *app) expect(t *testing.T, kind string) event {
	t.Helper()
	e := a.next(t)
	if e.Event != kind {
		t.Fatalf("event %+v, want %q", e, kind)
	}
	return e
}

// finish waits for the end of a program that ends by itself.
func (a *app) finish(t *testing.T) {
	t.Helper()
	for range a.events { // drained so that the program can write
	}
	if err := a.Wait(); err != nil {
		t.Fatalf("the program failed: %v", err)
	}
}

func (a *app) signal(t *testing.T, s syscall.Signal) {
	t.Helper()
	if err := a.Process.Signal(s); err != nil {
		t.Fatal(err)
	}
}

// write asks the program for a guarded write.
func (a *app) write(t *testing.T, value string) {
	t.Helper()
	if _, err := io.WriteString(a.stdin, value+"\n"); err != nil {
		t.Fatal(err)
	}
}

func itoa(n int64) string { return strconv.FormatInt(n, 10) }
