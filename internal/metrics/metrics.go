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
	"sync"
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
	ConfigReloads     = "locksidecar_config_reloads_total"
	Deadlocks         = "locksidecar_deadlocks"
	DeadlocksFound    = "locksidecar_deadlocks_found_total"
	DeadlocksBroken   = "locksidecar_deadlocks_broken_total"
)

// The results of a reload.
const (
	ReloadOK      = "ok"
	ReloadRefused = "refused"
)

// The results of an acquire.
const (
	resultGranted     = "granted"
	resultHeld        = "held"
	resultCancelled   = "cancelled"
	resultUnavailable = "unavailable"
	resultInvalid     = "invalid"
	resultDeadlock    = "deadlock"
	resultError       = "error"
)

// Metrics are those of one process.
type Metrics struct {
	registry                         *prometheus.Registry
	acquires, contended              *prometheus.CounterVec
	lost, expired, renewals, reloads *prometheus.CounterVec
	wait                             *prometheus.HistogramVec
	waiters, held, ready             *prometheus.GaugeVec
	deadlocks                        prometheus.Gauge
	deadlocksFound, deadlocksBroken  prometheus.Counter

	mu       sync.Mutex
	backends map[string]*Backend
}

// Backend are the metrics of one backend. It implements backend.Observer and
// renew.Observer.
type Backend struct {
	acquires  map[bool]map[string]prometheus.Counter
	wait      map[bool]prometheus.Observer
	contended prometheus.Counter
	waiters   prometheus.Gauge
	held      prometheus.Gauge
	lost      map[renew.Reason]prometheus.Counter
	expired   prometheus.Counter
	renewals  map[string]prometheus.Counter
}

var (
	_ backend.Observer = (*Backend)(nil)
	_ renew.Observer   = (*Backend)(nil)
)

// New registers the metrics of the Go runtime, of the process and of backends
// to come.
func New(version string) *Metrics {
	r := prometheus.NewRegistry()
	r.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	counter := func(name, help string, labels ...string) *prometheus.CounterVec {
		c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
		r.MustRegister(c)
		return c
	}
	gauge := func(name, help string, labels ...string) *prometheus.GaugeVec {
		g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
		r.MustRegister(g)
		return g
	}
	m := &Metrics{
		registry: r, backends: make(map[string]*Backend),
		acquires:  counter(Acquires, "Acquires that have ended, by mode and result.", "backend", "mode", "result"),
		contended: counter(ContendedAcquires, "Acquires that did not get the lock at once.", "backend"),
		lost:      counter(LeasesLost, "Leases held for applications that were lost, by reason.", "backend", "reason"),
		expired:   counter(LeasesExpired, "Expired leases that this process evicted; each expiry is counted once in a fleet.", "backend"),
		renewals:  counter(Renewals, "Renewals that were answered, by result.", "backend", "result"),
		reloads:   counter(ConfigReloads, "Changed configurations that were taken over or refused.", "result"),
		waiters:   gauge(Waiters, "Acquires that wait in this process.", "backend"),
		held:      gauge(LeasesHeld, "Leases that this process holds for applications.", "backend"),
		ready:     gauge(BackendReady, "Whether the backend answers.", "backend"),
		wait: prometheus.NewHistogramVec(prometheus.HistogramOpts{
			Name: AcquireWait, Help: "Time from the call of an acquire to its end.",
			Buckets: []float64{.0005, .001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60},
		}, []string{"backend", "mode"}),
	}
	r.MustRegister(m.wait)
	m.deadlocks = gauge(Deadlocks, "Deadlocks that the latest look found.").WithLabelValues()
	m.deadlocksFound = counter(DeadlocksFound, "Deadlocks that this process found; each process that has a waiter in one may find it.").WithLabelValues()
	m.deadlocksBroken = counter(DeadlocksBroken, "Waiters of this process that were refused to break a deadlock.").WithLabelValues()
	gauge(BuildInfo, "1, with the version of this build.", "version").WithLabelValues(version).Set(1)
	for _, result := range []string{ReloadOK, ReloadRefused} {
		m.reloads.WithLabelValues(result)
	}
	return m
}

