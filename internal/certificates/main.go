// Command certificates reads a directory of certificates, NAME.json or NAME@SEED.json
// each. It prints the matrix, a line for each certificate, and ends with 1 if one of
// them is not green, with 2 if there is none. With -ledger FILE it adds to the file a
// line for each name in place of that: how often it was repeated, and how often that
// failed.
package main

import (
	"cmp"
	"encoding/json"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/locksidecar/locksidecar/conformance"
)

func main() {
	ledger := flag.String("ledger", "", "add the certificates to this ledger")
	flag.Parse()
	if flag.NArg() != 1 {
		fmt.Fprintln(os.Stderr, "usage: certificates [-ledger FILE] DIRECTORY")
		os.Exit(64)
	}
	all, err := read(flag.Arg(0))
	switch {
	case err != nil:
	case *ledger != "":
		err = add(*ledger, all)
	default:
		err = matrix(all)
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(2)
	}
	if slices.ContainsFunc(all, func(c certificate) bool { return !c.Green() }) {
		os.Exit(1)
	}
}

// certificate is a row's.
type certificate struct {
	row string
	conformance.Report
}

func read(dir string) (all []certificate, err error) {
	files, err := filepath.Glob(filepath.Join(dir, "*.json"))
	if err == nil && len(files) == 0 {
		err = fmt.Errorf("%s: no certificates", dir)
	}
	if err != nil {
		return nil, err
	}
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			return nil, err
		}
		row, _, _ := strings.Cut(strings.TrimSuffix(filepath.Base(file), ".json"), "@")
		c := certificate{row: row}
		if err := json.Unmarshal(raw, &c.Report); err != nil {
			return nil, fmt.Errorf("%s: %w", file, err)
		}
		all = append(all, c)
	}
	slices.SortStableFunc(all, func(a, b certificate) int { return cmp.Or(strings.Compare(a.row, b.row), cmp.Compare(a.Seed, b.Seed)) })
	return all, nil
}

func matrix(all []certificate) error {
	w := tabwriter.NewWriter(os.Stdout, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(w, "row\tserver\tpassed\tfailed\tskipped\ttime\tseed")
	for _, c := range all {
		_, _ = fmt.Fprintf(w, "%s\t%s\t%d\t%d\t%d\t%v\t%d\n", c.row, c.Server,
			c.Count(conformance.Passed), c.Count(conformance.Failed), c.Count(conformance.Skipped), c.Duration.Round(100*time.Millisecond), c.Seed)
	}
	return w.Flush()
}

// add appends the ledger's lines, which conformance/ledger_test.go describes.
func add(ledger string, all []certificate) error {
	var b strings.Builder
	for len(all) > 0 {
		n := len(all)
		if i := slices.IndexFunc(all, func(c certificate) bool { return c.row != all[0].row }); i > 0 {
			n = i
		}
		failed, longest, first := 0, time.Duration(0), all[0]
		for _, c := range all[:n] {
			if longest = max(longest, c.Duration); !c.Green() {
				failed++
			}
		}
		fmt.Fprintf(&b, "%s\t%s\t%s\t%d\t%d\t%d\t%d\t%v\n", time.Now().UTC().Format(time.DateOnly), first.row, first.Server, n,
			first.Count(conformance.Passed)+first.Count(conformance.Failed), failed, first.Seed, longest.Round(10*time.Millisecond))
		all = all[n:]
	}
	f, err := os.OpenFile(ledger, os.O_APPEND|os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	if _, err := f.WriteString(b.String()); err != nil {
		return err
	}
	return f.Close()
}
