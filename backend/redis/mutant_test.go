package redis

import (
	goflag "flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/mutation"
)

// A mutant is a script in which one comparison is flipped. Each is to be caught
// by a test, which testdata/mutants.txt names, or stands there with the reason for
// which nothing can catch it.

var findMutants = goflag.Bool("mutants", false, "find for each mutant without one in testdata/mutants.txt a test that catches it")

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

// String is the mutant's name, with the line: a verdict is about that line alone.
func (m mutant) String() string { return fmt.Sprintf("%s %d %s\t%s", m.file, m.n, m.operator, m.line) }

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
	name, running := mutation.Running()
	if !running {
		return
	}
	if name == "" {
		return
	}
	patience = 3 * time.Second // what comes at all comes at once
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

func TestEveryComparisonOfTheScriptsMatters(t *testing.T) {
	var names []string
	for _, m := range mutants() {
		names = append(names, m.String())
	}
	mutation.Campaign{
		Mutants: names, Least: 80, File: "testdata/mutants.txt", Find: *findMutants, Candidates: catchers,
		Bound: 5 * time.Minute, AtOnce: 8, // most of their time is waiting
	}.Test(t)
}

// catchers are the tests that may catch a mutant: those that need one server and
// little time, the quick ones first.
func catchers(tests []string) []string {
	slow := regexp.MustCompile(`Cluster|Sentinel|Primary|Node|URL|EveryComparison|ALostLease|Broken|TLS|Replicas|Described|Documented`)
	last := regexp.MustCompile(`RandomHistories|NobodyTold|Restarts|ListOf|Passes|Thousand|IdsNever|TestInit`)
	var quick, rest []string
	for _, test := range tests {
		switch {
		case slow.MatchString(test):
		case last.MatchString(test):
			rest = append(rest, test)
		default:
			quick = append(quick, test)
		}
	}
	return append(quick, rest...)
}
