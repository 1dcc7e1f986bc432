package metrics

import (
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
)

// Waiting tells of each acquire that waits for which lock it does and for how long
// it has.
type Waiting func(tell func(lockID string, waited time.Duration))

// waits are asked when somebody reads the metrics: a wait counts while it lasts,
// not when it has ended.
type waits struct {
	mu sync.Mutex
	of map[*Waiting]struct{}
}

// Waits says who is asked for the acquires that wait, until end is called. Several
// may be under one name, as when a backend is replaced at which somebody still waits.
func (b *Backend) Waits(w Waiting) (end func()) {
	b.waits.mu.Lock()
	defer b.waits.mu.Unlock()
	if b.waits.of == nil {
		b.waits.of = make(map[*Waiting]struct{})
	}
	b.waits.of[&w] = struct{}{}
	return func() {
		b.waits.mu.Lock()
		defer b.waits.mu.Unlock()
		delete(b.waits.of, &w)
	}
}

// oldest are the longest waits of each class of locks.
func (b *Backend) oldest() []time.Duration {
	longest := make([]time.Duration, len(b.of))
	b.waits.mu.Lock()
	defer b.waits.mu.Unlock()
	for w := range b.waits.of {
		(*w)(func(lockID string, waited time.Duration) {
			class := b.classes.of(lockID)
			longest[class] = max(longest[class], waited)
		})
	}
	return longest
}

// oldestWaits collects the gauge.
type oldestWaits struct {
	m    *Metrics
	desc *prometheus.Desc
}

// Describe tells the registry the one metric.
func (c oldestWaits) Describe(to chan<- *prometheus.Desc) { to <- c.desc }

// Collect reads it, of each class of locks of each backend.
func (c oldestWaits) Collect(to chan<- prometheus.Metric) {
	c.m.mu.Lock()
	defer c.m.mu.Unlock()
	for name, b := range c.m.backends {
		for class, longest := range b.oldest() {
			to <- prometheus.MustNewConstMetric(c.desc, prometheus.GaugeValue, longest.Seconds(), name, b.classes.names[class])
		}
	}
}
