// Command testreport reads go test's JSON from standard input and prints what a
// person wants of it: a line for each package, the output of each failed test,
// the slowest tests, and the totals. It fails if a test failed or was skipped: a
// missing component must be a failure, and nothing here may be left out
// silently.
package main

import (
	"bufio"
	"cmp"
	"encoding/json"
	"fmt"
	"os"
	"slices"
	"strings"
)

// event is a line of go test -json.
type event struct {
	Action  string
	Package string
	Test    string
	Output  string
	Elapsed float64
}

// slowest is how many of the slowest tests are named.
const slowest = 10

func main() {
	output := make(map[[2]string]*strings.Builder)
	var passed, failed, skipped []event
	lines := bufio.NewScanner(os.Stdin)
	lines.Buffer(nil, 16<<20)
	for lines.Scan() {
		var e event
		if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
			fmt.Println(lines.Text()) // the go command itself, about a build that failed
			continue
		}
		key := [2]string{e.Package, e.Test}
		switch e.Action {
		case "output":
			if output[key] == nil {
				output[key] = &strings.Builder{}
			}
			_, _ = output[key].WriteString(e.Output) // it never fails
		case "build-output":
			fmt.Print(e.Output)
		case "pass", "fail", "skip":
			if e.Test == "" {
				fmt.Printf("%-5s %-70s %6.1fs\n", e.Action, e.Package, e.Elapsed)
				if e.Action == "fail" && output[key] != nil {
					fmt.Print(output[key])
				}
				continue
			}
			into := map[string]*[]event{"pass": &passed, "fail": &failed, "skip": &skipped}[e.Action]
			*into = append(*into, e)
		}
	}
	for _, e := range append(slices.Clone(failed), skipped...) {
		fmt.Printf("\n--- %s %s.%s\n%s", strings.ToUpper(e.Action), e.Package, e.Test, output[[2]string{e.Package, e.Test}])
	}
	slices.SortFunc(passed, func(a, b event) int { return cmp.Compare(b.Elapsed, a.Elapsed) })
	fmt.Println("\nslowest:")
	for _, e := range passed[:min(slowest, len(passed))] {
		fmt.Printf("%6.1fs %s.%s\n", e.Elapsed, e.Package, e.Test)
	}
	fmt.Printf("\n%d passed, %d failed, %d skipped\n", len(passed), len(failed), len(skipped))
	if len(failed)+len(skipped) > 0 || len(passed) == 0 || lines.Err() != nil {
		os.Exit(1)
	}
}
