package metrics

import (
	"net/http/httptest"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/prometheus/client_golang/prometheus/promhttp"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// whole are metrics of which each has something to show.
func whole() *Metrics {
	m := New("v1", []string{"annotation"}, Sources{
		Uninjected:    func() map[string]int { return map[string]int{"shop": 2} },
		Certificate:   func() (time.Time, time.Time, bool, bool) { return time.Unix(200, 0), time.Unix(100, 0), true, true },
		ConfigCurrent: func() bool { return true },
	})
	m.Admitted(Injected, "", time.Millisecond)
	m.Admitted(Errored, "panic", time.Millisecond)
	m.Dropped()
	return m
}

func served(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	promhttp.HandlerFor(m.Registry, promhttp.HandlerOpts{}).ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	return w.Body.String()
}

// What Prometheus's own tool has to say of the page: nothing.
func TestPromtoolFindsNothingInTheMetrics(t *testing.T) {
	m := whole()
	if problems, err := testutil.GatherAndLint(m.Registry); err != nil || len(problems) != 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	cmd := exec.CommandContext(t.Context(), testenv.Promtool(t), "check", "metrics")
	cmd.Stdin = strings.NewReader(served(t, m))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}

// The golden page is what alerts and documents are compared with.
func TestTheGoldenPageIsWhatIsServed(t *testing.T) {
	var own strings.Builder
	for line := range strings.Lines(served(t, whole())) {
		if strings.Contains(line, "locksidecar_") {
			own.WriteString(line)
		}
	}
	file := filepath.Join("testdata", "metrics.txt")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(own.String()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), own.String()); diff != "" {
		t.Errorf("%s is another; UPDATE=1 go test writes it:\n%s", file, diff)
	}
}

// What is not known is not told.
func TestWhatIsNotKnownIsNotServed(t *testing.T) {
	m := New("v1", nil, Sources{
		Uninjected:    func() map[string]int { return nil },
		Certificate:   func() (a, b time.Time, trusted, ok bool) { return },
		ConfigCurrent: func() bool { return false },
	})
	text := served(t, m)
	for _, absent := range []string{UninjectedPods, CertificateNotAfter, CertificateRotateAt} {
		if strings.Contains(text, absent) {
			t.Errorf("%s is served", absent)
		}
	}
	for _, line := range []string{CertificateTrusted + " 0\n", ConfigCurrent + " 0\n"} {
		if !strings.Contains(text, line) {
			t.Errorf("not served: %s", line)
		}
	}
}
