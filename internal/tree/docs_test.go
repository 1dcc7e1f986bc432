package tree

import (
	"bufio"
	"flag"
	"fmt"
	"go/ast"
	"go/parser"
	"go/token"
	"net/http/httptest"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/checks"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/socket"
)

// root is the repository's.
const root = "../.."

var update = flag.Bool("update", false, "write the documents' tables")

// table compares what stands between two marks of a document with what the code
// says, or writes it.
func table(t *testing.T, file, mark, want string) {
	t.Helper()
	checks.Table(t, filepath.Join(root, file), mark, want, *update)
}

func TestErrorTableOfTheDocumentsIsTheCodes(t *testing.T) {
	var b strings.Builder
	b.WriteString("| reason | gRPC | HTTP | meaning | metadata | retry after |\n|---|---|---|---|---|---|\n")
	for _, r := range socket.Reasons() {
		retry := ""
		if r.Retry > 0 {
			retry = r.Retry.String()
		}
		metadata := ""
		if len(r.Metadata) > 0 {
			metadata = "`" + strings.Join(r.Metadata, "`, `") + "`"
		}
		fmt.Fprintf(&b, "| `%s` | `%s` | %d | %s | %s | %s |\n", r.Name, code(r.Code.String()), r.HTTP, r.Meaning, metadata, retry)
	}
	table(t, "docs/api.md", "errors", b.String())
}

// code is a gRPC code as the protocol spells it: NotFound is NOT_FOUND.
func code(s string) string {
	return strings.ToUpper(regexp.MustCompile(`([a-z])([A-Z])`).ReplaceAllString(s, "${1}_$2"))
}

func TestMetricsTableOfTheDocumentsIsTheCodes(t *testing.T) {
	w := httptest.NewRecorder()
	m := metrics.New(metrics.Options{Version: "v1"})
	m.Backend("redis").Vitals(driver.Vitals{Replicates: true, Replicas: 1, MemoryUsed: .5})
	m.Sink("audit")
	m.Serve(func() bool { return true }).Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	help, labels := map[string]string{}, map[string][]string{}
	series := regexp.MustCompile(`^(locksidecar_\w+?)(?:_bucket|_sum|_count)?\{(.*)\} `)
	label := regexp.MustCompile(`(\w+)="`)
	for lines := bufio.NewScanner(w.Body); lines.Scan(); {
		if f := strings.SplitN(lines.Text(), " ", 4); len(f) == 4 && f[1] == "HELP" && strings.HasPrefix(f[2], "locksidecar_") {
			help[f[2]] = f[3]
		} else if m := series.FindStringSubmatch(lines.Text()); m != nil {
			for _, l := range label.FindAllStringSubmatch(m[2], -1) {
				if l[1] != "le" && !slices.Contains(labels[m[1]], l[1]) {
					labels[m[1]] = append(labels[m[1]], l[1])
				}
			}
		}
	}
	var rows []string
	for name, text := range help {
		slices.Sort(labels[name])
		rows = append(rows, fmt.Sprintf("| `%s` | %s | %s |\n", name, strings.Join(labels[name], ", "), text))
	}
	slices.Sort(rows)
	table(t, "docs/metrics.md", "metrics", "| metric | labels | |\n|---|---|---|\n"+strings.Join(rows, ""))
}

func TestLogKeysOfTheDocumentsAreTheCodes(t *testing.T) {
	file, err := parser.ParseFile(token.NewFileSet(), filepath.Join(root, "backend/driver/log.go"), nil, 0)
	if err != nil {
		t.Fatal(err)
	}
	constants := 0
	ast.Inspect(file, func(n ast.Node) bool {
		if d, ok := n.(*ast.GenDecl); ok && d.Tok == token.CONST {
			constants += len(d.Specs)
		}
		return true
	})
	if constants != len(driver.LogKeys) {
		t.Errorf("driver.LogKeys has %d keys, the constants are %d", len(driver.LogKeys), constants)
	}
	var b strings.Builder
	b.WriteString("| key | |\n|---|---|\n")
	for _, k := range driver.LogKeys {
		fmt.Fprintf(&b, "| `%s` | %s |\n", k.Key, k.Meaning)
	}
	table(t, "docs/host.md", "logkeys", b.String())
}
