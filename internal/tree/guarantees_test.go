package tree

import (
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
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

// The matrix is made of the tables that the rows of the suite are compared with.
func TestMatrixOfTheDocumentsIsTheTables(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "conformance/testdata/*.txt"))
	if err != nil || len(files) < 10 {
		t.Fatalf("the tables: %v, %v", files, err)
	}
	for _, dir := range examples {
		files = append(files, filepath.Join(root, dir, "testdata", filepath.Base(dir)+".txt"))
	}
	slices.SortFunc(files, func(a, b string) int { return strings.Compare(filepath.Base(a), filepath.Base(b)) })
	var rows strings.Builder
	for _, file := range files {
		raw, err := os.ReadFile(file)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(strings.TrimSpace(string(raw)), "\n")
		ran := 0
		why := make(map[string]int)
		for _, line := range lines {
			if strings.HasSuffix(line, ": ran") {
				ran++
			} else if _, reason, ok := strings.Cut(line, ": skipped, needs "); ok {
				need, _, _ := strings.Cut(reason, ":")
				why[need]++
			} else {
				t.Errorf("%s: %q is neither run nor skipped for a need", file, line)
			}
		}
		if total := len(conformance.Cases()); len(lines) != total {
			t.Errorf("%s has %d cases of %d", file, len(lines), total)
		}
		var not []string
		for _, need := range slices.Sorted(maps.Keys(why)) {
			not = append(not, fmt.Sprintf("%s (%d)", need, why[need]))
		}
		name := strings.TrimSuffix(filepath.Base(file), ".txt")
		fmt.Fprintf(&rows, "| %s | %d | %s |\n", name, ran, strings.Join(not, ", "))
	}
	table(t, "conformance/GUARANTEES.md", "matrix", "| row | cases run | not run for want of |\n|---|---|---|\n"+rows.String())
}
