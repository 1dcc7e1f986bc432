package main

import (
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/spf13/cobra"

	"github.com/locksidecar/locksidecar/internal/audit"
)

func newAudit() *cobra.Command {
	c := &cobra.Command{
		Use: "audit", Short: "Look into audit logs", Args: knownCommand,
		RunE: func(c *cobra.Command, _ []string) error { return c.Help() },
	}
	c.AddCommand(newProve())
	return c
}

func newProve() *cobra.Command {
	var output string
	var o audit.Options
	c := &cobra.Command{
		Use: "prove FILE…", Short: "Prove from a fleet's audit logs that no two holders overlapped",
		Long: "Prove from the audit logs of all sidecars of a fleet, with their rotated pieces and in any order, that of each lock\n" +
			"no two leases overlapped whose modes conflict, that tokens rose, and that the queue's order was kept; or name the\n" +
			"first violation with its file and line, and exit with 1. docs/events.md says what follows from what.",
		Example: "  locksidecar audit prove /var/log/locksidecar/audit.jsonl*\n  locksidecar audit prove --partial web-1/audit.jsonl* web-2/audit.jsonl*",
		Args: func(c *cobra.Command, args []string) error {
			if len(args) == 0 {
				return usage("FILE is missing; want: %s", c.UseLine())
			}
			return nil
		},
	}
	printsAs(c, &output)
	tolerance := seconds{d: audit.DefaultTolerance, set: true}
	c.Flags().Var(&tolerance, "tolerance", "how far the wall clocks of different hosts may be apart")
	c.Flags().BoolVar(&o.Partial, "partial", false, "the oldest pieces were deleted: a sidecar's log may begin in the middle")
	c.RunE = func(c *cobra.Command, args []string) error {
		if err := validOutput(output); err != nil {
			return err
		}
		o.Tolerance = max(tolerance.d, 1) // 0 would mean the default
		sources, end, err := logFiles(args)
		defer end()
		if err != nil {
			return err
		}
		report, err := audit.Prove(sources, o)
		if err != nil {
			return &exitError{exitUsage, err}
		}
		if err := printProof(c.OutOrStdout(), report, output); err != nil {
			return err
		}
		if n := len(report.Violations); n > 0 {
			more := ""
			if n > 1 {
				more = fmt.Sprintf(" (and %d more; -o json has them)", n-1)
			}
			return &exitError{exitNo, fmt.Errorf("%s%s", report.Violations[0].String(), more)}
		}
		return nil
	}
	return c
}

// logFiles are the files as they are now. Each is opened once, since it is read more
// than once, and its sidecar may rotate it meanwhile. end closes them.
func logFiles(names []string) (sources []audit.Source, end func(), err error) {
	var open []*os.File
	end = func() {
		for _, f := range open {
			_ = f.Close() // it was only read
		}
	}
	for _, name := range names {
		f, size, err := logFile(name)
		if err != nil {
			return nil, end, &exitError{exitUsage, err}
		}
		open = append(open, f)
		sources = append(sources, audit.Source{Name: name, Size: size, File: f})
	}
	return sources, end, nil
}

func logFile(name string) (f *os.File, size int64, err error) {
	info, err := os.Stat(name) // before it is opened: a pipe would wait for a writer
	if err == nil && !info.Mode().IsRegular() {
		err = fmt.Errorf("%s is no regular file: it is read more than once", name)
	}
	if err != nil {
		return nil, 0, err
	}
	if f, err = os.Open(name); err != nil {
		return nil, 0, err
	}
	if info, err = f.Stat(); err != nil {
		return nil, 0, errors.Join(err, f.Close())
	}
	return f, info.Size(), nil
}

func printProof(w io.Writer, r *audit.Report, output string) error {
	if output == "json" {
		raw, err := json.MarshalIndent(r, "", "  ")
		if err == nil {
			_, err = fmt.Fprintln(w, string(raw))
		}
		return err
	}
	rows := [][]string{
		{"locks", strconv.Itoa(r.Locks)},
		{"grants", fmt.Sprintf("%d, of which %d followed a lease that conflicts, and %d came from the queue", r.Grants, r.Handovers, r.Queued)},
		{"sidecars", fmt.Sprintf("%s (runs %d, lines %d)", strings.Join(r.Sidecars, ", "), r.Runs, r.Lines)},
		{"span", r.From.Format(time.RFC3339Nano) + " to " + r.To.Format(time.RFC3339Nano)},
	}
	for _, note := range []struct {
		n    int
		text string
	}{
		{r.Overridden, "leases were ended at once by an operator: from then on only their token protects"},
		{r.Unordered, "grants from the queue have no ticket, or an operator moved their place: their order is not known"},
		{r.Foreign, "ends are of leases whose grants are in no log"},
		{r.Unproven, "handovers lack the end of the earlier lease, which may be in what a killed sidecar did not write, or before a log begins"},
	} {
		if note.n > 0 {
			rows = append(rows, []string{"note", fmt.Sprintf("%d %s", note.n, note.text)})
		}
	}
	for _, open := range r.Open {
		rows = append(rows, []string{"open", open + ": it was killed, or it lives"})
	}
	for _, torn := range r.Torn {
		rows = append(rows, []string{"torn", torn + ": a line was cut off by a kill"})
	}
	verdict := "no two holders overlapped, tokens rose, the queue's order was kept"
	switch n := len(r.Violations); {
	case n == 0 && r.Unproven > 0:
		verdict = fmt.Sprintf("no violation, but of %d handovers it is not proven that the earlier lease had ended", r.Unproven)
	case n > 0:
		verdict = fmt.Sprintf("not proven: %d violations", n)
	}
	return table(w, append(rows, []string{"verdict", verdict})...)
}
