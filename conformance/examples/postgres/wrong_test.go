package postgres_test

import (
	"context"
	"os"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/wrong"
)

// A fault over this store is caught as over any other, and reads as the document
// says.
func TestAFailureReadsAsTheDocumentSays(t *testing.T) {
	raw, err := os.ReadFile("../../../docs/new-backend.md")
	if err != nil {
		t.Fatal(err)
	}
	i := slices.IndexFunc(wrong.Drivers(), func(w wrong.Driver) bool { return w.Name == "renew creates" })
	fault := wrong.Drivers()[i]
	h, wrap := harness(t, startServer(t)), fault.Wrap()
	open := h.Open
	h.Open = func(ctx context.Context) (driver.Driver, error) {
		d, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return wrap(d), nil
	}
	report, err := conformance.Run(t.Context(), h, conformance.Options{Filter: regexp.MustCompile("^" + fault.Case + "$")})
	if err != nil || report.Green() || len(report.Results) != 1 {
		t.Fatalf("%s was not caught: %v\n%s", fault.Name, err, report.Table())
	}
	res := report.Results[0]
	want := []string{"    " + res.Name + " (" + res.Source + ")\n", "    broken: " + res.Guarantee + "\n"}
	for _, line := range res.Log {
		said, _, _ := strings.Cut(line, " [{") // what it found is another each time
		want = append(want, "    "+said)
	}
	for _, text := range want {
		if !strings.Contains(string(raw), text) {
			t.Errorf("the document does not say %q", text)
		}
	}
}
