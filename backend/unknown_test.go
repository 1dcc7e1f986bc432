package backend_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/breaker"
)

// granted loses the reply of the first attempt, and is down afterwards until a
// Leave comes.
type granted struct {
	driver.Driver
	attempts int
}

func (g *granted) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if g.attempts++; g.attempts > 1 {
		return nil, driver.ErrUnavailable
	}
	if _, err := g.Driver.Acquire(ctx, r); err != nil {
		return nil, err
	}
	return nil, driver.ErrIndeterminate
}

// A reply that was lost, and retries that found the store down: the acquire is
// reported as unknown and is undone, whatever the last attempt met.
func TestLostReplyFollowedByAnOutageIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		g := &granted{Driver: m.Open()}
		s := backend.New(breaker.New(onlyDriver{g}, breaker.Options{}), backend.Options{Clock: driver.ProcessClock})
		defer func() { _ = s.Close() }()
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, driver.ErrIndeterminate) {
			t.Errorf("error %v, want ErrIndeterminate", err)
		}
		if g.attempts < 2 {
			t.Errorf("%d attempts, want retries", g.attempts)
		}
		synctest.Wait()
		empty(t, s, "a")
	})
}

// onlyDriver hides the abilities of a driver.
type onlyDriver struct{ driver.Driver }
