package main

import (
	"bufio"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/configuration"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/internal/checks"
)

var update = flag.Bool("update", false, "write the document's tables")

// table compares what stands between two marks of docs/injector.md with what the
// code says, or writes it.
func table(t *testing.T, mark, header string, rows ...string) {
	t.Helper()
	want := header + "\n" + strings.Repeat("|---", strings.Count(header, "|")-1) + "|\n" + strings.Join(rows, "")
	checks.Table(t, filepath.Join("..", "..", "docs", "injector.md"), mark, want, *update)
}

func TestAnnotationsOfTheDocumentsAreTheCodes(t *testing.T) {
	rows := make([]string, len(inject.Annotations))
	for i, a := range inject.Annotations {
		rows[i] = fmt.Sprintf("| `%s%s` | %s | %s |\n", inject.Prefix, a.Name, a.Doc, a.Allowed)
	}
	table(t, "annotations", "| annotation | what it sets | allowed |", rows...)
}

func TestRefusalsOfTheDocumentsAreTheCodes(t *testing.T) {
	rows := make([]string, len(inject.Reasons))
	for i, r := range inject.Reasons {
		rows[i] = fmt.Sprintf("| `%s` | %s |\n", r, r.Meaning())
	}
	table(t, "refusals", "| reason | |", rows...)
}

func TestConfigurationOfTheDocumentsIsTheCodes(t *testing.T) {
	var rows []string
	var walk func(prefix string, of reflect.Type)
	walk = func(prefix string, of reflect.Type) {
		for i := range of.NumField() {
			f := of.Field(i)
			key := prefix + f.Tag.Get("json")
			if doc := f.Tag.Get("doc"); doc != "" {
				rows = append(rows, fmt.Sprintf("| `%s` | %s |\n", key, doc))
				continue
			}
			inner := f.Type
			if inner.Kind() == reflect.Slice {
				inner, key = inner.Elem(), key+"[]"
			}
			walk(key+".", inner)
		}
	}
	walk("", reflect.TypeFor[configuration.File]())
	table(t, "configuration", "| key | |", rows...)
}

func TestMetricsOfTheDocumentsAreTheCodes(t *testing.T) {
	f, err := os.Open(filepath.Join("internal", "metrics", "testdata", "metrics.txt"))
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	help, labels := map[string]string{}, map[string][]string{}
	series, label := regexp.MustCompile(`^(locksidecar_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} `), regexp.MustCompile(`(\w+)="`)
	for lines := bufio.NewScanner(f); lines.Scan(); {
		if f := strings.SplitN(lines.Text(), " ", 4); len(f) == 4 && f[1] == "HELP" {
			help[f[2]] = f[3]
		} else if m := series.FindStringSubmatch(lines.Text()); m != nil {
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "le" && !slices.Contains(labels[m[1]], l[1]) {
					labels[m[1]] = append(labels[m[1]], l[1])
				}
			}
		}
	}
	rows := make([]string, 0, len(help))
	for name, text := range help {
		slices.Sort(labels[name])
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, strings.Join(labels[name], ", "), text))
	}
	slices.Sort(rows)
	table(t, "metrics", "| metric | labels | |", rows...)
}
