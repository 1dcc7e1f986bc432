package tree

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/conformance"
)

func TestGuaranteesOfTheDocumentsAreTheCases(t *testing.T) {
	var b strings.Builder
	b.WriteString("| case | guarantee | needs |\n|---|---|---|\n")
	for _, c := range conformance.Cases() {
		needs := make([]string, len(c.Needs))
		for i, n := range c.Needs {
			needs[i] = string(n)
		}
		fmt.Fprintf(&b, "| `%s` | %s | %s |\n", c.Name, c.Guarantee, strings.Join(needs, ", "))
	}
	table(t, "conformance/GUARANTEES.md", "guarantees", b.String())
}

// tables are the committed lists of what the rows of the suite run, by their names.
func tables(t *testing.T) map[string]listed {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(root, "conformance/testdata/*.txt"))
	if err != nil || len(files) < 8 {
		t.Fatalf("the tables: %v, %v", files, err)
	}
	for _, dir := range examples {
		files = append(files, filepath.Join(root, dir, "testdata", filepath.Base(dir)+".txt"))
	}
	all := make(map[string]listed)
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		l := listed{why: make(map[string]int)}
		for line := range strings.Lines(string(raw)) {
			if strings.HasSuffix(line, ": ran\n") {
				l.ran++
			} else if _, reason, ok := strings.Cut(line, ": skipped, needs "); ok {
				need, _, _ := strings.Cut(strings.TrimSuffix(reason, "\n"), ":")
				l.why[need]++
				l.skipped++
			} else {
				t.Errorf("%s: %q is neither run nor skipped for a need", file, line)
			}
		}
		if total := len(conformance.Cases()); l.ran+l.skipped != total {
			t.Errorf("%s has %d cases of %d", file, l.ran+l.skipped, total)
		}
		all[strings.TrimSuffix(filepath.Base(file), ".txt")] = l
	}
	return all
}

// listed is how many cases run, and how many do not for want of what.
type listed struct {
	ran, skipped int
	why          map[string]int
}

func (l listed) String() string { return fmt.Sprintf("%d of %d", l.ran, l.ran+l.skipped) }

func TestRowsOfTheDocumentsAreTheTables(t *testing.T) {
	all := tables(t)
	var rows strings.Builder
	for _, name := range slices.Sorted(maps.Keys(all)) {
		var not []string
		for _, need := range slices.Sorted(maps.Keys(all[name].why)) {
			not = append(not, fmt.Sprintf("%s (%d)", need, all[name].why[need]))
		}
		fmt.Fprintf(&rows, "| %s | %d | %s |\n", name, all[name].ran, strings.Join(not, ", "))
	}
	table(t, "conformance/GUARANTEES.md", "rows", "| row | cases run | not run for want of |\n|---|---|---|\n"+rows.String())
}

// The matrix is made of the tables and of the ledger of repeats.
func TestMatrixOfTheDocumentsIsTheTables(t *testing.T) {
	type line struct {
		server            string
		ways              [3]string
		repeats, failures int
	}
	ways := []string{"", "-breaker", "-socket"}
	all := tables(t)
	raw, err := os.ReadFile(filepath.Join(root, "conformance/testdata/ledger.tsv"))
	if err != nil {
		t.Fatal(err)
	}
	lines := make(map[string]*line)
	for text := range strings.Lines(string(raw)) {
		f := strings.Split(strings.TrimSuffix(text, "\n"), "\t")
		if len(f) != 8 {
			t.Fatalf("the ledger's line %q", text)
		}
		way := 0
		for i, suffix := range ways {
			if strings.HasSuffix(f[1], suffix) {
				way = i
			}
		}
		name := strings.TrimSuffix(f[1], ways[way])
		l := lines[name]
		if l == nil {
			l = &line{}
			lines[name] = l
		}
		ran, ok := all[name]
		for shorter := name; !ok; ran, ok = all[shorter] { // etcd-three runs what etcd runs
			i := strings.LastIndexByte(shorter, '-')
			if i < 0 {
				t.Fatalf("the ledger has a row %s without a table", name)
			}
			shorter = shorter[:i]
		}
		if way == 2 {
			ran = all["endpoint"]
		} else {
			l.server = f[2]
		}
		l.ways[way] = ran.String()
		repeats, _ := strconv.Atoi(f[3])
		failures, _ := strconv.Atoi(f[5])
		l.repeats += repeats
		l.failures += failures
	}
	var b strings.Builder
	b.WriteString("| store | server | directly | behind the breaker | through a socket | repeats | of these failed |\n|---|---|---|---|---|---|---|\n")
	for _, name := range slices.Sorted(maps.Keys(lines)) {
		l := lines[name]
		fmt.Fprintf(&b, "| %s | %s | %s | %s | %s | %d | %d |\n", name, l.server, l.ways[0], l.ways[1], l.ways[2], l.repeats, l.failures)
	}
	table(t, "README.md", "matrix", b.String())
}
