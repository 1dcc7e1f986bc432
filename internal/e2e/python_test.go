package e2e

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// pythonPatience bounds a run of the Python client's own tests.
const pythonPatience = 10 * time.Minute

// runPython runs a module of the Python client's environment in its directory.
func runPython(t *testing.T, env []string, args ...string) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), pythonPatience)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Python(t), append([]string{"-m"}, args...)...)
	cmd.Dir = filepath.Join(root, "examples/python")
	cmd.Env = append(os.Environ(), env...)
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	cmd.WaitDelay = time.Second // a forked process may keep the output open
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("python -m %v: %v\n%s", args, err, out)
	}
}

// The Python client's own tests: threads, asyncio, forks, broken streams, its
// examples and the snippets of its README.
func TestPythonClient(t *testing.T) {
	t.Parallel()
	runPython(t, []string{"LOCKSIDECAR_BIN=" + testenv.Binary(t)}, "pytest", "-q")
}

// The package, its examples and its tests are typed throughout.
func TestPythonClientIsTyped(t *testing.T) {
	t.Parallel()
	runPython(t, nil, "mypy", "--strict", "--cache-dir", t.TempDir(), "locksidecar", "scenarios.py", "hold.py", "examples", "tests")
}
