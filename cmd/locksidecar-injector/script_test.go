package main

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/rogpeppe/go-internal/testscript"
	"github.com/spf13/pflag"

	"github.com/locksidecar/locksidecar/internal/checks"
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
		Cmds: map[string]func(*testscript.TestScript, bool, []string){"exits": checks.Exits},
	})
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