// Backend are the metrics of the backend with this name, the same ones each
// time.
func (m *Metrics) Backend(name string) *Backend {
	m.mu.Lock()
	defer m.mu.Unlock()
	if b := m.backends[name]; b != nil {
		return b
	}
	b := &Backend{
		acquires: make(map[bool]map[string]prometheus.Counter), wait: make(map[bool]prometheus.Observer),
		contended: m.contended.WithLabelValues(name), waiters: m.waiters.WithLabelValues(name), held: m.held.WithLabelValues(name),
		lost: make(map[renew.Reason]prometheus.Counter), expired: m.expired.WithLabelValues(name),
		renewals: make(map[string]prometheus.Counter),
	}
	m.ready.WithLabelValues(name)
	for shared, mode := range map[bool]string{false: "exclusive", true: "shared"} {
		b.wait[shared] = m.wait.WithLabelValues(name, mode)
		b.acquires[shared] = make(map[string]prometheus.Counter)
		for _, result := range []string{resultGranted, resultHeld, resultCancelled, resultUnavailable, resultInvalid, resultDeadlock, resultError} {
			b.acquires[shared][result] = m.acquires.WithLabelValues(name, mode, result)
		}
	}
	for _, reason := range renew.Reasons() {
		b.lost[reason] = m.lost.WithLabelValues(name, string(reason))
	}
	for _, result := range []string{"ok", "failed", "lost"} {
		b.renewals[result] = m.renewals.WithLabelValues(name, result)
	}
	m.backends[name] = b
	return b
}

func resultOf(err error) string {
	switch {
	case err == nil:
		return resultGranted
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return resultCancelled
	case errors.Is(err, driver.ErrHeld):
		return resultHeld
	case errors.Is(err, driver.ErrDeadlock):
		return resultDeadlock
	case errors.Is(err, driver.ErrInvalid):
		return resultInvalid
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate), errors.Is(err, driver.ErrQuarantined):
		return resultUnavailable
	}
	return resultError
}

// Acquired counts an acquire that has ended.
func (m *Backend) Acquired(o backend.AcquireObservation) {
	m.acquires[o.Shared][resultOf(o.Err)].Inc()
	m.wait[o.Shared].Observe(o.Wait.Seconds())
	if o.Contended {
		m.contended.Inc()
	}
}

// Waiting counts the acquires that wait.
func (m *Backend) Waiting(delta int) { m.waiters.Add(float64(delta)) }

// Happened counts the expired leases.
func (m *Backend) Happened(e backend.Event) {
	if e.Kind == backend.Ended && e.Cause == driver.CauseExpired {
		m.expired.Inc()
	}
}

// Held counts the leases held.
func (m *Backend) Held(delta int) { m.held.Add(float64(delta)) }

// Lost counts lost leases.
func (m *Backend) Lost(o renew.LostObservation) {
	if c := m.lost[o.Reason]; c != nil {
		c.Inc()
	}
}

// Renewed counts answered renewals.
func (m *Backend) Renewed(result string) {
	if c := m.renewals[result]; c != nil {
		c.Inc()
	}
}

// Ready says whether a backend answers.
func (m *Metrics) Ready(name string, ready bool) {
	m.ready.WithLabelValues(name).Set(map[bool]float64{true: 1}[ready])
}

// Closed says that a backend is not used any more: whether it answers is
// nobody's question. What was counted stays.
func (m *Metrics) Closed(name string) { m.ready.DeleteLabelValues(name) }

// Reloaded counts a changed configuration: ReloadOK or ReloadRefused.
func (m *Metrics) Reloaded(result string) { m.reloads.WithLabelValues(result).Inc() }

// Deadlocks notes what a look found: how many deadlocks there are, and how many of
// them are new.
func (m *Metrics) Deadlocks(now, fresh int) {
	m.deadlocks.Set(float64(now))
	m.deadlocksFound.Add(float64(fresh))
}

// DeadlockBroken counts a waiter that was refused to break a deadlock.
func (m *Metrics) DeadlockBroken() { m.deadlocksBroken.Inc() }

// Serve returns a server of /metrics, /healthz (the process lives) and /readyz
// (a backend answers), and nothing else.
func (m *Metrics) Serve(ready func() bool) *http.Server {
	mux := http.NewServeMux()
	mux.Handle("GET /metrics", promhttp.HandlerFor(m.registry, promhttp.HandlerOpts{}))
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("ok\n")) })
	mux.HandleFunc("GET /readyz", func(w http.ResponseWriter, _ *http.Request) {
		if !ready() {
			http.Error(w, "no backend answers", http.StatusServiceUnavailable)
			return
		}
		_, _ = w.Write([]byte("ok\n"))
	})
	return &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout: 30 * time.Second, MaxHeaderBytes: 16 << 10,
	}
}
