package conformance_test

import (
	"regexp"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/conformance"
)

// A certificate of some cases, or of a store that was given more patience, says so.
func TestCertificateNamesItsTerms(t *testing.T) {
	t.Parallel()
	h := memory(t, bare)
	h.Slow = true
	report, err := conformance.Run(t.Context(), h, conformance.Options{Filter: regexp.MustCompile("SecondOwnerIsRefused")})
	if err != nil {
		t.Fatal(err)
	}
	var junit strings.Builder
	if err := report.JUnit(&junit); err != nil {
		t.Fatal(err)
	}
	for form, text := range map[string]string{"table": report.Table(), "junit": junit.String()} {
		if !strings.Contains(text, "slow store") || !strings.Contains(text, "only cases that match SecondOwnerIsRefused") {
			t.Errorf("the %s does not name the terms:\n%s", form, text)
		}
	}
}
