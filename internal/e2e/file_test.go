package e2e

import (
	"context"
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// startRefused starts a daemon that must end by itself, and returns what it says.
func startRefused(t *testing.T, url string) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsfile") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	ctx, cancel := context.WithTimeout(t.Context(), patience)
	defer cancel()
	out, err := exec.CommandContext(ctx, testenv.Binary(t), "serve", "--backend", url, "--socket", filepath.Join(dir, "api.sock")).CombinedOutput()
	var exit *exec.ExitError
	if !errors.As(err, &exit) || exit.ExitCode() != 69 {
		t.Errorf("serve --backend %s ended with %v, want exit code 69; it printed:\n%s", url, err, out)
	}
	return string(out)
}

// A file is for one daemon; the next one gets it, with the leases, when that one
// is gone, however it went.
func TestAFileIsForOneDaemon(t *testing.T) {
	path := filepath.Join(t.TempDir(), "new", "locks.db")
	first := testenv.Daemon(t, "serve", "--backend", "embedded://"+path)
	l, err := dial(t, first.Endpoint()).Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	if said := startRefused(t, "embedded://"+path+"?timeout=100ms"); !strings.Contains(said, path) || !strings.Contains(said, "another process has") || !strings.Contains(said, "stop that one") {
		t.Errorf("the second daemon said:\n%s", said)
	}
	first.Kill()
	second := dial(t, testenv.Daemon(t, "serve", "--backend", "embedded://"+path).Endpoint())
	if got := second.lock(t, "a"); len(got.GetHolders()) != 1 || got.GetHolders()[0].GetFencingToken() != l.GetFencingToken() {
		t.Errorf("the next daemon has %v, want the lease %v", got, l)
	}
	renewed, err := second.Renew(within(t), &lockpb.RenewRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
	if err != nil || renewed.GetFencingToken() != l.GetFencingToken() {
		t.Errorf("renewal at the next daemon: %v, %v", renewed, err)
	}
}

// A daemon does not start on a file that is damaged, and says what to do; once
// that is done it does.
func TestADamagedFileIsRefusedWithWhatToDo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks.db")
	first := testenv.Daemon(t, "serve", "--backend", "embedded://"+path)
	if _, err := dial(t, first.Endpoint()).Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"}); err != nil {
		t.Fatal(err)
	}
	first.Kill()
	if err := os.Truncate(path, 10_000); err != nil {
		t.Fatal(err)
	}
	said := startRefused(t, "embedded://"+path)
	_, command, _ := strings.Cut(said, "move it away (")
	command, _, ok := strings.Cut(command, ")")
	if !ok || !strings.Contains(said, "first wait 1m0s") {
		t.Fatalf("it said:\n%s", said)
	}
	if out, err := exec.Command("sh", "-c", command).CombinedOutput(); err != nil {
		t.Fatalf("%s: %v: %s", command, err, out)
	}
	next := dial(t, testenv.Daemon(t, "serve", "--backend", "embedded://"+path).Endpoint())
	if _, err := next.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a", Wait: seconds(0)}); err != nil {
		t.Error(err)
	}
}
