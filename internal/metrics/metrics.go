// Package metrics keeps the process's metrics in a registry of its own.
//
// It guarantees that no lock id, owner or other text of a caller becomes a
// label, that the number of series is bounded by the configuration, and that a
// counter on the hot path costs one atomic addition. The names are constants
// here and nowhere else.
package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// Options describe the process.
type Options struct {
	// Version, Revision and GoVersion are the build's.
	Version, Revision, GoVersion string
	// Classes are those of locks: the first that matches. Locks that none
	// matches are of OtherClass.
	Classes []Class
}

// Metrics are those of one process.
type Metrics struct {
	registry *prometheus.Registry
	classes  *classes

	// of a class of locks of a backend
	acquires, contended, lost *prometheus.CounterVec
	wait, queue, hold         *prometheus.HistogramVec
	// of a backend
	expired, renewals, calls             *prometheus.CounterVec
	margin, callTime                     *prometheus.HistogramVec
	waiters, held, ready, replicas       *prometheus.GaugeVec
	lag, memory, breakers, quarantine    *prometheus.GaugeVec
	reloads, limits                      *prometheus.CounterVec
	delivered, dropped, retries          *prometheus.CounterVec
	deadlocks, configCurrent, configTime prometheus.Gauge
	deadlocksDetected, deadlocksBroken   prometheus.Counter

	mu       sync.Mutex
	backends map[string]*Backend
}

// The buckets of the histograms. Beside them each has a native histogram, whose
// buckets grow by a tenth.
var (
	waitBuckets   = []float64{.0005, .001, .0025, .005, .01, .02, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60}
	holdBuckets   = []float64{.001, .01, .1, .5, 1, 5, 15, 60, 300, 900, 3600, 14_400}
	callBuckets   = []float64{.0005, .001, .0025, .005, .01, .025, .05, .1, .25, .5, 1, 2.5}
	marginBuckets = []float64{.05, .1, .2, .3, .4, .5, .6, .7, .8, .9, 1}
	queueBuckets  = []float64{1, 2, 5, 10, 20, 50, 100, 200, 500, 1000, 5000}
)

const (
	nativeFactor   = 1.1
	nativeBuckets  = 100
	nativeLifetime = time.Hour
)

// registration makes metrics in a registry.
type registration struct{ to *prometheus.Registry }

func (r registration) counter(name, help string, labels ...string) *prometheus.CounterVec {
	c := prometheus.NewCounterVec(prometheus.CounterOpts{Name: name, Help: help}, labels)
	r.to.MustRegister(c)
	return c
}

func (r registration) gauge(name, help string, labels ...string) *prometheus.GaugeVec {
	g := prometheus.NewGaugeVec(prometheus.GaugeOpts{Name: name, Help: help}, labels)
	r.to.MustRegister(g)
	return g
}

func (r registration) histogram(name, help string, buckets []float64, labels ...string) *prometheus.HistogramVec {
	h := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name: name, Help: help, Buckets: buckets, NativeHistogramBucketFactor: nativeFactor,
		NativeHistogramMaxBucketNumber: nativeBuckets, NativeHistogramMinResetDuration: nativeLifetime,
	}, labels)
	r.to.MustRegister(h)
	return h
}

