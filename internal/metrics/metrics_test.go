package metrics

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"net/http/httptest"
	"os/exec"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus/testutil"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/pattern"
	"github.com/locksidecar/locksidecar/internal/testenv"
	"github.com/locksidecar/locksidecar/renew"
)

func TestCountsAcquiresByResult(t *testing.T) {
	m := New(Options{}).Backend("redis")
	all := 0
	for result, errs := range map[result][]error{
		granted: {nil}, held: {&driver.HeldError{}}, invalid: {&backend.InvalidError{}}, deadlocked: {driver.ErrDeadlock}, failed: {driver.ErrClosed},
		cancelled: {context.Canceled, context.DeadlineExceeded},
		unavailable: {
			fmt.Errorf("acquire: %w", driver.ErrBreakerOpen),
			// Of a store that hangs: the driver's time for a call is over, not the caller's.
			fmt.Errorf("%w: %w", driver.ErrUnavailable, context.DeadlineExceeded), fmt.Errorf("%w: %w", driver.ErrIndeterminate, context.DeadlineExceeded),
		},
	} {
		for i, err := range errs {
			m.Acquired(backend.AcquireObservation{Shared: true, Wait: time.Millisecond, Err: err, Contended: true})
			if n := testutil.ToFloat64(m.of[0].acquires[1][result]); n != float64(i+1) {
				t.Errorf("%s counted %v times for %v", resultNames[result], n, err)
			}
			all++
		}
	}
	if n := testutil.ToFloat64(m.of[0].contended); n != float64(all) {
		t.Errorf("%v contended acquires, want %d", n, all)
	}
}

// A wait that has not ended is seen: of each class the oldest one of all stores that
// stand under the backend's name.
func TestOldestWaitIsThatOfAllStoresOfTheBackend(t *testing.T) {
	m := New(Options{Classes: []Class{class(t, "jobs", "jobs/**")}})
	m.Backend("idle")
	waiting := map[string]time.Duration{"jobs/1": 20 * time.Minute, "jobs/2": time.Minute, "cart": time.Hour}
	first := m.Backend("main").Waits(func(tell func(string, time.Duration)) {
		for lock, waited := range waiting {
			tell(lock, waited)
		}
	})
	second := m.Backend("main").Waits(func(tell func(string, time.Duration)) { tell("jobs/3", 30*time.Minute) })
	shows := func(jobs, other string) {
		t.Helper()
		text := served(t, m)
		for labels, want := range map[string]string{
			`backend="main",lock_class="jobs"`: jobs, `backend="main",lock_class="other"`: other, `backend="idle",lock_class="jobs"`: "0",
		} {
			if line := OldestWait + "{" + labels + "} " + want; !strings.Contains(text, "\n"+line+"\n") {
				t.Errorf("not served: %s", line)
			}
		}
	}
	shows("1800", "3600")
	second()
	shows("1200", "3600")
	delete(waiting, "cart")
	shows("1200", "0")
	first()
	shows("0", "0")
}

// class is one of patterns that are right.
func class(t *testing.T, name string, patterns ...string) Class {
	t.Helper()
	c := Class{Name: name}
	for _, text := range patterns {
		p, err := pattern.Parse(text)
		if err != nil {
			t.Fatal(err)
		}
		c.Match = append(c.Match, p)
	}
	return c
}

func TestTheFirstClassThatMatchesCounts(t *testing.T) {
	m := New(Options{Classes: []Class{
		class(t, "ledger", "payments/*/ledger"), class(t, "money", "payments/**", "refunds/**"), class(t, "ledger", "ledger"),
		class(t, OtherClass, "refunds"),
	}})
	b := m.Backend("main")
	for lock, want := range map[string]string{
		"payments/eu/ledger": "ledger", "ledger": "ledger", "payments/eu": "money", "refunds/1/2": "money", "refunds": OtherClass, "x": OtherClass,
	} {
		b.Lost(renew.LostObservation{LockID: lock, Reason: renew.ReasonExpired})
		if got := m.classes.names[m.classes.of(lock)]; got != want {
			t.Errorf("%s is of the class %s, want %s", lock, got, want)
		}
	}
	for name, want := range map[string]float64{"ledger": 2, "money": 2, OtherClass: 2} {
		if n := testutil.ToFloat64(m.lost.WithLabelValues("main", name, string(renew.ReasonExpired))); n != want {
			t.Errorf("%v lost of the class %s, want %v", n, name, want)
		}
	}
}

