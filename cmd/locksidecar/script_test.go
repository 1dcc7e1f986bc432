package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/locksidecar/locksidecar/internal/checks"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// The tests run this very binary under the command's name, with the race
// detector in it: a race ends it with a code that no test expects.
func TestMain(m *testing.M) {
	// A program with the race detector in it waits a second before it ends.
	if err := os.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"locksidecar": main})
}

// patience bounds each wait for something that must come.
const patience = 60 * time.Second

// Every documented command, with its exit codes, outputs and errors, against a
// real daemon.
func TestScripts(t *testing.T) {
	redis := testenv.StartRedisT(t)
	testscript.Run(t, testscript.Params{
		Dir:                 "testdata/script",
		RequireExplicitExec: true,
		Setup: func(e *testscript.Env) error {
			dir, err := os.MkdirTemp("", "ls") // short: a socket's path is bounded
			if err != nil {
				return err
			}
			e.Defer(func() { _ = os.RemoveAll(dir) })
			e.Setenv("LS", dir)
			e.Setenv("GORACE", os.Getenv("GORACE"))
			e.Setenv("XDG_RUNTIME_DIR", dir)
			e.Setenv("SOCK", filepath.Join(dir, "locksidecar", "api.sock"))
			e.Setenv("REDIS", redis.URL())
			e.Setenv("PLAIN", "redis://"+redis.Addr()+"?timeout=10s") // which does not say that it is new
			e.Setenv("NAME", filepath.Base(dir))
			// Each script has locks of its own in the one store.
			e.Setenv("STORE", redis.URL("prefix="+filepath.Base(dir)))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": checks.Exits, "until": until},
	})
}

// until repeats a command until it succeeds.
func until(ts *testscript.TestScript, neg bool, args []string) {
	if neg || len(args) == 0 {
		ts.Fatalf("usage: until command [arg...]")
	}
	for deadline := time.Now().Add(patience); ts.Exec(args[0], args[1:]...) != nil; {
		if time.Now().After(deadline) {
			ts.Fatalf("waited %v in vain", patience)
		}
	}
}

// documented calls f for each command that a user may run, with its words.
func documented(root *cobra.Command, f func(words string, c *cobra.Command)) {
	for _, c := range root.Commands() {
		if !c.Hidden && c.Name() != "help" {
			f(strings.TrimPrefix(c.CommandPath(), c.Root().Name()+" "), c)
			documented(c, f)
		}
	}
}

// Every command and every flag of the help stands in docs/cli.md.
func TestDocumentNamesEveryCommandAndFlag(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "cli.md"))
	if err != nil {
		t.Fatal(err)
	}
	sections := strings.Split(string(raw), "\n## ")
	section := func(words string) string {
		i := slices.IndexFunc(sections, func(s string) bool {
			title, _, _ := strings.Cut(s, "\n")
			return slices.Contains(strings.Split(title, ", "), words)
		})
		if i < 0 {
			t.Errorf("docs/cli.md has no section %q", words)
			return ""
		}
		return sections[i]
	}
	common := section("Flags of every command")
	n := 0
	documented(newRoot(), func(words string, c *cobra.Command) {
		n++
		if c.Short == "" {
			t.Errorf("%s: no help", words)
		}
		text := section(words)
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(text, "`--"+f.Name) && !strings.Contains(common, "`--"+f.Name) {
				t.Errorf("docs/cli.md: the section of %q does not name --%s", words, f.Name)
			}
			if f.Shorthand != "" && f.Name != "help" && !strings.Contains(text+common, "`-"+f.Shorthand) {
				t.Errorf("docs/cli.md: the section of %q does not name -%s", words, f.Shorthand)
			}
		})
	})
	if n < 10 {
		t.Errorf("only %d commands were looked at", n)
	}
}

// Every command of the help is run by a script.
func TestScriptsRunEveryCommand(t *testing.T) {
	files, err := filepath.Glob("testdata/script/*.txtar")
	if err != nil || len(files) == 0 {
		t.Fatalf("no scripts: %v", err)
	}
	var all strings.Builder
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		all.Write(raw)
	}
	documented(newRoot(), func(words string, _ *cobra.Command) {
		if !strings.Contains(all.String(), "locksidecar "+words) {
			t.Errorf("no script runs %q", words)
		}
	})
}
