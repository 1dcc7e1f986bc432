// Package metrics keeps the process's metrics in a registry of its own.
//
// It guarantees that no lock id, owner or other text of a caller becomes a
// label, and that a counter on the hot path costs one atomic addition. The
// names are constants here and nowhere else.
package metrics

import (
	"context"
	"errors"
	"net/http"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/prometheus/client_golang/prometheus/promhttp"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// The names of the metrics.
const (
	Acquires          = "locksidecar_acquires_total"
	AcquireWait       = "locksidecar_acquire_wait_seconds"
	ContendedAcquires = "locksidecar_contended_acquires_total"
	Waiters           = "locksidecar_waiters"
	LeasesHeld        = "locksidecar_leases_held"
	LeasesLost        = "locksidecar_leases_lost_total"
	LeasesExpired     = "locksidecar_leases_expired_total"
	Renewals          = "locksidecar_renewals_total"
	BackendReady      = "locksidecar_backend_ready"
	BuildInfo         = "locksidecar_build_info"
)

// The results of an acquire.
const (
	resultGranted     = "granted"
	resultHeld        = "held"
	resultCancelled   = "cancelled"
	resultUnavailable = "unavailable"
	resultInvalid     = "invalid"
	resultError       = "error"
)

// Metrics are those of one process with one backend. It implements
// backend.Observer and renew.Observer.
type Metrics struct {
	registry  *prometheus.Registry
	acquires  map[bool]map[string]prometheus.Counter
	wait      map[bool]prometheus.Observer
	contended prometheus.Counter
	waiters   prometheus.Gauge
	held      prometheus.Gauge
	lost      map[renew.Reason]prometheus.Counter
	expired   prometheus.Counter
	renewals  map[string]prometheus.Counter
	ready     prometheus.Gauge
}

var (
	_ backend.Observer = (*Metrics)(nil)
	_ renew.Observer   = (*Metrics)(nil)
)

// New registers the metrics of a backend, and those of the Go runtime and the
// process.
func New(backendName, version string) *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	of := prometheus.Labels{"backend": backendName}
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help, ConstLabels: of}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string) prometheus.Gauge {
		g := prometheus.NewGauge(prometheus.GaugeOpts{Name: name, Help: help, ConstLabels: of})
		r.MustRegister(g)
		return g
	}
	acquires := counter(Acquires, "Acquires that have ended, by mode and result.", "mode", "result")
	lost := counter(LeasesLost, "Leases held for applications that were lost, by reason.", "reason")
	renewals := counter(Renewals, "Renewals that were answered, by result.", "result")
	wait := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: AcquireWait, Help: "Time from the call of an acquire to its end.", ConstLabels: of,
		Buckets: []float64{.0005, .001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
	}, []string{"mode"})
	info := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: BuildInfo, Help: "1, with the version of this build."}, []string{"version"})
	r.MustRegister(wait, info)
	info.WithLabelValues(version).Set(1)
	m := &Metrics{
		registry: r, acquires: make(map[bool]map[string]prometheus.Counter), wait: make(map[bool]prometheus.Observer),
		contended: counter(ContendedAcquires, "Acquires that did not get the lock at once.").WithLabelValues(),
		waiters:   gauge(Waiters, "Acquires that wait in this process."),
		held:      gauge(LeasesHeld, "Leases that this process holds for applications."),
		lost:      make(map[renew.Reason]prometheus.Counter),
		expired:   counter(LeasesExpired, "Expired leases that this process evicted; each expiry is counted once in a fleet.").WithLabelValues(),
		renewals:  make(map[string]prometheus.Counter),
		ready:     gauge(BackendReady, "Whether the backend answers."),
	}
	for shared, mode := range map[bool]string{false: "exclusive", true: "shared"} {
		m.wait[shared] = wait.WithLabelValues(mode)
		m.acquires[shared] = make(map[string]prometheus.Counter)
		for _, result := range []string{resultGranted, resultHeld, resultCancelled, resultUnavailable, resultInvalid, resultError} {
			m.acquires[shared][result] = acquires.WithLabelValues(mode, result)
		}
	}
	for _, reason := range renew.Reasons() {
		m.lost[reason] = lost.WithLabelValues(string(reason))
	}
	for _, result := range []string{"ok", "failed", "lost"} {
		m.renewals[result] = renewals.WithLabelValues(result)
	}
	return m
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultGranted
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return resultCancelled
	case errors.Is(err, driver.ErrHeld):
		return resultHeld
	case errors.Is(err, driver.ErrInvalid):
		return resultInvalid
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate), errors.Is(err, driver.ErrQuarantined):
		return resultUnavailable
	}
	return resultError
}

// Acquired counts an acquire that has ended.
func (m *Metrics) Acquired(o backend.AcquireObservation) {
	m.acquires[o.Shared][resultOf(o.Err)].Inc()
	m.wait[o.Shared].Observe(o.Wait.Seconds())
	if o.Contended {
		m.contended.Inc()
	}
}

// Waiting counts the acquires that wait.
func (m *Metrics) Waiting(delta int) { m.waiters.Add(float64(delta)) }

// Happened counts the expired leases.
func (m *Metrics) Happened(e backend.Event) {
	if e.Kind == backend.Ended && e.Cause == driver.CauseExpired {
		m.expired.Inc()
	}
}

// Held counts the leases held.
func (m *Metrics) Held(delta int) { m.held.Add(float64(delta)) }

// Lost counts lost leases.
func (m *Metrics) Lost(o renew.LostObservation) {
	if c := m.lost[o.Reason]; c != nil {
		c.Inc()
	}
}

// Renewed counts answered renewals.
func (m *Metrics) Renewed(result string) {
	if c := m.renewals[result]; c != nil {
		c.Inc()
	}
}

// Ready says whether the backend answers.
func (m *Metrics) Ready(ready bool) {
	m.ready.Set(map[bool]float64{true: 1}[ready])
}

// Serve returns a server of /metrics, /healthz (the process lives) and /readyz
// (the backend answers), and nothing else.
func (m *Metrics) Serve(ready func() bool) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "the backend does not answer", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
}
