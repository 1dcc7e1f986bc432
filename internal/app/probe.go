package app

import (
	"context"
	"errors"
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// probeEvery is how often a backend is asked for a sign of life.
	probeEvery = time.Second
	// probeTimeout bounds one such question.
	probeTimeout = 2 * time.Second
	// measureEvery is how often a store is asked for its figures.
	measureEvery = 10 * time.Second
)

// probe asks a backend for a sign of life until ctx ends.
func (d *daemon) probe(ctx context.Context, b *branch) {
	t := time.NewTicker(probeEvery)
	defer t.Stop()
	var measured time.Time
	for first := true; ; first = false {
		ask, cancel := context.WithTimeout(ctx, probeTimeout)
		err := b.store.Ping(ask)
		cancel()
		if ctx.Err() != nil {
			return
		}
		refused := errors.Is(err, driver.ErrInvalid)
		b.refuse(refused, err)
		if refused && b.only {
			d.refused(fmt.Errorf("backend %q: %w", b.Name(), err))
		}
		if was := b.ready.Swap(err == nil); was != (err == nil) || first && err != nil {
			d.tellReady(b, err)
		}
		b.gauge()
		switch now := time.Now(); {
		case err != nil:
			measured = time.Time{} // it is asked as soon as it answers
			b.measured(driver.Vitals{})
		case now.Sub(measured) >= measureEvery:
			measured = now
			b.measure(ctx)
		}
		select {
		case <-t.C:
		case <-ctx.Done():
			return
		}
	}
}

// gauge shows in the metrics how the backend is. One that is retired does not
// speak for another of its name.
func (b *branch) gauge() {
	states := b.breaker.States() // it ages an open breaker, whoever is told
	if b.retired.Load() {
		return
	}
	b.metrics.Ready(b.ready.Load())
	for calls, state := range states {
		b.metrics.Breaker(calls, state)
	}
	if q, ok := driver.As[driver.Quarantiner](b.breaker); ok {
		_, remaining := q.Quarantine()
		b.metrics.Quarantined(remaining)
	}
}

// measure shows in the metrics what the store tells of itself. What it does not
// answer is not known.
func (b *branch) measure(ctx context.Context) {
	m, ok := driver.As[driver.Measurer](b.breaker)
	if !ok {
		return
	}
	ask, cancel := context.WithTimeout(ctx, probeTimeout)
	defer cancel()
	if v, _ := m.Measure(ask); ctx.Err() == nil { // nothing, if it fails
		b.measured(v)
	}
}

func (b *branch) measured(v driver.Vitals) {
	if !b.retired.Load() {
		b.metrics.Vitals(v)
	}
}

// refuse notes whether the store cannot be served, and why.
func (b *branch) refuse(refused bool, err error) {
	text := ""
	if refused {
		text = err.Error()
	}
	b.refusal.Store(&text)
}

// refused ends a daemon whose one backend cannot be served with its options.
func (d *daemon) refused(err error) {
	select {
	case d.refusals <- err:
	default: // one is enough
	}
}

// tellReady logs whether a backend answers.
func (d *daemon) tellReady(b *branch, err error) {
	if err != nil {
		d.o.Logger.Warn("the backend does not answer", driver.LogBackend, b.Name(), driver.LogError, err)
		return
	}
	d.o.Logger.Info("the backend answers", driver.LogBackend, b.Name())
}
