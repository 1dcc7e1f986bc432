package conformance_test

import (
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/conformance"
)

var (
	update       = flag.Bool("update", false, "rewrite the committed tables of what ran and what was skipped")
	whole        = flag.Bool("whole", false, "run every row whole: those that differ from another one by what stands between the driver and its store, too")
	certificates = flag.String("certificates", "", "write each row's certificate into this directory")
)

// part are the cases of a row which differs from another, whole one only by what
// stands between the driver and its store.
var part = regexp.MustCompile(`^(Exclusion/[^HM]|Fencing|Idempotence|Identity|Modes|Reentrancy)`)

// row is a way to a store.
type row struct {
	// name is the certificate's, table the committed list's of what runs.
	name, table string
	// whole says that it is run whole by make test, too.
	whole   bool
	options conformance.Options
}

// certified runs the suite and compares what ran with the committed table.
func certified(t *testing.T, r row, h conformance.Harness) {
	t.Helper()
	if *repeats > 0 {
		repeated(t, r, h)
		return
	}
	all := r.whole || *whole || *update
	if !all {
		r.options.Filter = part
	}
	report := conformance.Test(t, h, r.options)
	if *certificates != "" {
		write(t, filepath.Join(*certificates, r.name+".json"), report)
	}
	file := filepath.Join("testdata", r.table+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(report.Summary()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Summary(); all && got != string(want) {
		t.Errorf("what ran is not what %s says; if that is meant, run the test with -update\n%s", file, got)
	}
	for line := range strings.Lines(report.Summary()) {
		if !strings.Contains(string(want), line) {
			t.Errorf("%s does not say %q", file, line)
		}
	}
}

func write(t *testing.T, file string, report *conformance.Report) {
	t.Helper()
	f, err := os.Create(file)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	if err := report.JSON(f); err != nil {
		t.Error(err)
	}
}