// New registers the metrics of the Go runtime, of the process and of backends
// to come.
func New(o Options) *Metrics {
	r := registration{prometheus.NewRegistry()}
	r.to.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	m := &Metrics{
		registry: r.to, classes: newClasses(o.Classes), backends: make(map[string]*Backend),

		acquires:  r.counter(Acquires, "Acquires that have ended, by mode and result.", "backend", "lock_class", "mode", "result"),
		wait:      r.histogram(AcquireWait, "Time from the call of an acquire to its end.", waitBuckets, "backend", "lock_class", "mode"),
		contended: r.counter(ContendedAcquires, "Acquires that did not get the lock at once.", "backend", "lock_class"),
		queue:     r.histogram(QueueLength, "Waiters of the lock in the whole fleet, as an acquire that was queued found them, itself included.", queueBuckets, "backend", "lock_class"),
		hold:      r.histogram(LeaseHold, "For how long leases were held for applications, of those that ended.", holdBuckets, "backend", "lock_class", "mode"),
		lost:      r.counter(LeasesLost, "Leases held for applications that were lost, by reason.", "backend", "lock_class", "reason"),

		expired:    r.counter(LeasesExpired, "Expired leases that this process evicted; each expiry is counted once in a fleet.", "backend"),
		renewals:   r.counter(Renewals, "Renewals that were answered, by result.", "backend", "result"),
		margin:     r.histogram(RenewalMargin, "What was left to valid-until when a renewal succeeded, as a share of the TTL.", marginBuckets, "backend"),
		waiters:    r.gauge(Waiters, "Acquires that wait in this process.", "backend"),
		held:       r.gauge(LeasesHeld, "Leases that this process holds for applications.", "backend"),
		calls:      r.counter(BackendCalls, "Calls to the store, each lease of a batch of renewals and each retry by itself, by operation and outcome.", "backend", "operation", "outcome"),
		callTime:   r.histogram(BackendCallTime, "Time of a call to the store; a batch of renewals is one.", callBuckets, "backend", "operation"),
		ready:      r.gauge(BackendReady, "Whether the backend answers.", "backend"),
		replicas:   r.gauge(BackendReplicas, "Replicas that follow the store's primaries, where the store tells.", "backend"),
		lag:        r.gauge(BackendReplicationLag, "Since when the replica that is the furthest behind has not confirmed, where the store tells and has one.", "backend"),
		memory:     r.gauge(BackendMemoryUsed, "Share of the store's memory, or of its quota, that is used, of the server that is the fullest, where the store tells.", "backend"),
		breakers:   r.gauge(BreakerState, "1 for the state that the circuit breaker is in, by the calls that it guards.", "backend", "calls", "state"),
		quarantine: r.gauge(QuarantineRemaining, "For how long the store will still grant nothing because it may have lost leases; 0 if it grants.", "backend"),

		reloads: r.counter(ConfigReloads, "Changed configurations that were taken over or refused.", "result"),
		limits:  r.counter(LimitsHit, "Requests and connections that were refused for a limit, by the limit.", "limit"),

		delivered: r.counter(EventsDelivered, "Events that a sink has taken.", "sink"),
		dropped:   r.counter(EventsDropped, "Events that a sink will never get.", "sink"),
		retries:   r.counter(EventRetries, "Attempts to give events to a sink after the first one.", "sink"),

		deadlocks:         r.gauge(Deadlocks, "Deadlocks that this process's latest look found; 0 while it does not look.").WithLabelValues(),
		deadlocksDetected: r.counter(DeadlocksDetected, "Deadlocks that this process has found; each process that has a waiter in one may find it.").WithLabelValues(),
		deadlocksBroken:   r.counter(DeadlocksBroken, "Waiters of this process that were refused to break a deadlock.").WithLabelValues(),
		configCurrent:     r.gauge(ConfigCurrent, "1 if the latest configuration is in force, 0 if it was refused.").WithLabelValues(),
		configTime:        r.gauge(ConfigLoaded, "When the configuration that is in force was read.").WithLabelValues(),
	}
	r.gauge(BuildInfo, "1, with the version of this build.", "version", "revision", "go_version").
		WithLabelValues(o.Version, o.Revision, o.GoVersion).Set(1)
	r.to.MustRegister(oldestWaits{m, prometheus.NewDesc(OldestWait,
		"For how long the acquire of this process has waited that waits the longest; 0 if none waits.", []string{"backend", "lock_class"}, nil)})
	for _, result := range []string{ReloadOK, ReloadRefused} {
		m.reloads.WithLabelValues(result)
	}
	m.dropped.WithLabelValues(SinkWatch)
	m.limits.WithLabelValues("connections")
	m.configCurrent.Set(1)
	m.configTime.SetToCurrentTime()
	return m
}

// Reloaded counts a changed configuration: ReloadOK or ReloadRefused.
func (m *Metrics) Reloaded(result string) {
	m.reloads.WithLabelValues(result).Inc()
	if result != ReloadOK {
		m.configCurrent.Set(0)
		return
	}
	m.configCurrent.Set(1)
	m.configTime.SetToCurrentTime()
}

// EventsDropped counts events that the sink will not get. Sinks are named by
// this module, not by callers.
func (m *Metrics) EventsDropped(sink string, n uint64) {
	m.dropped.WithLabelValues(sink).Add(float64(n))
}

// LimitHit counts a refusal. Limits are named by this module, not by callers.
func (m *Metrics) LimitHit(limit string) { m.limits.WithLabelValues(limit).Inc() }

// Deadlocks notes what a look found: how many deadlocks there are, and how many of
// them are new.
func (m *Metrics) Deadlocks(standing, fresh int) {
	m.deadlocks.Set(float64(standing))
	m.deadlocksDetected.Add(float64(fresh))
}

// DeadlockBroken counts a waiter that was refused to break a deadlock.
func (m *Metrics) DeadlockBroken() { m.deadlocksBroken.Inc() }
