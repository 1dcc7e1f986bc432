package client

import (
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Tenure is what a holder knows of its lease: until when it stands, and whether
// it was told that it is lost. It is safe for concurrent use.
type Tenure struct {
	mu         sync.Mutex
	lease      *lockpb.Lease
	validUntil driver.Instant
	reason     string
	lost       chan struct{}
}

func newTenure() *Tenure { return &Tenure{lost: make(chan struct{})} }

// NewTenure is the tenure of a lease just granted.
func NewTenure(l *lockpb.Lease) *Tenure {
	t := newTenure()
	t.Renewed(l)
	return t
}

// Renewed notes a grant or a renewal. The time never gets shorter: answers may
// overtake each other.
func (t *Tenure) Renewed(l *lockpb.Lease) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.lease = l
	t.validUntil = max(t.validUntil, driver.Instant(l.GetValidUntilBoottimeNs()))
}

// Lease is the lease as of its last renewal; nil before the grant.
func (t *Tenure) Lease() *lockpb.Lease {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.lease
}

// ValidUntil is the instant of driver.BootClock from which the lease counts as
// lost, whatever was told.
func (t *Tenure) ValidUntil() driver.Instant {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.validUntil
}

// Left is the time until ValidUntil. It reads the clock; it may be negative.
func (t *Tenure) Left() time.Duration { return t.ValidUntil().Sub(driver.BootClock.Now()) }

// Lose notes that the lease was lost. The first reason counts.
func (t *Tenure) Lose(reason string) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.reason == "" {
		t.reason = reason
		close(t.lost)
	}
}

// Lost is closed when the loss is told. It is not when time alone runs out: see
// Left.
func (t *Tenure) Lost() <-chan struct{} { return t.lost }

// Reason is why the lease was lost; empty while nobody said so.
func (t *Tenure) Reason() string {
	t.mu.Lock()
	defer t.mu.Unlock()
	return t.reason
}
