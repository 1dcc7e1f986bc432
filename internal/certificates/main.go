// Command certificates prints the matrix of a directory of certificates, a line for
// each row, and ends with 1 if one of them is not green, with 2 if there is none.
package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/locksidecar/locksidecar/conformance"
)

func main() {
	if len(os.Args) != 2 {
		fmt.Fprintln(os.Stderr, "usage: certificates DIRECTORY")
		os.Exit(64)
	}
	green, err := matrix(os.Args[1])
	switch {
	case err != nil:
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	case !green:
		os.Exit(1)
	}
}

// matrix prints the table and says whether every certificate is green.
func matrix(dir string) (green bool, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no certificates", dir)
	}
	if err != nil {
		return false, err
	}
	green = true
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "row\tserver\tpassed\tfailed\tskipped\ttime\tseed")
	for _, file := range files {
		raw, err := os.ReadFile(file) //nolint:gosec // the directory is the caller's
		if err != nil {
			return false, err
		}
		var r conformance.Report
		if err := json.Unmarshal(raw, &r); err != nil {
			return false, fmt.Errorf("%s: %w", file, err)
		}
		green = green && r.Green()
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%v\t%d\n", strings.TrimSuffix(filepath.Base(file), ".json"), r.Server,
			r.Count(conformance.Passed), r.Count(conformance.Failed), r.Count(conformance.Skipped), r.Duration.Round(100*time.Millisecond), r.Seed)
	}
	return green, w.Flush()
}
