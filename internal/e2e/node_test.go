package e2e

import (
	"context"
	"encoding/json"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	"github.com/locksidecar/locksidecar/socket"
)

var nodePackage = filepath.Join(root, "examples", "node")

// node runs the interpreter in the package's directory and returns what it
// printed.
func node(t *testing.T, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	cmd := exec.CommandContext(ctx, testenv.Node(t), args...)
	cmd.Dir = nodePackage
	cmd.Env = append(cmd.Environ(), "LOCKSIDECAR_BIN="+testenv.Binary(t))
	// The test runner has children of its own: all end together.
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{Setpgid: true})
	cmd.Cancel = func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGKILL) }
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("node %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	return string(out)
}

// The package's own tests pass, on real sidecars.
func TestNodePackage(t *testing.T) {
	testenv.Node(t)
	files, err := filepath.Glob(filepath.Join(nodePackage, "dist", "test", "*.test.js"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no tests are compiled (%v); make them by: make node-setup", err)
	}
	sources, err := filepath.Glob(filepath.Join(nodePackage, "test", "*.test.ts"))
	if err != nil || len(sources) != len(files) {
		t.Fatalf("%d tests are compiled of %d (%v); make them by: make node-setup", len(files), len(sources), err)
	}
	for _, file := range files {
		name := filepath.Base(file)
		t.Run(strings.TrimSuffix(name, ".test.js"), func(t *testing.T) {
			t.Parallel()
			t.Log(node(t, "--test", "--test-reporter=spec", "--test-timeout=240000", filepath.Join("dist", "test", name)))
		})
	}
}

// The package, its examples and its tests are strictly typed.
func TestNodeTypes(t *testing.T) {
	t.Parallel()
	for _, project := range []string{".", "test"} {
		node(t, "node_modules/typescript/bin/tsc", "--noEmit", "-p", project)
	}
}

// The package has a class for each reason of the table of errors, and for no
// other.
func TestNodeErrorsAreTheTables(t *testing.T) {
	var has, want []string
	printed := node(t, "--input-type=module", "--eval",
		`import { errorTypes } from "./dist/index.js"; console.log(JSON.stringify(Object.keys(errorTypes)));`)
	if err := json.Unmarshal([]byte(printed), &has); err != nil {
		t.Fatalf("%v in %q", err, printed)
	}
	for _, r := range socket.Reasons() {
		want = append(want, r.Name)
	}
	slices.Sort(has)
	slices.Sort(want)
	if !slices.Equal(has, want) {
		t.Errorf("the package knows the reasons\n%q, the table has\n%q", has, want)
	}
}

// What is published has the types and nothing of the tests and examples.
func TestNodePackageContents(t *testing.T) {
	testenv.Node(t)
	cmd := exec.CommandContext(t.Context(), "npm", "pack", "--dry-run", "--json", "--ignore-scripts")
	cmd.Dir = nodePackage
	out, err := cmd.Output()
	if err != nil {
		t.Fatal(err)
	}
	var packs []struct {
		Files []struct{ Path string }
	}
	if err := json.Unmarshal(out, &packs); err != nil || len(packs) != 1 {
		t.Fatalf("%v in %s", err, out)
	}
	var paths []string
	for _, f := range packs[0].Files {
		paths = append(paths, f.Path)
		for _, no := range []string{"test", "examples", "snippets", "hold.", "scenarios."} {
			if strings.HasPrefix(f.Path, "dist/"+no) {
				t.Errorf("%s would be published", f.Path)
			}
		}
	}
	for _, yes := range []string{"README.md", "package.json", "dist/index.js", "dist/index.d.ts", "dist/client.js", "dist/gen/locksidecar/v1/lock.js"} {
		if !slices.Contains(paths, yes) {
			t.Errorf("%s would not be published; what would: %q", yes, paths)
		}
	}
}
