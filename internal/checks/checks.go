// Package checks is what the tests of several packages compare by: a table in a
// document, and the exit code of a command in a script.
package checks

import (
	"errors"
	"os"
	"os/exec"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
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
