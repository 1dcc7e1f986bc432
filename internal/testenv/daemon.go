package testenv

import (
	"errors"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"
)

// module is the path of the command to build, by its import path: a test may
// run in any directory of the module.
const module = "github.com/locksidecar/locksidecar/cmd/locksidecar"

// build builds the command where every test process finds it: the first one
// links it, the others wait for that and find it up to date.
var build = sync.OnceValues(func() (string, error) {
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	dir := filepath.Join(root, "build", "test")
	if err := os.MkdirAll(dir, 0o750); err != nil {
		return "", err
	}
	unlock, err := lock(filepath.Join(dir, "lock"))
	if err != nil {
		return "", err
	}
	defer unlock()
	path := filepath.Join(dir, "locksidecar")
	if out, err := exec.Command("go", "build", "-o", path, module).CombinedOutput(); err != nil {
		return "", fmt.Errorf("building %s: %w\n%s", module, err, out)
	}
	return path, nil
})

// lock waits until no other process has the file.
func lock(file string) (unlock func(), err error) {
	f, err := os.OpenFile(file, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX); err != nil {
		return nil, errors.Join(fmt.Errorf("locking %s: %w", file, err), f.Close())
	}
	return func() { _ = f.Close() }, nil
}

// Binary is the path of the command, built of the sources as they are.
func Binary(t testing.TB) string {
	t.Helper()
	path, err := build()
	if err != nil {
		t.Fatal(err)
	}
	return path
}

// Daemon starts the command as a daemon, on a socket of its own unless the
// arguments name one, waits until the socket answers and stops it when the test
// ends.
func Daemon(t testing.TB, args ...string) *Process {
	t.Helper()
	return DaemonOf(t, Binary(t), args...)
}

// DaemonOf is Daemon of another build of the command.
func DaemonOf(t testing.TB, binary string, args ...string) *Process {
	t.Helper()
	path := ""
	for i, a := range args {
		if a == "--socket" && i+1 < len(args) {
			path = args[i+1]
		}
	}
	if path == "" {
		dir, err := os.MkdirTemp("", "lsd") // short: a socket's path is bounded
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = os.RemoveAll(dir) })
		path = filepath.Join(dir, "run", "api.sock")
		args = append(args, "--socket", path)
	}
	p, err := run(exec.Command(binary, args...))
	if err != nil {
		t.Fatal(err)
	}
	p.endpoint = "unix://" + path
	t.Cleanup(func() {
		select {
		case <-p.ended: // the test ended it
		default:
			if err := p.Stop(); err != nil {
				t.Error(err)
			}
		}
		if t.Failed() {
			t.Logf("locksidecar %s printed:\n%s", strings.Join(args, " "), p.Output())
		}
	})
	deadline := time.After(startTimeout)
	for {
		conn, err := net.Dial("unix", path)
		if err == nil {
			_ = conn.Close()
			return p
		}
		select {
		case <-p.ended:
			t.Fatalf("locksidecar %s ended: %v; it printed:\n%s", strings.Join(args, " "), p.err, p.Output())
		case <-deadline:
			t.Fatalf("locksidecar %s does not listen at %s; it printed:\n%s", strings.Join(args, " "), path, p.Output())
		case <-time.After(5 * time.Millisecond):
		}
	}
}

// Python is the interpreter in which the example package is installed.
func Python(t testing.TB) string {
	t.Helper()
	return prepared(t, "LOCKSIDECAR_TEST_PYTHON", "examples/python/.venv/bin/python", "make python-setup")
}

// Node is the interpreter of JavaScript.
func Node(t testing.TB) string {
	t.Helper()
	prepared(t, "LOCKSIDECAR_TEST_NODE_APP", "examples/node/dist/hold.js", "make node-setup")
	path, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("node is needed: %v; install it by: apt-get install nodejs npm", err)
	}
	return path
}

// ToolsDir holds the tools that the snippets of the documents use.
func ToolsDir(t testing.TB) string {
	t.Helper()
	return filepath.Dir(prepared(t, "LOCKSIDECAR_TEST_GRPCURL", "build/tools/grpcurl", "make tools"))
}

// Promtool is Prometheus's tool that checks metrics, rules and expressions.
func Promtool(t testing.TB) string {
	t.Helper()
	return prepared(t, "LOCKSIDECAR_TEST_PROMTOOL", "build/tools/promtool", "make system")
}

// Helm is the program that renders and installs the chart.
func Helm(t testing.TB) string {
	t.Helper()
	return prepared(t, "LOCKSIDECAR_TEST_HELM", "build/tools/helm", "make tools")
}

// prepared is a file of the repository that a make target makes, or the one
// that the variable names.
func prepared(t testing.TB, variable, file, target string) string {
	t.Helper()
	path := os.Getenv(variable)
	if path == "" {
		root, err := moduleRoot()
		if err != nil {
			t.Fatal(err)
		}
		path = filepath.Join(root, file)
	}
	if _, err := os.Stat(path); err != nil { //nolint:gosec // whoever runs the tests names the file
		t.Fatalf("%v; make it by: %s", err, target)
	}
	return path
}

// moduleRoot is the directory of the repository.
var moduleRoot = sync.OnceValues(func() (string, error) {
	out, err := exec.Command("go", "list", "-m", "-f", "{{.Dir}}").Output()
	return strings.TrimSpace(string(out)), err
})
