// Package mutation runs a package's own tests on mutants: copies of something that
// the package holds as text, a script or a condition, in which one comparison is
// flipped. Each mutant is to be caught by a test, which a file names, or stands there
// with the reason for which nothing can catch it.
//
// It guarantees that a named test is red on its mutant and green without one. It does
// not guarantee that the test is red for the mutant's fault.
package mutation

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

const (
	variable = "LOCKSIDECAR_TEST_MUTANT"
	// none is the text as it is: no test may catch it.
	none = "none"
	// equivalent starts a verdict that is no test's name.
	equivalent = "equivalent: "
)

// Running says whether this process runs tests on a mutant, and on which: empty means
// that nothing is to be flipped.
func Running() (mutant string, running bool) {
	mutant, running = os.LookupEnv(variable)
	if mutant == none {
		mutant = ""
	}
	return mutant, running
}

// one in slice mutants runs, unless all are asked for.
const slice = 4

var all = flag.Bool("all-mutants", false, fmt.Sprintf("run every mutant, not one in %d of them", slice))

// Drawn are the mutants to run: a share of them that chance draws anew each time, or
// all of them with -all-mutants.
func Drawn(t *testing.T, mutants []string) []string {
	t.Helper()
	if *all {
		return mutants
	}
	drawn := slices.Clone(mutants)
	rand.Shuffle(len(drawn), func(i, k int) { drawn[i], drawn[k] = drawn[k], drawn[i] })
	drawn = drawn[:(len(drawn)+slice-1)/slice]
	t.Logf("%d of %d mutants run; make mutants runs all", len(drawn), len(mutants))
	return drawn
}

// Campaign is one run over all mutants of a package.
type Campaign struct {
	// Mutants are their names, which the package's init function flips by.
	Mutants []string
	// Least is how many there are at least.
	Least int
	// File has a line for each mutant: its name, a tab, and the test that catches it or
	// "equivalent: " and why nothing can.
	File string
	// Find finds a test for each mutant without one, among the Candidates, and writes
	// the file.
	Find       bool
	Candidates func(tests []string) []string
	// Bound is that of a test on a mutant, AtOnce how many run beside each other. One
	// that hangs has caught nothing.
	Bound  time.Duration
	AtOnce int
}

// Test fails for each mutant without a verdict, for each of those drawn that its test
// does not catch, and for each such test that fails without a mutant.
func (c Campaign) Test(t *testing.T) {
	t.Helper()
	if _, running := Running(); running {
		return // it is one of the tests that are run on mutants
	}
	if len(c.Mutants) < c.Least {
		t.Fatalf("only %d comparisons were found", len(c.Mutants))
	}
	verdicts, found := c.verdicts(t), make([]string, len(c.Mutants))
	drawn := c.Mutants
	var candidates []string
	if c.Find {
		candidates = c.Candidates(tests(t))
	} else {
		drawn = Drawn(t, c.Mutants)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, c.AtOnce)
	start := func(f func()) {
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			f()
		})
	}
	for i, m := range c.Mutants {
		verdict, ok := verdicts[m]
		if ok && !slices.Contains(drawn, m) {
			continue
		}
		found[i] = verdict
		catching := []string{verdict}
		switch {
		case !ok && !c.Find:
			t.Errorf("%s is not in %s, find its test by -mutants", m, c.File)
			continue
		case !ok:
			catching = candidates
		case strings.HasPrefix(verdict, equivalent):
			continue
		}
		start(func() {
			for _, test := range catching {
				if c.fails(t.Context(), test, m) {
					found[i] = test
					return
				}
			}
			t.Errorf("%s is not caught by %s", m, strings.Join(catching, ", "))
		})
	}
	running.Wait()
	for _, test := range slices.Compact(slices.Sorted(slices.Values(found))) {
		if strings.HasPrefix(test, "Test") {
			start(func() {
				// Many run beside each other: one may come too late.
				for attempt := 0; c.fails(t.Context(), test, none); attempt++ {
					if attempt == controls {
						t.Errorf("%s fails although nothing is flipped", test)
						return
					}
				}
			})
		}
	}
	running.Wait()
	if c.Find {
		c.write(t, found)
	}
}

// controls is how often a test is run again that failed without a mutant.
const controls = 2

// fails says whether a test fails on a mutant.
func (c Campaign) fails(ctx context.Context, test, mutant string) bool {
	ctx, cancel := context.WithTimeout(ctx, c.Bound)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+test+"$", "-test.failfast", "-test.short") //nolint:gosec // this process's own program
	cmd.Env = append(os.Environ(), variable+"="+mutant)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return err != nil && ctx.Err() == nil && bytes.Contains(out.Bytes(), []byte("--- FAIL"))
}

// tests are those of this package.
func tests(t *testing.T) (all []string) {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.list", "^Test").Output() //nolint:gosec // this process's own program
	if err != nil {
		t.Fatal(err)
	}
	for test := range strings.FieldsSeq(string(out)) {
		if strings.HasPrefix(test, "Test") {
			all = append(all, test)
		}
	}
	return all
}

// verdicts are those of the file, by mutant.
func (c Campaign) verdicts(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(c.File)
	if err != nil && !c.Find {
		t.Fatal(err)
	}
	verdicts := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		line = strings.TrimRight(line, "\n")
		if i := strings.LastIndexByte(line, '\t'); i >= 0 {
			verdicts[line[:i]] = line[i+1:]
		}
	}
	return verdicts
}

func (c Campaign) write(t *testing.T, found []string) {
	t.Helper()
	var out strings.Builder
	for i, m := range c.Mutants {
		if found[i] != "" {
			out.WriteString(m + "\t" + found[i] + "\n")
		}
	}
	if err := os.WriteFile(c.File, []byte(out.String()), 0o600); err != nil {
		t.Error(err)
	}
}
