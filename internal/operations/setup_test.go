package operations

import (
	"fmt"
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// root is the repository's.
const root = "../.."

const (
	alertsFile    = root + "/charts/locksidecar/files/alerts.yaml"
	dashboardFile = root + "/charts/locksidecar/files/dashboard.json"
	testsFile     = "testdata/alerts_test.yaml"
)

// alert is one rule.
type alert struct {
	Alert       string
	Expr        string
	For         string
	Labels      map[string]string
	Annotations map[string]string
}

// page is the runbook's file, without its directory.
func (a *alert) page() string { return filepath.Base(a.Annotations["runbook_url"]) }

func alerts(t *testing.T) []alert {
	t.Helper()
	var document struct {
		Groups []struct {
			Name  string
			Rules []alert
		}
	}
	read(t, alertsFile, &document)
	var all []alert
	for _, g := range document.Groups {
		all = append(all, g.Rules...)
	}
	if len(all) < 10 {
		t.Fatalf("there are only %d alerts", len(all))
	}
	return all
}

func read(t *testing.T, file string, into any) {
	t.Helper()
	raw, err := os.ReadFile(file)
	if err == nil {
		err = yaml.Unmarshal(raw, into)
	}
	if err != nil {
		t.Fatal(err)
	}
}

// promtool runs the tool, which must be content.
func promtool(t *testing.T, args ...string) {
	t.Helper()
	if out, err := exec.CommandContext(t.Context(), testenv.Promtool(t), args...).CombinedOutput(); err != nil {
		t.Errorf("promtool %s: %v\n%s", strings.Join(args, " "), err, out)
	}
}

// series is what a process serves: the labels of each metric, of histograms
// with le.
func series(t *testing.T) map[string]map[string]bool {
	t.Helper()
	m := metrics.New(metrics.Options{Version: "v1"})
	m.Backend("main").Vitals(driver.Vitals{Replicates: true, Replicas: 1, MemoryUsed: .5})
	w := httptest.NewRecorder()
	m.Serve(func() bool { return true }).Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	page := w.Body.String() + injectors(t)
	line, label := regexp.MustCompile(`^(\w+)(?:\{(.*)\})? `), regexp.MustCompile(`(\w+)="`)
	found := map[string]map[string]bool{}
	for text := range strings.Lines(page) {
		s := line.FindStringSubmatch(text)
		if s == nil || strings.HasPrefix(text, "#") {
			continue
		}
		if found[s[1]] == nil {
			found[s[1]] = map[string]bool{"instance": true, "job": true, "namespace": true, "pod": true} // those that Prometheus adds
		}
		for _, l := range label.FindAllStringSubmatch(s[2], -1) {
			found[s[1]][l[1]] = true
		}
	}
	// Of API servers, as Kubernetes lists its metrics.
	found["apiserver_admission_webhook_rejection_count"] = map[string]bool{"name": true, "type": true, "operation": true, "error_type": true, "rejection_code": true}
	if len(found) < 30 {
		t.Fatalf("only %d metrics are served", len(found))
	}
	return found
}

// injectors is what an injector serves: its own tests compare the file with that,
// and its packages are nobody else's to import.
func injectors(t *testing.T) string {
	t.Helper()
	raw, err := os.ReadFile(root + "/cmd/locksidecar-injector/internal/metrics/testdata/metrics.txt")
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

var (
	selector = regexp.MustCompile(`\b((?:locksidecar|process|go|apiserver)_\w+)(?:\{([^}]*)\})?`)
	matcher  = regexp.MustCompile(`(\w+)\s*(?:=~|!~|!=|=)`)
	grouping = regexp.MustCompile(`\b(?:by|on|without|ignoring)\s*\(([^)]*)\)`)
)

// unknown says which metrics and labels of an expression are nobody's.
func unknown(expr string, served map[string]map[string]bool) (problems []string) {
	selected := selector.FindAllStringSubmatch(expr, -1)
	if len(selected) == 0 {
		problems = append(problems, "it asks for no metric")
	}
	all := map[string]bool{}
	for _, s := range selected {
		labels, ok := served[s[1]]
		if !ok {
			problems = append(problems, fmt.Sprintf("nobody serves %s", s[1]))
			continue
		}
		for l := range labels {
			all[l] = true
		}
		for _, l := range matcher.FindAllStringSubmatch(s[2], -1) {
			if !labels[l[1]] {
				problems = append(problems, fmt.Sprintf("%s has no label %s", s[1], l[1]))
			}
		}
	}
	for _, g := range grouping.FindAllStringSubmatch(expr, -1) {
		for l := range strings.SplitSeq(g[1], ",") {
			if l = strings.TrimSpace(l); l != "" && !all[l] {
				problems = append(problems, fmt.Sprintf("none of its metrics has the label %s", l))
			}
		}
	}
	return problems
}

func TestUnknownMetricsAndLabelsAreFound(t *testing.T) {
	served := map[string]map[string]bool{"locksidecar_a": {"backend": true}}
	for expr, problems := range map[string]int{
		`sum by (backend) (locksidecar_a{backend=~"x"})`: 0, `locksidecar_b`: 1, `locksidecar_a{lock="x", backend!="y"}`: 1,
		`sum by (backend, lock) (rate(locksidecar_a[5m]))`: 1, `vector(1)`: 1,
	} {
		if got := unknown(expr, served); len(got) != problems {
			t.Errorf("%s: %v", expr, got)
		}
	}
}
