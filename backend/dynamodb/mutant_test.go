package dynamodb

import (
	"bytes"
	"context"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is a condition in which one comparison is flipped. Each is to be caught
// by a test, which testdata/mutants.txt names, or stands there with the reason for
// which nothing can catch it.

var findMutants = flag.Bool("mutants", false, "find for each mutant without one in testdata/mutants.txt a test that catches it")

const (
	mutantVariable = "LOCKSIDECAR_TEST_MUTANT"
	mutantFile     = "testdata/mutants.txt"
	// noMutant are the conditions as they are: no test may catch them.
	noMutant = "none"
	// mutantTime bounds a test on a mutant. One that hangs has caught nothing.
	mutantTime    = 60 * time.Second
	mutantsAtOnce = 4
)

var (
	conditions = map[string]*string{
		"acquire": &acquireCondition, "renew": &renewCondition, "attach": &attachCondition, "release": &releaseCondition, "absent": &absentCondition,
		"version": &versionCondition, "beat": &beatCondition, "dead beat": &deadBeatCondition, "busy": &busyFilter,
	}
	flipped = map[string]string{
		"<": ">=", "<=": ">", ">": "<=", "=": "<>", "AND NOT contains": "AND contains", "AND contains": "AND NOT contains",
		"attribute_not_exists": "attribute_exists", "begins_with": "NOT begins_with",
	}
	comparisons = regexp.MustCompile(`<=|<|>|=|AND NOT contains|AND contains|attribute_not_exists|begins_with`)
)

// mutant is the n-th comparison of a condition.
type mutant struct {
	condition, operator string
	n, at               int
}

func (m mutant) String() string { return fmt.Sprintf("%s %d %s", m.condition, m.n, m.operator) }

func mutants() (all []mutant) {
	for name, text := range conditions {
		for i, part := range comparisons.FindAllStringIndex(*text, -1) {
			all = append(all, mutant{name, (*text)[part[0]:part[1]], i + 1, part[0]})
		}
	}
	slices.SortFunc(all, func(a, b mutant) int { return strings.Compare(a.String(), b.String()) })
	return all
}

// A process that is told of a mutant runs its tests on it.
func init() {
	name := os.Getenv(mutantVariable)
	if name == "" {
		return
	}
	patience = 3 * time.Second // what comes at all comes at once
	if name == noMutant {
		return
	}
	all := mutants()
	i := slices.IndexFunc(all, func(m mutant) bool { return m.String() == name })
	if i < 0 {
		panic("no such mutant: " + name)
	}
	m := all[i]
	text := conditions[m.condition]
	*text = (*text)[:m.at] + flipped[m.operator] + (*text)[m.at+len(m.operator):]
}

// caught says whether a test fails on a mutant.
func (m mutant) caught(ctx context.Context, test string) bool { return fails(ctx, test, m.String()) }

// fails says whether a test fails on the mutant of a name.
func fails(ctx context.Context, test, name string) bool {
	ctx, cancel := context.WithTimeout(ctx, mutantTime)
	defer cancel()
	cmd := exec.CommandContext(ctx, os.Args[0], "-test.run", "^"+test+"$", "-test.failfast", "-test.short")
	cmd.Env = append(os.Environ(), mutantVariable+"="+name)
	var out bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &out
	err := cmd.Run()
	return err != nil && ctx.Err() == nil && bytes.Contains(out.Bytes(), []byte("--- FAIL"))
}

// verdictsOf are the verdicts of the file, by mutant.
func verdictsOf(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(mutantFile)
	if err != nil && !*findMutants {
		t.Fatal(err)
	}
	verdicts := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if name, verdict, ok := strings.Cut(strings.TrimRight(line, "\n"), "\t"); ok {
			verdicts[name] = verdict
		}
	}
	return verdicts
}

func TestEveryComparisonOfTheConditionsMatters(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		return // it is one of the tests that are run on mutants
	}
	verdicts, all := verdictsOf(t), mutants()
	if len(all) < 20 {
		t.Fatalf("only %d comparisons were found", len(all))
	}
	found := make([]string, len(all))
	var candidates []string
	if *findMutants {
		candidates = catchers(t)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, mutantsAtOnce)
	for i, m := range all {
		verdict, ok := verdicts[m.String()]
		found[i] = verdict
		tests := []string{verdict}
		switch {
		case !ok && !*findMutants:
			t.Errorf("%s is not in %s, find its test by -mutants", m, mutantFile)
			continue
		case !ok:
			tests = candidates
		case strings.HasPrefix(verdict, "equivalent: "):
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			for _, test := range tests {
				if m.caught(t.Context(), test) {
					found[i] = test
					return
				}
			}
			t.Errorf("%s is not caught by %s", m, strings.Join(tests, ", "))
		})
	}
	running.Wait()
	catching := slices.Sorted(slices.Values(found))
	for _, test := range slices.Compact(catching) {
		if !strings.HasPrefix(test, "Test") {
			continue
		}
		slots <- struct{}{}
		running.Go(func() {
			defer func() { <-slots }()
			if fails(t.Context(), test, noMutant) {
				t.Errorf("%s fails although nothing is flipped", test)
			}
		})
	}
	running.Wait()
	if !*findMutants {
		return
	}
	var out strings.Builder
	for i, m := range all {
		if found[i] != "" {
			out.WriteString(m.String() + "\t" + found[i] + "\n")
		}
	}
	if err := os.WriteFile(mutantFile, []byte(out.String()), 0o600); err != nil {
		t.Error(err)
	}
}

// catchers are the tests that may catch a mutant, the narrow ones first.
func catchers(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.list", "^Test").Output()
	if err != nil {
		t.Fatal(err)
	}
	var quick, rest []string
	for test := range strings.FieldsSeq(string(out)) {
		switch {
		case !strings.HasPrefix(test, "Test") || strings.HasPrefix(test, "TestEveryComparison"):
		case strings.HasPrefix(test, "TestCondition"):
			quick = append(quick, test)
		default:
			rest = append(rest, test)
		}
	}
	return append(quick, rest...)
}
