package e2e

import (
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// systemd hears that the daemon is ready when it is, that it lives, and that it
// stops; the backend need not be up for it.
func TestSystemdIsNotified(t *testing.T) {
	manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: filepath.Join(t.TempDir(), "notify"), Net: "unixgram"})
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = manager.Close() }()
	read := func(want string) {
		t.Helper()
		for { // signs of life come in between
			if err := manager.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			buf := make([]byte, 100)
			size, err := manager.Read(buf)
			if err != nil {
				t.Fatalf("waiting for %s: %v", want, err)
			}
			if got := string(buf[:size]); got == want {
				return
			} else if got != "WATCHDOG=1" {
				t.Fatalf("the manager read %q, want %q", got, want)
			}
		}
	}
	t.Setenv("NOTIFY_SOCKET", manager.LocalAddr().String())
	t.Setenv("WATCHDOG_USEC", "100000")
	path := socketPath(t)
	var out testenv.Output
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), "serve", "--backend", "redis://127.0.0.1:1", "--socket", path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	read("READY=1")
	if _, err := dial(t, "unix://"+path).GetStatus(within(t), &lockpb.GetStatusRequest{}); err != nil {
		t.Errorf("it is ready, but: %v", err)
	}
	read("WATCHDOG=1")
	read("WATCHDOG=1")
	if err := cmd.Process.Signal(os.Interrupt); err != nil {
		t.Fatal(err)
	}
	read("STOPPING=1")
	if err := cmd.Wait(); err != nil {
		t.Errorf("%v; it printed:\n%s", err, out.String())
	}
}

// systemd itself finds nothing wrong with the unit, and little that is open.
func TestUnitOfSystemd(t *testing.T) {
	const source = root + "/docs/systemd/locksidecar.service"
	raw, err := os.ReadFile(source)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := exec.LookPath("systemd-analyze"); err != nil {
		t.Fatalf("%v; install it by: apt-get install systemd", err)
	}
	text := strings.Replace(string(raw), "/usr/local/bin/locksidecar", testenv.Binary(t), 1)
	if text == string(raw) {
		t.Fatal("the unit starts something else")
	}
	for _, key := range []string{
		"Type=notify", "WatchdogSec=", "User=locksidecar", "Group=locksidecar", "RuntimeDirectory=locksidecar", "RuntimeDirectoryMode=0750",
		"StateDirectory=locksidecar", "LogsDirectory=locksidecar", "LogsDirectoryMode=0750", // where the documents have the store's file and the audit log
		"NoNewPrivileges=yes", "ProtectSystem=strict", "CapabilityBoundingSet=\n", "RestrictAddressFamilies=AF_UNIX AF_INET AF_INET6", "SystemCallFilter=@system-service",
	} {
		if !strings.Contains(text, "\n"+key) {
			t.Errorf("the unit does not say %s", key)
		}
	}
	unit := filepath.Join(t.TempDir(), "locksidecar.service")
	if err := os.WriteFile(unit, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, check := range [][]string{{"verify", unit}, {"security", "--offline=true", "--no-pager", "--threshold=20", unit}} {
		out, err := exec.CommandContext(within(t), "systemd-analyze", check...).CombinedOutput()
		if err != nil || check[0] == "verify" && len(out) > 0 {
			t.Errorf("systemd-analyze %s: %v\n%s", check[0], err, out)
		}
	}
}
