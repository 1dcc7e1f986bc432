package renew_test

import (
	"context"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// tardy is a driver whose renewals are answered late, or never. It does them at
// once.
type tardy struct {
	driver.Driver
	// answer ends when the n-th attempt is to be answered, by an error if it is
	// one.
	answer func(ctx context.Context, n int) error
	n      chan int
}

func (l *tardy) Unwrap() driver.Driver { return nil }

func (l *tardy) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	n := <-l.n
	l.n <- n + 1
	results := driver.RenewMany(ctx, l.Driver, reqs)
	if err := l.answer(ctx, n); err != nil {
		for i := range results {
			results[i] = driver.RenewResult{Err: err}
		}
	}
	return results
}

// A short lease outlives the loss of the answer to one renewal, and a store
// that is slow to answer each.
func TestALeaseOutlivesLateAnswers(t *testing.T) {
	lost := func(ctx context.Context) error {
		<-ctx.Done()
		return driver.ErrIndeterminate
	}
	for name, answer := range map[string]func(ctx context.Context, n int) error{
		"every other one is lost": func(ctx context.Context, n int) error {
			if n%2 == 0 {
				return lost(ctx)
			}
			return nil
		},
		"all are slow": func(context.Context, int) error {
			time.Sleep(450 * time.Millisecond)
			return nil
		},
		"slow ones are overtaken": func(_ context.Context, n int) error {
			if n%2 == 0 {
				time.Sleep(450 * time.Millisecond)
			}
			return nil
		},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				d := &tardy{Driver: w.memory.Open(), answer: answer, n: make(chan int, 1)}
				d.n <- 0
				store := backend.New(d, backend.Options{Clock: driver.ProcessClock})
				keeper := renew.New(store, renew.Options{Clock: driver.ProcessClock})
				ended := make(chan renew.Reason, 1)
				s := keeper.Open(renew.SessionOptions{Notify: func(e renew.Event) {
					if e.Kind == renew.Lost {
						ended <- e.Reason
					}
				}})
				r := request("a", "r")
				r.TTL = time.Second
				s.Acquire(t.Context(), r)
				select {
				case reason := <-ended:
					t.Errorf("the lease was lost: %s", reason)
				case <-time.After(20 * time.Second):
				}
				if n := keeper.Held(); n != 1 {
					t.Errorf("%d leases are held", n)
				}
				if n := <-d.n; n > 100 {
					t.Errorf("%d attempts in 20 s", n)
				} else {
					d.n <- n
				}
				if err := keeper.Close(context.Background()); err != nil {
					t.Error(err)
				}
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
