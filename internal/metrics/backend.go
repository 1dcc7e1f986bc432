package metrics

import (
	"time"

	"github.com/prometheus/client_golang/prometheus"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// Backend are the metrics of one backend. It implements backend.Observer and
// renew.Observer.
type Backend struct {
	m       *Metrics
	name    string
	classes *classes
	// of is indexed by the class of a lock.
	of       []classed
	waiters  prometheus.Gauge
	held     prometheus.Gauge
	expired  prometheus.Counter
	renewals map[string]prometheus.Counter
	margin   prometheus.Observer
	calls    [operations][outcomes]prometheus.Counter
	callTime [operations]prometheus.Observer
	waits    waits
}

// classed are the metrics of a class of locks; [2] is indexed by modeOf.
type classed struct {
	acquires  [2][results]prometheus.Counter
	wait      [2]prometheus.Observer
	hold      [2]prometheus.Observer
	contended prometheus.Counter
	queue     prometheus.Observer
	lost      map[renew.Reason]prometheus.Counter
}

var (
	_ backend.Observer = (*Backend)(nil)
	_ renew.Observer   = (*Backend)(nil)
)

var modeNames = [2]string{"exclusive", "shared"}

func modeOf(shared bool) int {
	if shared {
		return 1
	}
	return 0
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
		m: m, name: name, classes: m.classes,
		waiters: m.waiters.WithLabelValues(name), held: m.held.WithLabelValues(name),
		expired: m.expired.WithLabelValues(name), margin: m.margin.WithLabelValues(name),
		renewals: make(map[string]prometheus.Counter),
	}
	for _, class := range m.classes.names {
		b.of = append(b.of, m.classed(name, class))
	}
	for _, result := range []string{renew.ResultOK, renew.ResultFailed, renew.ResultLost} {
		b.renewals[result] = m.renewals.WithLabelValues(name, result)
	}
	for op, operation := range operationNames {
		b.callTime[op] = m.callTime.WithLabelValues(name, operation)
		for i, outcome := range outcomeNames {
			b.calls[op][i] = m.calls.WithLabelValues(name, operation, outcome)
		}
	}
	b.Ready(false)
	b.Quarantined(0)
	for _, calls := range breakerCalls {
		b.Breaker(calls, breakerStates[0])
	}
	m.backends[name] = b
	return b
}

func (m *Metrics) classed(name, class string) (c classed) {
	c.contended, c.queue = m.contended.WithLabelValues(name, class), m.queue.WithLabelValues(name, class)
	c.lost = make(map[renew.Reason]prometheus.Counter)
	for _, reason := range renew.Reasons() {
		c.lost[reason] = m.lost.WithLabelValues(name, class, string(reason))
	}
	for i, mode := range modeNames {
		c.wait[i], c.hold[i] = m.wait.WithLabelValues(name, class, mode), m.hold.WithLabelValues(name, class, mode)
		for r, result := range resultNames {
			c.acquires[i][r] = m.acquires.WithLabelValues(name, class, mode, result)
		}
	}
	return c
}

func (b *Backend) class(lockID string) *classed { return &b.of[b.classes.of(lockID)] }

// Acquired counts an acquire that has ended.
func (b *Backend) Acquired(o backend.AcquireObservation) {
	c, mode := b.class(o.LockID), modeOf(o.Shared)
	c.acquires[mode][resultOf(o.Err)].Inc()
	c.wait[mode].Observe(o.Wait.Seconds())
	if o.Contended {
		c.contended.Inc()
	}
}

// Waiting counts the acquires that wait.
func (b *Backend) Waiting(delta int) { b.waiters.Add(float64(delta)) }

// Happened counts the expired leases, and looks at the queue that an acquire
// enters.
func (b *Backend) Happened(e backend.Event) {
	switch {
	case e.Kind == backend.Ended && e.Cause == driver.CauseExpired:
		b.expired.Inc()
	case e.Kind == backend.Queued:
		b.class(e.LockID).queue.Observe(float64(e.QueueLength))
	}
}

// Held counts the leases held, and for how long.
func (b *Backend) Held(o renew.HeldObservation) {
	b.held.Add(float64(o.Delta))
	if o.Delta < 0 {
		b.class(o.LockID).hold[modeOf(o.Shared)].Observe(o.For.Seconds())
	}
}

// Lost counts lost leases.
func (b *Backend) Lost(o renew.LostObservation) {
	if c := b.class(o.LockID).lost[o.Reason]; c != nil {
		c.Inc()
	}
}

// Renewed counts answered renewals.
func (b *Backend) Renewed(o renew.RenewedObservation) {
	if c := b.renewals[o.Result]; c != nil {
		c.Inc()
	}
	if o.Result == renew.ResultOK && o.TTL > 0 {
		b.margin.Observe(o.Left.Seconds() / o.TTL.Seconds())
	}
}

// Ready says whether the backend answers.
func (b *Backend) Ready(ready bool) {
	b.m.ready.WithLabelValues(b.name).Set(map[bool]float64{true: 1}[ready])
}

// Quarantined says for how much longer the store grants nothing; 0 that it
// grants.
func (b *Backend) Quarantined(remaining time.Duration) {
	b.m.quarantine.WithLabelValues(b.name).Set(max(remaining, 0).Seconds())
}

// Breaker says in which state the circuit breaker of the calls is.
func (b *Backend) Breaker(calls, state string) {
	for _, s := range breakerStates {
		b.m.breakers.WithLabelValues(b.name, calls, s).Set(map[bool]float64{true: 1}[s == state])
	}
}

// Vitals says what the store tells of its condition. What it does not tell has
// no series.
func (b *Backend) Vitals(v driver.Vitals) {
	set := func(g *prometheus.GaugeVec, known bool, value float64) {
		if !known {
			g.DeleteLabelValues(b.name)
			return
		}
		g.WithLabelValues(b.name).Set(value)
	}
	set(b.m.replicas, v.Replicates, float64(v.Replicas))
	set(b.m.lag, v.Replicates && v.Replicas > 0, v.ReplicationLag.Seconds())
	set(b.m.memory, v.MemoryUsed > 0, v.MemoryUsed)
}

// Closed says that the backend is not used any more: in which condition it is is
// nobody's question. What was counted stays.
func (b *Backend) Closed() {
	for _, g := range []*prometheus.GaugeVec{b.m.ready, b.m.replicas, b.m.lag, b.m.memory, b.m.breakers, b.m.quarantine} {
		g.DeletePartialMatch(prometheus.Labels{"backend": b.name})
	}
}
