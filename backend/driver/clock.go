package driver

import "time"

// Instant is a reading of a Clock, in nanoseconds since a fixed but unknown
// start. Instants of different hosts or boots are not comparable.
type Instant int64

// Add returns the instant d later.
func (i Instant) Add(d time.Duration) Instant { return i + Instant(d) }

// Sub returns the time from j to i.
func (i Instant) Sub(j Instant) time.Duration { return time.Duration(i - j) }

// Clock measures how long a lease is valid. It never steps back and keeps
// running while the machine is suspended.
type Clock interface {
	Now() Instant
}

// ClockFunc is a Clock made of a function.
type ClockFunc func() Instant

// Now calls the function.
func (f ClockFunc) Now() Instant { return f() }

var processStart = time.Now()

// processOffset keeps the readings positive in testing/synctest, whose time
// starts long before the process did.
const processOffset = Instant(1) << 60

// ProcessClock is the process's monotonic clock. It stops during suspend, so
// it is right for tests (testing/synctest controls it) and wrong in production.
var ProcessClock Clock = ClockFunc(func() Instant { return processOffset.Add(time.Since(processStart)) })
