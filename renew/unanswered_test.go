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

// slow answers adopts and acquires only when the gate opens.
type slow struct {
	driver.Driver
	gate chan struct{}
}

func (s *slow) Unwrap() driver.Driver { return nil }

func (s *slow) Adopt(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	l, err := s.Driver.Adopt(ctx, r)
	<-s.gate
	return l, err
}

func (s *slow) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := s.Driver.Acquire(ctx, r)
	<-s.gate
	return res, err
}

// A lease that was told to the application on an older stream is not released
// because the stream on which it is adopted, or its acquire repeated, breaks
// before the answer: the application may still be inside its valid-until. A
// grant that nobody was told of is given back.
func TestStreamThatBreaksBeforeItsAnswer(t *testing.T) {
	type ask func(ctx context.Context, s *renew.Session, l *backend.Lease)
	adopt := func(ctx context.Context, s *renew.Session, l *backend.Lease) {
		s.Adopt(ctx, &renew.AdoptRequest{LeaseRef: l.Ref(false), RequestID: "r", TTL: 10 * time.Second})
	}
	lingering := func(ctx context.Context, s *renew.Session, l *backend.Lease) {
		s.Adopt(ctx, &renew.AdoptRequest{LeaseRef: l.Ref(false), RequestID: "r", TTL: 10 * time.Second, Linger: true})
	}
	fresh := func(ctx context.Context, s *renew.Session, _ *backend.Lease) { s.Acquire(ctx, request("b", "fresh")) }
	for _, c := range []struct {
		name string
		lock string
		ask  ask
		end  renew.End
		held bool
	}{
		{"adopt, broken", "a", adopt, renew.EndBroken, true},
		{"adopt, cancelled", "a", adopt, renew.EndRequested, true},
		{"adopt, dead", "a", adopt, renew.EndDead, false},
		{"adopt, dead, lingering", "a", lingering, renew.EndDead, true},
		{"first acquire, broken", "b", fresh, renew.EndBroken, false},
		{"first acquire, cancelled", "b", fresh, renew.EndRequested, false},
		{"first acquire, dead", "b", fresh, renew.EndDead, false},
	} {
		t.Run(c.name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				first, events := w.open(t)
				first.Acquire(t.Context(), request("a", "r"))
				synctest.Wait()
				lease := events.only("r", renew.Granted).Lease
				first.End(renew.EndBroken)

				d := &slow{Driver: w.memory.Open(), gate: make(chan struct{})}
				store := backend.New(d, backend.Options{Clock: driver.ProcessClock})
				keeper := renew.New(store, renew.Options{Clock: driver.ProcessClock})
				second := keeper.Open(renew.SessionOptions{Notify: func(renew.Event) {}})
				c.ask(t.Context(), second, lease)
				synctest.Wait()
				second.End(c.end)
				close(d.gate)
				synctest.Wait()
				if h := w.holders(t, c.lock); (len(h) == 1) != c.held {
					t.Errorf("after the end the lock has %v", h)
				}
				if err := keeper.Close(t.Context()); err != nil {
					t.Error(err)
				}
				if err := store.Close(); err != nil {
					t.Error(err)
				}
			})
		})
	}
}
