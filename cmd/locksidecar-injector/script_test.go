package main

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"
)

// The tests run this very binary under the command's name, with the race detector
// in it.
func TestMain(m *testing.M) {
	if err := os.Setenv("GORACE", "atexit_sleep_ms=10 "+os.Getenv("GORACE")); err != nil {
		panic(err)
	}
	testscript.Main(m, map[string]func(){"locksidecar-injector": main})
}

// Every command, with its exit codes, outputs and errors; what asks a cluster is
// run by internal/kubetest.
func TestScripts(t *testing.T) {
	testscript.Run(t, testscript.Params{
		Dir: "testdata/script", RequireExplicitExec: true, UpdateScripts: os.Getenv("UPDATE") != "",
		Setup: func(e *testscript.Env) error {
			e.Setenv("GORACE", os.Getenv("GORACE"))
			return nil
		},
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": exits},
	})
}

// exits runs a command and checks its exit code.
func exits(ts *testscript.TestScript, neg bool, args []string) {
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

// Every command and every flag of the help stands in docs/injector.md.
func TestDocumentNamesEveryCommandAndFlag(t *testing.T) {
	raw, err := os.ReadFile(filepath.Join("..", "..", "docs", "injector.md"))
	if err != nil {
		t.Fatal(err)
	}
	var seen []string
	for _, c := range newRoot().Commands() {
		if c.Name() == "help" {
			continue
		}
		seen = append(seen, c.Name())
		_, section, found := strings.Cut(string(raw), "\n### "+c.Name()+"\n")
		section, _, _ = strings.Cut(section, "\n## ")
		section, _, _ = strings.Cut(section, "\n### ")
		if !found || c.Short == "" {
			t.Errorf("%s has no section, or no help", c.Name())
		}
		c.LocalFlags().VisitAll(func(f *pflag.Flag) {
			if f.Name != "help" && !strings.Contains(section, "`--"+f.Name) {
				t.Errorf("the section of %s does not name --%s", c.Name(), f.Name)
			}
		})
	}
	if slices.Sort(seen); !slices.Equal(seen, []string{"inject", "serve", "version"}) {
		t.Errorf("the commands are %v", seen)
	}
}
