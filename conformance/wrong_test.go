package conformance_test

import (
	"regexp"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/wrong"
)

// Each wrong driver fails the case that names its fault; the right one passes
// every one of those cases.
func TestTheSuiteCatchesWrongDrivers(t *testing.T) {
	for _, w := range wrong.Drivers() {
		t.Run(w.Name, func(t *testing.T) {
			t.Parallel()
			one := conformance.Options{Filter: regexp.MustCompile("^" + w.Case + "$")}
			report, err := conformance.Run(t.Context(), memory(t, func(d driver.Driver) driver.Driver { return d }), one)
			if err != nil || report.Count(conformance.Passed) != 1 {
				t.Fatalf("the right driver does not pass %s: %v\n%s", w.Case, err, report.Table())
			}
			decorate := w.Wrap()
			report, err = conformance.Run(t.Context(), memory(t, decorate), one)
			if err != nil || report.Count(conformance.Failed) != 1 {
				t.Errorf("%s was not caught by %s: %v\n%s", w.Name, w.Case, err, report.Table())
			}
		})
	}
}
