package dynamodb

import (
	"flag"
	"fmt"
	"regexp"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/mutation"
)

// A mutant is a condition in which one comparison is flipped. Each is to be caught
// by a test, which testdata/mutants.txt names, or stands there with the reason for
// which nothing can catch it.

var findMutants = flag.Bool("mutants", false, "find for each mutant without one in testdata/mutants.txt a test that catches it")

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
	text := conditions[m.condition]
	*text = (*text)[:m.at] + flipped[m.operator] + (*text)[m.at+len(m.operator):]
}

func TestEveryComparisonOfTheConditionsMatters(t *testing.T) {
	var names []string
	for _, m := range mutants() {
		names = append(names, m.String())
	}
	mutation.Campaign{
		Mutants: names, Least: 20, File: "testdata/mutants.txt", Find: *findMutants, Candidates: catchers,
		Bound: 5 * time.Minute, AtOnce: 4,
	}.Test(t)
}

// catchers are the tests that may catch a mutant, the narrow ones first.
func catchers(tests []string) []string {
	var quick, rest []string
	for _, test := range tests {
		switch {
		case strings.HasPrefix(test, "TestEveryComparison"):
		case strings.HasPrefix(test, "TestCondition"):
			quick = append(quick, test)
		default:
			rest = append(rest, test)
		}
	}
	return append(quick, rest...)
}