// Whatever the locks are called, the number of series is that of the classes.
func TestSeriesAreBoundedHoweverManyLocksThereAre(t *testing.T) {
	m := New(Options{Classes: []Class{class(t, "jobs", "jobs/**")}})
	b := m.Backend("main")
	used(m, b, "jobs/0")
	before := series(t, m)
	for i := range 10_000 {
		used(m, b, "jobs/"+strconv.Itoa(i))
		used(m, b, "tenant-"+strconv.Itoa(i)+"/cart")
	}
	if after := series(t, m); after != before || before == 0 || before > 1500 {
		t.Errorf("%d series before, %d after 10,000 locks", before, after)
	}
}

// used tells of everything that may happen to a lock.
func used(m *Metrics, b *Backend, lock string) {
	for _, shared := range []bool{false, true} {
		for _, err := range []error{nil, &driver.HeldError{}, driver.ErrClosed, errors.New(lock)} {
			b.Acquired(backend.AcquireObservation{LockID: lock, Shared: shared, Wait: time.Millisecond, Contended: true, Err: err})
		}
		b.Held(renew.HeldObservation{LockID: lock, Shared: shared, Delta: 1})
		b.Held(renew.HeldObservation{LockID: lock, Shared: shared, Delta: -1, For: time.Second})
	}
	b.Happened(backend.Event{Kind: backend.Queued, LockID: lock, QueueLength: 3})
	b.Happened(backend.Event{Kind: backend.Ended, Cause: driver.CauseExpired, LockID: lock})
	b.Lost(renew.LostObservation{LockID: lock, Reason: renew.ReasonForced})
	b.Lost(renew.LostObservation{LockID: lock, Reason: renew.Reason(lock)})
	b.Renewed(renew.RenewedObservation{Result: renew.ResultOK, Left: 10 * time.Second, TTL: 15 * time.Second})
	b.Renewed(renew.RenewedObservation{Result: lock})
	m.Deadlocks(1, 1)
	m.DeadlockBroken()
}

// series counts the lines that are served, but those of the runtime.
func series(t *testing.T, m *Metrics) (n int) {
	t.Helper()
	for line := range strings.Lines(served(t, m)) {
		if strings.HasPrefix(line, "locksidecar_") {
			n++
		}
	}
	return n
}

func served(t *testing.T, m *Metrics) string {
	t.Helper()
	w := httptest.NewRecorder()
	m.Serve(func() bool { return false }).Handler.ServeHTTP(w, httptest.NewRequest("GET", "/metrics", nil))
	if w.Code != http.StatusOK {
		t.Fatalf("/metrics answered %d", w.Code)
	}
	return w.Body.String()
}

// whole are metrics of which each has something to show.
func whole(t *testing.T) *Metrics {
	t.Helper()
	m := New(Options{Version: "v1"})
	b := m.Backend("embedded")
	used(m, b, "made up by a caller")
	b.Ready(true)
	b.Vitals(driver.Vitals{Replicates: true, Replicas: 1, ReplicationLag: time.Second, MemoryUsed: .5})
	m.Reloaded(ReloadRefused)
	m.Sink("audit").Dropped(2)
	return m
}

// names are all.
var names = []string{
	Acquires, AcquireWait, ContendedAcquires, QueueLength, Waiters, OldestWait, LeasesHeld, LeaseHold, LeasesLost, LeasesExpired, Renewals, RenewalMargin,
	BackendReady, BackendCalls, BackendCallTime, BackendReplicas, BackendReplicationLag, BackendMemoryUsed, BreakerState, QuarantineRemaining,
	Deadlocks, DeadlocksDetected, DeadlocksBroken, EventsDelivered, EventsDropped, EventRetries, LimitsHit, ConfigReloads, ConfigCurrent, ConfigLoaded, BuildInfo,
}

