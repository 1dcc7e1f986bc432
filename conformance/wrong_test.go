package conformance_test

import (
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/wrong"
)

// Each wrong driver fails the case that names its fault, for its fault; the
// right one passes every one of those cases. What is printed names the broken
// guarantee and the line of the case.
func TestTheSuiteCatchesWrongDrivers(t *testing.T) {
	caseLine := regexp.MustCompile(`^[a-z]+_cases\.go:`)
	sourceLine := regexp.MustCompile(`^[a-z]+_cases\.go:[1-9][0-9]*$`)
	for _, w := range wrong.Drivers() {
		t.Run(w.Name, func(t *testing.T) {
			t.Parallel()
			one := conformance.Options{Filter: regexp.MustCompile("^" + w.Case + "$")}
			report, err := conformance.Run(t.Context(), memory(t, func(d driver.Driver) driver.Driver { return d }), one)
			if err != nil || report.Count(conformance.Passed) != 1 {
				t.Fatalf("the right driver does not pass %s: %v\n%s", w.Case, err, report.Table())
			}
			report, err = conformance.Run(t.Context(), memory(t, w.Wrap()), one)
			if err != nil || report.Count(conformance.Failed) != 1 {
				t.Fatalf("%s was not caught by %s: %v\n%s", w.Name, w.Case, err, report.Table())
			}
			res, says := report.Results[0], regexp.MustCompile(w.Says)
			if !slices.ContainsFunc(res.Log, says.MatchString) {
				t.Errorf("%s fails, and not for its fault: no line matches %q\n%s", w.Name, w.Says, report.Table())
			}
			file, _, _ := strings.Cut(res.Source, ":")
			for _, line := range res.Log {
				if caseLine.MatchString(line) && !strings.HasPrefix(line, file) {
					t.Errorf("a line of %s is said to be broken elsewhere: %s", res.Source, line)
				}
			}
			if !strings.Contains(report.Table(), "broken: "+res.Guarantee) || !sourceLine.MatchString(res.Source) || !strings.Contains(report.Table(), res.Source) {
				t.Errorf("the table does not name the guarantee and the line of the case (%s):\n%s", res.Source, report.Table())
			}
		})
	}
}

// The seed that a failure prints repeats the very history.
func TestHistoriesAreRepeatable(t *testing.T) {
	i := slices.IndexFunc(wrong.Drivers(), func(w wrong.Driver) bool { return strings.HasPrefix(w.Case, "Histories/") })
	w := wrong.Drivers()[i]
	// Tokens are times, and ids are named after the run.
	own := regexp.MustCompile(`\d{10,}|request-\w+-|key \w+`)
	fails := func(seed uint64) string {
		report, err := conformance.Run(t.Context(), memory(t, w.Wrap()), conformance.Options{Seed: seed, Filter: regexp.MustCompile("^" + w.Case + "$")})
		if err != nil || report.Count(conformance.Failed) != 1 || report.Seed != seed {
			t.Fatalf("%v\n%s", err, report.Table())
		}
		return own.ReplaceAllString(report.Results[0].Log[0], "#")
	}
	first := fails(7)
	if again := fails(7); again != first {
		t.Errorf("one seed gave two histories:\n%s\n\n%s", first, again)
	}
	if other := fails(8); other == first {
		t.Errorf("two seeds gave one history:\n%s", first)
	}
}

// Every case names itself as Group/Guarantee, once, and says a sentence.
func TestCasesAreWellFormed(t *testing.T) {
	name := regexp.MustCompile(`^[A-Z][A-Za-z]+/[A-Z][A-Za-z0-9]+$`)
	seen := make(map[string]bool)
	for _, c := range conformance.Cases() {
		if !name.MatchString(c.Name) || seen[c.Name] {
			t.Errorf("%q is no name of its own", c.Name)
		}
		seen[c.Name] = true
		if !strings.HasSuffix(c.Guarantee, ".") || c.Run == nil {
			t.Errorf("%s: the guarantee %q is no sentence, or it has no code", c.Name, c.Guarantee)
		}
	}
	for _, w := range wrong.Drivers() {
		if !seen[w.Case] {
			t.Errorf("the wrong driver %q names %s, which is no case", w.Name, w.Case)
		}
	}
}
