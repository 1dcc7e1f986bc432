package testenv

import (
	"os/exec"
	"syscall"
	"testing"
	"time"
)

// Chromium is a command that runs an ECMAScript module in Node, with the
// environment that it needs to drive the system's Chromium: in PLAYWRIGHT the
// driver's entry, in CHROMIUM the program, in PROFILE an empty directory of the
// browser's own. When the test ends, both are ended.
func Chromium(t testing.TB, module string) *exec.Cmd {
	t.Helper()
	driver := prepared(t, "LOCKSIDECAR_TEST_PLAYWRIGHT", "build/tools/browser/index.mjs", "make browser")
	program, err := exec.LookPath("chromium")
	if err != nil {
		t.Fatalf("Chromium is needed: %v; install it by: make system", err)
	}
	node, err := exec.LookPath("node")
	if err != nil {
		t.Fatalf("node is needed: %v; install it by: make system", err)
	}
	cmd := exec.CommandContext(t.Context(), node, module)
	cmd.Env = append(cmd.Environ(), "PLAYWRIGHT="+driver, "CHROMIUM="+program, "PROFILE="+t.TempDir())
	cmd.SysProcAttr = DieWithParent(&syscall.SysProcAttr{})
	// Node closes the browser before it ends; a browser whose driver is killed ends too.
	cmd.Cancel = func() error { return cmd.Process.Signal(syscall.SIGTERM) }
	cmd.WaitDelay = 10 * time.Second
	return cmd
}
