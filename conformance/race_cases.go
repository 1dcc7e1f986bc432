package conformance

import (
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func raceCases() []Case {
	return []Case{
		{Name: "Race/ReleaseAgainstRenewLeavesNothing", Guarantee: "A release and a renewal in flight together leave no lease behind.",
			Run: func(t *T) {
				for i := range 200 {
					g := t.Must(t.D, t.Request(t.Lock(fmt.Sprint(i%4)), "one"))
					renewed := make(chan struct{})
					go func() {
						defer close(renewed)
						_, _ = t.D.Renew(t.ctx, &driver.RenewRequest{LeaseRef: g.ref(), TTL: 10 * time.Second})
					}()
					t.Release(t.D, g)
					<-renewed
					if l := t.Inspect(t.D, g.LockID); len(l.Holders) != 0 {
						t.Fatalf("round %d left %+v", i, l.Holders)
					}
				}
			}},
		{Name: "Race/ThousandCyclesLeaveNothing", Guarantee: "A thousand acquires and releases leave no lease, waiter or listed lock behind.",
			Run: func(t *T) {
				for i := range 1000 {
					t.Release(t.D, t.Must(t.D, t.Request(t.Lock(fmt.Sprint("cycle/", i%10)), "one")))
				}
				page, err := t.D.List(t.ctx, &driver.ListRequest{Prefix: t.Lock("cycle/"), PageSize: 100})
				if err != nil || len(page.Locks) != 0 {
					t.Errorf("listed %+v, %v", page, err)
				}
			}},
		{Name: "Race/ClosedDriverRefuses", Guarantee: "A closed driver fails every call as closed, and releases nothing.",
			Run: func(t *T) {
				d, err := t.h.Open(t.ctx)
				if err != nil {
					t.Fatalf("open: %v", err)
				}
				g := t.Must(d, t.Request(t.Lock("a"), "one", ttl(20*time.Second)))
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
	}
}
