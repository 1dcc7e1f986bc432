// Package checks is what the tests of several packages compare by: a table in a
// document, the parameters of a URL, and the exit code of a command in a script.
package checks

import (
	"errors"
	"maps"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"github.com/rogpeppe/go-internal/testscript"

	"github.com/locksidecar/locksidecar/internal/backendurl"
)

// Table compares what stands between the marks <!-- mark:begin --> and
// <!-- mark:end --> of a document with what is wanted there, or writes it.
func Table(t testing.TB, file, mark, want string, write bool) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	begin, end := "<!-- "+mark+":begin -->\n", "<!-- "+mark+":end -->"
	head, rest, ok := strings.Cut(string(raw), begin)
	got, tail, closed := strings.Cut(rest, end)
	if !ok || !closed {
		t.Fatalf("%s has no marks %q", file, mark)
	}
	if got == want {
		return
	}
	if !write {
		t.Fatalf("the table %q of %s is not current; run: make docs\nwant:\n%s", mark, file, want)
	}
	if err := os.WriteFile(file, []byte(head+begin+want+end+tail), 0o644); err != nil { //nolint:gosec // a document of the tree
		t.Fatal(err)
	}
}

// Parameters compares the parameters of a driver's URLs with what those know who do
// not link it.
func Parameters[V any](t testing.TB, driver string, parameters map[string]V) {
	t.Helper()
	if diff := cmp.Diff(slices.Sorted(maps.Keys(parameters)), backendurl.Parameters[driver]); diff != "" {
		t.Errorf("internal/backendurl differs from the parameters of %s:\n%s", driver, diff)
	}
}

// Exits is a command for scripts, which runs another one and checks its exit code:
// exits 69 locksidecar health.
func Exits(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) < 2 {
		ts.Fatalf("usage: exits code command [arg...]")
	}
	want, err := strconv.Atoi(args[0])
	ts.Check(err)
	got := 0
	var exit *exec.ExitError
	if err := ts.Exec(args[1], args[2:]...); errors.As(err, &exit) {
		got = exit.ExitCode()
	} else if err != nil {
		ts.Fatalf("%v", err)
	}
	if got != want {
		ts.Fatalf("exit code %d, want %d", got, want)
	}
}
