package redis

import (
	"bytes"
	"context"
	flags "flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"
)

// A mutant is a script in which one comparison is flipped. Each is to be caught
// by a test, which testdata/mutants.txt names, or stands there with the reason for
// which nothing can catch it.

var findMutants = flags.Bool("mutants", false, "find for each mutant without one in testdata/mutants.txt a test that catches it")

const (
	mutantVariable = "LOCKSIDECAR_TEST_MUTANT"
	mutantFile     = "testdata/mutants.txt"
	// noMutant are the scripts as they are: no test may catch them.
	noMutant = "none"
	// mutantTime bounds a test on a mutant. One that hangs has caught nothing.
	mutantTime    = 30 * time.Second
	mutantsAtOnce = 8
)

var (
	luaTexts = map[string]*string{
		"acquire": &acquireLua, "acquires": &acquiresLua, "again": &againLua, "edit": &editLua, "elect": &electLua, "ends": &endsLua, "evict": &evictLua, "free": &freeLua, "gate": &gateLua,
		"inspect": &inspectLua, "last": &lastLua, "leave": &leaveLua, "many": &manyLua, "prolong": &prolongLua, "record": &recordLua, "release": &releaseLua, "releases": &releasesLua,
		"stamp": &stampLua, "sweep": &sweepLua,
	}
	allScripts = []*script{
		acquireScript, renewScript, adoptScript, releaseScript, leaveScript, evictScript, editScript, inspectScript, sweepScript, againScript, electScript,
		stampScript, generalAcquire, generalRelease,
	}
	flipped = map[string]string{"==": "~=", "~=": "==", "<": ">=", ">=": "<", ">": "<=", "<=": ">"}
	// luaParts are comments, texts and comparisons.
	luaParts = regexp.MustCompile(`--[^\n]*|'[^'\n]*'|==|~=|<=|>=|<|>`)
)

// mutant is the n-th comparison of a file.
type mutant struct {
	file, operator, line string
	n, at                int
}

func (m mutant) String() string { return fmt.Sprintf("%s %d %s", m.file, m.n, m.operator) }

func mutants() (all []mutant) {
	var files []string
	for file := range luaTexts {
		files = append(files, file)
	}
	slices.Sort(files)
	for _, file := range files {
		text, n := *luaTexts[file], 0
		for _, part := range luaParts.FindAllStringIndex(text, -1) {
			operator := text[part[0]:part[1]]
			if flipped[operator] == "" {
				continue
			}
			n++
			start := strings.LastIndexByte(text[:part[0]], '\n') + 1
			line, _, _ := strings.Cut(text[start:], "\n")
			all = append(all, mutant{file, operator, strings.TrimSpace(line), n, part[0]})
		}
	}
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
	text := *luaTexts[m.file]
	changed := text[:m.at] + flipped[m.operator] + text[m.at+len(m.operator):]
	for _, sc := range allScripts {
		if mutated := strings.Replace(sc.text, text, changed, 1); mutated != sc.text {
			sc.text, sc.sha = mutated, named(mutated).sha
		}
	}
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

// verdictsOf are the verdicts of the file, by mutant and line.
func verdictsOf(t *testing.T) map[string]string {
	t.Helper()
	raw, err := os.ReadFile(mutantFile)
	if err != nil && !*findMutants {
		t.Fatal(err)
	}
	verdicts := make(map[string]string)
	for line := range strings.Lines(string(raw)) {
		if f := strings.Split(strings.TrimRight(line, "\n"), "\t"); len(f) == 3 {
			verdicts[f[0]+"\t"+f[1]] = f[2]
		}
	}
	return verdicts
}

func TestEveryComparisonOfTheScriptsMatters(t *testing.T) {
	if os.Getenv(mutantVariable) != "" {
		return // it is one of the tests that are run on mutants
	}
	verdicts, all := verdictsOf(t), mutants()
	if len(all) < 80 {
		t.Fatalf("only %d comparisons were found", len(all))
	}
	found := make([]string, len(all))
	var candidates []string
	if *findMutants {
		candidates = catchers(t)
	}
	var running sync.WaitGroup
	slots := make(chan struct{}, mutantsAtOnce) // most of their time is waiting
	for i, m := range all {
		verdict, ok := verdicts[m.String()+"\t"+m.line]
		found[i] = verdict
		tests := []string{verdict}
		switch {
		case !ok && !*findMutants:
			t.Errorf("%s is not in %s, find its test by -mutants: %s", m, mutantFile, m.line)
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
			t.Errorf("%s is not caught by %s: %s", m, strings.Join(tests, ", "), m.line)
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
			out.WriteString(m.String() + "\t" + m.line + "\t" + found[i] + "\n")
		}
	}
	if err := os.WriteFile(filepath.FromSlash(mutantFile), []byte(out.String()), 0o600); err != nil {
		t.Error(err)
	}
}

// catchers are the tests that may catch a mutant: those that need one server and
// little time, the quick ones first.
func catchers(t *testing.T) []string {
	t.Helper()
	out, err := exec.CommandContext(t.Context(), os.Args[0], "-test.list", "^Test").Output()
	if err != nil {
		t.Fatal(err)
	}
	slow := regexp.MustCompile(`Cluster|Sentinel|Primary|Node|URL|EveryComparison|ALostLease|Broken|TLS|Replicas|Described|Documented`)
	last := regexp.MustCompile(`RandomHistories|NobodyTold|Restarts|ListOf|Passes|Thousand|IdsNever|TestInit`)
	var quick, rest []string
	for test := range strings.FieldsSeq(string(out)) {
		switch {
		case !strings.HasPrefix(test, "Test") || slow.MatchString(test):
		case last.MatchString(test):
			rest = append(rest, test)
		default:
			quick = append(quick, test)
		}
	}
	return append(quick, rest...)
}