func TestServesWellFormedMetricsWithoutCallersText(t *testing.T) {
	m := whole(t)
	if b := m.Backend("embedded"); b != m.Backend("embedded") {
		t.Error("a backend's metrics are not the same ones each time")
	}
	problems, err := testutil.GatherAndLint(m.registry)
	if err != nil || len(problems) != 0 {
		t.Errorf("lint: %v, %v", problems, err)
	}
	text := served(t, m)
	for _, name := range names {
		if !strings.Contains(text, "# HELP "+name+" ") || !strings.Contains(text, "\n"+name) {
			t.Errorf("%s is not served", name)
		}
	}
	if n := strings.Count(text, "# HELP locksidecar_"); n != len(names) {
		t.Errorf("%d metrics are served, %d are named here", n, len(names))
	}
	if strings.Contains(text, "made up") {
		t.Error("a caller's text became a label")
	}
}

func TestServesThreePathsAndNothingElse(t *testing.T) {
	for path, want := range map[string]int{"/metrics": 200, "/healthz": 200, "/readyz": 503, "/": 404, "/debug/pprof/": 404} {
		w := httptest.NewRecorder()
		New(Options{}).Serve(func() bool { return false }).Handler.ServeHTTP(w, httptest.NewRequest("GET", path, nil))
		if w.Code != want {
			t.Errorf("%s answered %d, want %d", path, w.Code, want)
		}
	}
}

// Prometheus asks for protocol buffers where it takes native histograms.
func TestNativeHistogramsStandBesideTheClassicBuckets(t *testing.T) {
	families, err := whole(t).registry.Gather()
	if err != nil {
		t.Fatal(err)
	}
	seen := 0
	for _, f := range families {
		for _, one := range f.GetMetric() {
			h := one.GetHistogram()
			if h == nil || !strings.HasPrefix(f.GetName(), "locksidecar_") || h.GetSampleCount() == 0 {
				continue
			}
			seen++
			if len(h.GetBucket()) == 0 || len(h.GetPositiveSpan()) == 0 {
				t.Errorf("%s has %d classic buckets and %d native spans", f.GetName(), len(h.GetBucket()), len(h.GetPositiveSpan()))
			}
		}
	}
	if seen == 0 {
		t.Error("no histogram was looked at")
	}
}

func TestConditionOfABackend(t *testing.T) {
	m := whole(t)
	b := m.Backend("embedded")
	b.Breaker("acquire", "open")
	b.Quarantined(90 * time.Second)
	text := served(t, m)
	for _, want := range []string{
		`locksidecar_breaker_state{backend="embedded",calls="acquire",state="open"} 1`,
		`locksidecar_breaker_state{backend="embedded",calls="acquire",state="closed"} 0`,
		`locksidecar_quarantine_remaining_seconds{backend="embedded"} 90`,
		`locksidecar_backend_replication_lag_seconds{backend="embedded"} 1`, `locksidecar_backend_memory_used_ratio{backend="embedded"} 0.5`,
		`locksidecar_backend_ready{backend="embedded"} 1`, `locksidecar_config_current 0`,
	} {
		if !strings.Contains(text, want+"\n") {
			t.Errorf("not served: %s", want)
		}
	}
	b.Vitals(driver.Vitals{Replicates: true})
	if text = served(t, m); strings.Contains(text, BackendReplicationLag) || strings.Contains(text, BackendMemoryUsed) ||
		!strings.Contains(text, BackendReplicas+`{backend="embedded"} 0`) {
		t.Error("what the store does not tell is served, or not what it tells")
	}
	b.Closed()
	if text = served(t, m); strings.Contains(text, BackendReady+"{") || strings.Contains(text, BreakerState+"{") || !strings.Contains(text, LeasesHeld+"{") {
		t.Error("a closed backend is asked for, or what was counted is gone")
	}
	m.Reloaded(ReloadOK)
	if !strings.Contains(served(t, m), ConfigCurrent+" 1\n") {
		t.Error("the configuration that was taken over is not current")
	}
}

// What Prometheus's own tool has to say of the page: nothing.
func TestPromtoolFindsNothingInTheMetrics(t *testing.T) {
	cmd := exec.CommandContext(t.Context(), testenv.Promtool(t), "check", "metrics")
	cmd.Stdin = strings.NewReader(served(t, whole(t)))
	if out, err := cmd.CombinedOutput(); err != nil || len(out) > 0 {
		t.Errorf("%v\n%s", err, out)
	}
}
