package driver_test

import (
	"errors"
	"fmt"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func TestNextToken(t *testing.T) {
	const now = int64(1_790_000_000_123_456)
	for _, c := range []struct {
		name               string
		last, floor, clock int64
		want               int64
	}{
		{"a new lock takes the clock", 0, 0, now, now},
		{"a clock behind the last token cannot make it fall", now + 5, 0, now, now + 6},
		{"a floor above both wins", now, now + 100, now, now + 100},
		{"a floor below is met anyway", now, 7, now + 1, now + 1},
		{"an implausible clock never mints", now, 0, driver.MaxClockToken, now + 1},
		{"the last plausible reading does", now, 0, driver.MaxClockToken - 1, driver.MaxClockToken - 1},
		{"digits near 2^53 are kept", 1<<53 - 3, 0, now, 1<<53 - 2},
	} {
		if got := driver.NextToken(c.last, c.floor, c.clock); got != c.want {
			t.Errorf("%s: NextToken(%d, %d, %d) = %d, want %d", c.name, c.last, c.floor, c.clock, got, c.want)
		}
	}
}

// A waiter of priority p is overtaken by fewer than (MaxPriority-p)*PriorityStep
// later arrivals, whatever their priorities.
func TestOrderKeyBoundsOvertaking(t *testing.T) {
	for p := range driver.MaxPriority + 1 {
		overtaken := 0
		mine := driver.OrderKey(1000, p)
		for later := int64(1001); later < 1200; later++ {
			if driver.OrderKey(later, driver.MaxPriority) < mine {
				overtaken++
			}
		}
		bound := (driver.MaxPriority - p) * driver.PriorityStep
		if overtaken >= bound && bound > 0 || bound == 0 && overtaken > 0 {
			t.Errorf("priority %d: overtaken by %d later arrivals, the bound is below %d", p, overtaken, bound)
		}
	}
}

func TestTypedErrorsAreTheirSentinels(t *testing.T) {
	for _, c := range []struct{ err, is error }{
		{&driver.HeldError{}, driver.ErrHeld},
		{driver.Lost(driver.CauseForced), driver.ErrLost},
		{&driver.TokenError{Expected: 2, Actual: 1}, driver.ErrStaleToken},
		{driver.ErrBreakerOpen, driver.ErrUnavailable},
	} {
		if !errors.Is(fmt.Errorf("acquire %q: %w", "a", c.err), c.is) {
			t.Errorf("%v is not %v", c.err, c.is)
		}
		for _, other := range driver.Sentinels() {
			if other != c.is && other != c.err && errors.Is(c.err, other) { //nolint:errorlint // the very values
				t.Errorf("%v is also %v", c.err, other)
			}
		}
	}
}
