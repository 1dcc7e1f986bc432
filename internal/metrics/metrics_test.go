package metrics

import (
	"context"
	"fmt"
	"net/http/httptest"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

func TestCountsAcquiresByResult(t *testing.T) {
	m := New("v1").Backend("redis")
	for result, err := range map[string]error{
		resultGranted: nil, resultHeld: &driver.HeldError{}, resultCancelled: context.Canceled,
		resultUnavailable: fmt.Errorf("acquire: %w", driver.ErrBreakerOpen), resultInvalid: &backend.InvalidError{}, resultDeadlock: driver.ErrDeadlock, resultError: driver.ErrClosed,
	} {
		m.Acquired(backend.AcquireObservation{Shared: true, Wait: time.Millisecond, Err: err, Contended: true})
		if n := testutil.ToFloat64(m.acquires[true][result]); n != 1 {
			t.Errorf("%s counted %v times for %v", result, n, err)
		}
	}
	if n := testutil.ToFloat64(m.contended); n != 7 {
		t.Errorf("%v contended acquires, want 7", n)
	}
}

func TestServesWellFormedMetricsWithoutCallersText(t *testing.T) {
	m := New("v1")
	b := m.Backend("embedded")
	b.Lost(renew.LostObservation{Reason: renew.ReasonForced})
	b.Lost(renew.LostObservation{Reason: "made up by a caller"})
	b.Held(1)
	m.Ready("embedded", true)
	m.Reloaded(ReloadRefused)
	m.Deadlocks(2, 1)
	m.Deadlocks(1, 0)
	m.DeadlockBroken()
	for c, want := range map[prometheus.Collector]float64{m.deadlocks: 1, m.deadlocksFound: 1, m.deadlocksBroken: 1} {
		if n := testutil.ToFloat64(c); n != want {
			t.Errorf("%v, want %v", n, want)
		}
	}
	if m.Backend("embedded") != b {
		t.Error("a backend's metrics are not the same ones each time")
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) != 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	w := httptest.NewRecorder()
	h := m.Serve(func() bool { return false }).Handler
	h.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	text := w.Body.String()
	for _, name := range []string{Acquires, AcquireWait, ContendedAcquires, Waiters, LeasesHeld, LeasesLost, LeasesExpired, Renewals, BackendReady, BuildInfo, ConfigReloads, Deadlocks, DeadlocksFound, DeadlocksBroken} {
		if !strings.Contains(text, name) {
			t.Errorf("%s is not served", name)
		}
	}
	if m.Closed("embedded"); testutil.CollectAndCount(m.ready) != 0 || testutil.CollectAndCount(m.held) != 1 {
		t.Error("a closed backend is asked for, or what was counted is gone")
	}
	if strings.Contains(text, "made up") {
		t.Error("a caller's text became a label")
	}
	for path, want := range map[string]int{"/healthz": 200, "/readyz": 503, "/": 404, "/debug/pprof/": 404} {
		w := httptest.NewRecorder()
		h.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s answered %d, want %d", path, w.Code, want)
		}
	}
}
