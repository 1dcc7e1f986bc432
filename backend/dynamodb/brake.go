package dynamodb

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// parallel bounds the acquires of one driver that are under way.
	parallel = 64
	// The pauses of acquires after the table was throttled.
	firstPause = 50 * time.Millisecond
	lastPause  = time.Second
)

// brake holds acquires back: they are many, and may wait. Renewals, releases and
// what undoes an acquire pass it by, so that a crowd of waiters, or a table without
// capacity, costs no lease.
type brake struct {
	slots chan struct{}

	mu    sync.Mutex
	pause time.Duration
	until driver.Instant
}

// throttled makes the acquires pause, each time longer.
func (b *brake) throttled(now driver.Instant) {
	b.mu.Lock()
	defer b.mu.Unlock()
	if now < b.until {
		return // of the same burst
	}
	b.pause = min(max(2*b.pause, firstPause), lastPause)
	b.until = now.Add(b.pause)
}

// answered notes what became of an acquire. One that the store has answered ends the
// pauses; that renewals pass says nothing about room for acquires.
func (b *brake) answered(err error) {
	if errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) {
		return
	}
	b.mu.Lock()
	defer b.mu.Unlock()
	b.pause = 0
}

// enter waits until an acquire may go on; leave must follow. An error means that
// nothing was sent.
func (b *brake) enter(ctx context.Context, clock driver.Clock) (leave func(), err error) {
	b.mu.Lock()
	rest := b.until.Sub(clock.Now())
	b.mu.Unlock()
	if rest > 0 {
		t := time.NewTimer(rest + rand.N(rest/2+1))
		defer t.Stop()
		select {
		case <-t.C:
		case <-ctx.Done():
			return nil, fmt.Errorf("%w: %w", ErrThrottled, ctx.Err())
		}
	}
	select {
	case b.slots <- struct{}{}:
		return func() { <-b.slots }, nil
	case <-ctx.Done():
		return nil, fmt.Errorf("%w: too many acquires are under way: %w", driver.ErrUnavailable, ctx.Err())
	}
}
