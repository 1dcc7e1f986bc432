package conformance

import (
	"errors"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func raceCases() []Case {
	return []Case{
		{Name: "Race/ReleaseAgainstRenewLeavesNothing", Guarantee: "A release and a renewal in flight together leave no lease behind, ten thousand times; a thousand times in a store that the harness calls slow; fewer on a machine too slow for it, but a tenth at least.", Busy: true,
			Run: func(t *T) {
				const workers = 16
				rounds := t.times(10_000)
				if t.h.Slow {
					rounds = t.times(1_000)
				}
				end := t.now().Add(t.o.bound() * 3 / 4) // on a slow machine, before the watchdog
				var done atomic.Int64
				t.each(workers, func(worker int) {
					for i := worker; i < rounds && t.now() < end; i += workers {
						g := t.Must(t.D, t.Request(t.Lock(fmt.Sprint(worker)), "one"))
						renewed := make(chan struct{})
						go func() {
							defer close(renewed)
							_, _ = t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: g.ref(), TTL: lasting})
						}()
						t.Release(t.D, g)
						<-renewed
						if l := t.Inspect(t.D, g.LockID); len(l.Holders) != 0 {
							t.Fatalf("round %d left %+v", i, l.Holders)
						}
						done.Add(1)
					}
				})
				t.enough(int(done.Load()), rounds)
			}},
		{Name: "Race/ThousandCyclesLeaveNothing", Guarantee: "A thousand acquires and releases leave no lease, waiter or listed lock behind.", Busy: true,
			Run: func(t *T) {
				for i := range t.times(1000) {
					t.Release(t.D, t.Must(t.D, t.Request(t.Lock(fmt.Sprint("cycle/", i%10)), "one")))
				}
				if listed := t.Listed(t.D, driver.ListRequest{Prefix: t.Lock("cycle/"), PageSize: 100}); len(listed) != 0 {
					t.Errorf("listed %+v", listed)
				}
			}},
		{Name: "Race/ClosedDriverRefuses", Guarantee: "A closed driver fails every call as closed, and releases nothing.",
			Run: func(t *T) {
				d, err := t.h.Open(t.ctx)
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				g := t.Must(d, t.Request(t.Lock("a"), "one"))
				if err := d.Close(); err != nil {
					t.Errorf("close: %v", err)
				}
				_, err = d.Acquire(t.ctx, t.Request(t.Lock("b"), "one"))
				t.is(err, driver.ErrClosed)
				_, err = t.Renew(d, g)
				t.is(err, driver.ErrClosed)
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
			}},
		{Name: "Race/CapabilitiesAreKept", Guarantee: "What the driver does not declare it refuses as unsupported.",
			Run: func(t *T) {
				if !t.caps.Shared {
					_, err := t.attempt(t.D, t.Request(t.Lock("a"), "one", shared))
					t.is(err, driver.ErrUnsupported)
				}
				if !t.caps.Watch {
					t.is(t.Open().Watch(t.ctx, func(driver.Hint) {}), driver.ErrUnsupported)
				}
				if t.caps.MinTTL <= 0 || t.caps.MaxTTL < t.caps.MinTTL || t.caps.Poll <= 0 || t.caps.Name == "" {
					t.Errorf("capabilities %+v are not complete", t.caps)
				}
			}},
		{Name: "Race/CloseWithCallsInFlight", Guarantee: "Calls in flight at Close end with their outcome or as closed, a watch as closed, and what they left ends by itself.", Busy: true,
			Run: func(t *T) {
				d, err := t.h.Open(t.ctx)
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				const workers = 16
				under, watched := make(chan struct{}, workers), make(chan error, 1)
				if t.can(NeedWatch) {
					go func() { watched <- d.Watch(t.ctx, func(driver.Hint) {}) }()
				} else {
					watched <- driver.ErrClosed
				}
				go func() {
					for range workers {
						select {
						case <-under:
						case <-t.ctx.Done():
						}
					}
					if err := d.Close(); err != nil {
						t.Errorf("close: %v", err)
					}
				}()
				t.each(workers, func(i int) {
					for n := 0; ; n++ {
						r := t.Request(t.Lock(fmt.Sprint(i)), "worker", ttl(max(t.TTL(), 2*time.Second)))
						res, err := d.Acquire(t.ctx, r)
						if err == nil {
							_, err = d.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: (&grant{res.Lease, r}).ref(), RequestID: r.RequestID})
						}
						if err != nil && !errors.Is(err, driver.ErrLost) { // or so slow that it expired
							t.is(err, driver.ErrClosed)
							return
						}
						if n == 3 {
							under <- struct{}{}
						}
					}
				})
				t.is(<-watched, driver.ErrClosed)
				t.each(workers, func(i int) { t.Await(t.D, t.Request(t.Lock(fmt.Sprint(i)), "next")) })
			}},
		{Name: "Race/CloseLeavesNoGoroutine", Guarantee: "After Close, whether or not its waiters, leases and watch had ended, no goroutine of the driver is left.",
			Run: func(t *T) {
				// The check comes when the case has ended, as after every case.
				for range 8 {
					d := t.Open()
					if t.can(NeedWatch) {
						go func() { _ = d.Watch(t.ctx, func(driver.Hint) {}) }()
					}
					g := t.Must(d, t.Request(t.Lock(t.unique("a")), "holder"))
					t.Queue(d, t.Request(g.LockID, "waiter"))
					if _, err := t.Renew(d, g); err != nil {
						t.Errorf("renew: %v", err)
					}
				}
			}},
	}
}
