package budget

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// allowed reads budget.tsv.
func allowed(t *testing.T) map[string]int64 {
	t.Helper()
	raw, err := os.ReadFile("budget.tsv")
	if err != nil {
		t.Fatal(err)
	}
	rows := make(map[string]int64)
	for line := range strings.Lines(string(raw)) {
		if strings.HasPrefix(line, "#") {
			continue
		}
		name, text, _ := strings.Cut(strings.TrimSpace(line), "\t")
		if rows[name], err = strconv.ParseInt(text, 10, 64); err != nil {
			t.Fatal(err)
		}
	}
	return rows
}

// within compares a measure with its row.
func within(t *testing.T, rows map[string]int64, name string, measured int64) {
	t.Helper()
	limit, ok := rows[name]
	if !ok {
		t.Errorf("budget.tsv has no row %q; it measures %d", name, measured)
		return
	}
	t.Logf("%s: %d of %d bytes allowed", name, measured, limit)
	if measured > limit {
		t.Errorf("%s: %d bytes, budget.tsv allows %d", name, measured, limit)
	}
	if measured < limit/2 {
		t.Errorf("%s: %d bytes, less than half of the %d that budget.tsv allows: lower that", name, measured, limit)
	}
}

// revision stands for that of a release.
const revision = "0123456789abcdef0123456789abcdef01234567"

// compile builds a command as the image has it.
func compile(t *testing.T, name string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	cmd := exec.Command("go", "build", "-trimpath", "-buildvcs=false", "-ldflags=-s -w -X main.version=dev -X main.revision="+revision, "-o", path, "github.com/locksidecar/locksidecar/cmd/"+name)
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return path
}

func TestTheBinariesOfTheImageAreWithinTheBudget(t *testing.T) {
	rows := allowed(t)
	commands, err := filepath.Glob("../../cmd/*")
	if err != nil || len(commands) == 0 {
		t.Fatal(err)
	}
	for _, c := range commands {
		name := filepath.Base(c)
		path := compile(t, name)
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		within(t, rows, name, info.Size())
		// Such a binary knows of the repository only what the linker was told.
		out, err := exec.Command(path, "version").CombinedOutput()
		if want := name + " dev " + revision + " go"; err != nil || !strings.HasPrefix(string(out), want) {
			t.Errorf("version says %q, want %s…: %v", out, want, err)
		}
	}
}

func TestAnIdleSidecarsMemoryIsWithinTheBudget(t *testing.T) {
	rows := allowed(t)
	binary := compile(t, "locksidecar")
	redis := testenv.StartRedisT(t)
	d := testenv.DaemonOf(t, binary, "serve", "--backend", redis.URL(), "--metrics", "127.0.0.1:0")
	for _, args := range [][]string{{"health"}, {"lock", "budget", "--", "true"}} {
		cmd := exec.Command(binary, args...)
		cmd.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+d.Endpoint())
		if out, err := cmd.CombinedOutput(); err != nil {
			t.Fatalf("%v: %v\n%s\n%s", args, err, out, d.Output())
		}
	}
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", d.Pid()))
	if err != nil {
		t.Fatal(err)
	}
	measured := make(map[string]int64)
	for line := range strings.Lines(string(raw)) {
		// In kilobytes: proc_pid_status(5).
		if f := strings.Fields(line); len(f) == 3 && f[2] == "kB" {
			n, err := strconv.ParseInt(f[1], 10, 64)
			if err != nil {
				t.Fatal(err)
			}
			measured[f[0]] = n << 10
		}
	}
	within(t, rows, "idle resident memory", measured["VmRSS:"])
	t.Logf("of which %d are pages of the binary, which the sidecars of a node share", measured["RssFile:"])
}
