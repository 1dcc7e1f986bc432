package backend

import (
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// driftDivisor is the allowance for two clocks that run at different
	// rates: a hundredth, far above the 500 ppm within which NTP steers.
	driftDivisor = 100
	// validityMargin covers the way from the reading of the clock to the
	// application: scheduling, the socket, the application's own check.
	validityMargin = 50 * time.Millisecond
)

// ValidUntil is the instant from which a lease counts as lost: Remaining,
// counted from just before the send that proved it, less a hundredth and 50 ms.
func ValidUntil(l *driver.Lease) driver.Instant {
	return l.Origin.Add(l.Remaining - l.Remaining/driftDivisor - validityMargin)
}
