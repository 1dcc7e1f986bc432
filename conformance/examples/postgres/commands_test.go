package postgres_test

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/remote"
)

// build builds one of the module's commands.
func build(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if out, err := exec.Command("go", "build", "-o", path, "./"+name).CombinedOutput(); err != nil {
		t.Fatalf("go build: %v\n%s", err, out)
	}
	return path
}

// The runner exits with 0 for a store that keeps what is tried, and with 2 for
// one that is not there.
func TestCertifyTellsAGreenRunFromNone(t *testing.T) {
	certify, s := build(t, "certify"), startServer(t)
	run := func() (string, int) {
		cmd := exec.Command(certify, "-o", "table", "-run", "^Exclusion/(Second|Try)", s.url("prefix=certify"))
		out, err := cmd.CombinedOutput()
		var exit *exec.ExitError
		if err != nil && !errors.As(err, &exit) {
			t.Fatal(err)
		}
		return string(out), cmd.ProcessState.ExitCode()
	}
	if out, code := run(); code != 0 || !strings.Contains(out, "2 passed, 0 failed, 0 skipped") {
		t.Errorf("exit %d:\n%s", code, out)
	}
	s.stop()
	if out, code := run(); code != 2 || !strings.Contains(out, driver.ErrUnavailable.Error()) {
		t.Errorf("exit %d at a server that is stopped:\n%s", code, out)
	}
}

// A sidecar that is composed of public packages passes what can be asked through
// its socket.
func TestSidecar(t *testing.T) {
	dir, err := os.MkdirTemp("", "lssc") // short: the path of a socket is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "api.sock")
	var log output
	cmd := exec.Command(build(t, "sidecar"), "-backend", startServer(t).url("timeout=15s", "poll=100ms"), "-socket", path)
	cmd.Stdout, cmd.Stderr = &log, &log
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case err := <-ended:
			if err != nil {
				t.Errorf("the sidecar ended: %v\n%s", err, &log)
			}
		case <-time.After(time.Minute):
			_ = cmd.Process.Kill()
			t.Errorf("the sidecar does not end\n%s", &log)
		}
	})
	h := remote.Harness("unix://" + path)
	serving(t, h, &log)
	report := conformance.Test(t, h, conformance.Options{Filter: regexp.MustCompile("^(Exclusion/[^HM]|Fencing/[^T]|Idempotence)")})
	same(t, "testdata/sidecar.txt", report.Summary())
}

// serving waits until a sidecar answers.
func serving(t *testing.T, h conformance.Harness, log *output) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		d, err := h.Open(ctx)
		if err == nil {
			tick.Stop()
			if err := d.Close(); err != nil {
				t.Error(err)
			}
			return
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the sidecar does not answer: %v\n%s", err, log)
		}
	}
}
