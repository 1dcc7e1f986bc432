// Package metrics counts what the injector does.
//
// It guarantees that the labels are of this process: a result, a reason of
// inject.Reasons, a namespace; never a pod's text. So the number of series is
// bounded by that of the namespaces with labelled pods.
//
// It does not guarantee that two replicas count the same: each counts the reviews
// that it was asked for, and the pods that it sees.
package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
)

// The names of the metrics.
const (
	Admissions          = "locksidecar_injector_admissions_total"
	AdmissionTime       = "locksidecar_injector_admission_seconds"
	UninjectedPods      = "locksidecar_injector_uninjected_pods"
	CertificateNotAfter = "locksidecar_injector_certificate_not_after_timestamp_seconds"
	CertificateRotateAt = "locksidecar_injector_certificate_rotate_at_timestamp_seconds"
	CertificateTrusted  = "locksidecar_injector_certificate_trusted"
	ConfigCurrent       = "locksidecar_injector_config_current"
	EventsDropped       = "locksidecar_injector_events_dropped_total"
	BuildInfo           = "locksidecar_injector_build_info"
)

// The results of an admission.
const (
	// Injected: the pod got its sidecar.
	Injected = "injected"
	// Already: it had it.
	Already = "already"
	// Static: it is one of its node's files, and runs without.
	Static = "static"
	// Refused: the pod is wrong.
	Refused = "refused"
	// Errored: the injector or the request is.
	Errored = "error"
)

// Metrics are one process's.
type Metrics struct {
	Registry   *prometheus.Registry
	admissions *prometheus.CounterVec
	took       prometheus.Histogram
	dropped    prometheus.Counter
}

// Sources are asked when metrics are read.
type Sources struct {
	// Uninjected counts pods by namespace; nil where they are not known yet.
	Uninjected func() map[string]int
	// Certificate is about the one that is served; ok is false before there is
	// one.
	Certificate func() (notAfter, rotateAt time.Time, trusted, ok bool)
	// ConfigCurrent says whether the file as it is now is in force.
	ConfigCurrent func() bool
}

// New returns the metrics of a process of this version.
func New(version string, reasons []string, s Sources) *Metrics {
	m := &Metrics{
		Registry: prometheus.NewRegistry(),
		admissions: prometheus.NewCounterVec(prometheus.CounterOpts{
			Name: Admissions, Help: "Reviews of pods that want a sidecar, by their result and, of those that were not admitted, the reason.",
		}, []string{"result", "reason"}),
		took: prometheus.NewHistogram(prometheus.HistogramOpts{
			Name: AdmissionTime, Help: "How long reviews took.", Buckets: []float64{.001, .0025, .005, .01, .025, .05, .1, .5, 1, 5},
		}),
		dropped: prometheus.NewCounter(prometheus.CounterOpts{Name: EventsDropped, Help: "Events of Kubernetes that were not written: too many at a time, or the server refused."}),
	}
	build := prometheus.NewGauge(prometheus.GaugeOpts{Name: BuildInfo, Help: "1, for the version of this process.", ConstLabels: prometheus.Labels{"version": version}})
	build.Set(1)
	for _, result := range []string{Injected, Already, Static} {
		m.admissions.WithLabelValues(result, "")
	}
	for _, reason := range reasons {
		m.admissions.WithLabelValues(Refused, reason)
	}
	m.Registry.MustRegister(m.admissions, m.took, m.dropped, build, &asked{s},
		collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}))
	return m
}

// Admitted counts one review.
func (m *Metrics) Admitted(result, reason string, took time.Duration) {
	m.admissions.WithLabelValues(result, reason).Inc()
	m.took.Observe(took.Seconds())
}

// Dropped counts an event.
func (m *Metrics) Dropped() { m.dropped.Inc() }

// asked are the metrics that are read from where they are known.
type asked struct{ s Sources }

var (
	uninjected = prometheus.NewDesc(UninjectedPods, "Pods with the label that have not ended and have no sidecar, as this replica sees them.", []string{"namespace"}, nil)
	notAfter   = prometheus.NewDesc(CertificateNotAfter, "When the certificate that is served ends.", nil, nil)
	rotateAt   = prometheus.NewDesc(CertificateRotateAt, "When the certificate that is served should have been replaced.", nil, nil)
	trusted    = prometheus.NewDesc(CertificateTrusted, "1 if the certificate that is served is valid and its CA stands in the caBundle, else 0.", nil, nil)
	current    = prometheus.NewDesc(ConfigCurrent, "1 if the configuration file as it is now is in force, 0 if it was refused and an older one is.", nil, nil)
)

func (a *asked) Describe(to chan<- *prometheus.Desc) {
	for _, d := range []*prometheus.Desc{uninjected, notAfter, rotateAt, trusted, current} {
		to <- d
	}
}

func (a *asked) Collect(to chan<- prometheus.Metric) {
	gauge := func(d *prometheus.Desc, v float64, labels ...string) {
		to <- prometheus.MustNewConstMetric(d, prometheus.GaugeValue, v, labels...)
	}
	for namespace, n := range a.s.Uninjected() {
		gauge(uninjected, float64(n), namespace)
	}
	end, rotate, isTrusted, ok := a.s.Certificate()
	if ok {
		gauge(notAfter, float64(end.Unix()))
		gauge(rotateAt, float64(rotate.Unix()))
	}
	gauge(trusted, number(isTrusted))
	gauge(current, number(a.s.ConfigCurrent()))
}

func number(yes bool) float64 {
	if yes {
		return 1
	}
	return 0
}
