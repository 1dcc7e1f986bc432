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
			if !strings.Contains(report.Table(), "broken: "+res.Guarantee) || !sourceLine.MatchString(res.Source) || !strings.Contains(report.Table(), res.Source) {
				t.Errorf("the table does not name the guarantee and the line of the case (%s):\n%s", res.Source, report.Table())
			}
		})
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
