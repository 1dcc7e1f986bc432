package renew_test

import (
	"context"
	"fmt"
	"sync/atomic"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
)

// lateAdopt is a store of which one adopt takes effect at once and is answered
// past the next renewal.
type lateAdopt struct {
	driver.Driver
	late   int64
	adopts atomic.Int64
}

func (d *lateAdopt) Unwrap() driver.Driver { return nil }

func (d *lateAdopt) Adopt(ctx context.Context, r *driver.RenewRequest) (*driver.Lease, error) {
	l, err := d.Driver.Adopt(ctx, r)
	if d.adopts.Add(1) == d.late {
		time.Sleep(5 * time.Second)
	}
	return l, err
}

// A session that adopts two holds of one lease raises the attach number twice:
// in whatever order it hears of that, it does not fence itself.
func TestAdoptsOfTwoHoldsDoNotFenceEachOther(t *testing.T) {
	for late := range int64(3) {
		t.Run(fmt.Sprintf("late=%d", late), func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				w := newWorld(t)
				s, events := w.open(t)
				again := request("a", "r2")
				again.OwnerID, again.Reentrant = request("a", "r1").OwnerID, true
				s.Acquire(t.Context(), request("a", "r1"))
				synctest.Wait()
				s.Acquire(t.Context(), again)
				synctest.Wait()
				lease := events.only("r2", renew.Granted).Lease
				s.End(renew.EndBroken)

				store := backend.New(&lateAdopt{Driver: w.memory.Open(), late: late}, backend.Options{Clock: driver.ProcessClock})
				keeper := renew.New(store, renew.Options{Clock: driver.ProcessClock})
				w.closes(t, keeper, store)
				w.keeper = keeper
				s2, adopted := w.open(t)
				for _, id := range []string{"r1", "r2"} {
					s2.Adopt(t.Context(), &renew.AdoptRequest{LeaseRef: lease.Ref(false), RequestID: id, TTL: 10 * time.Second})
					synctest.Wait() // it has taken effect
				}
				time.Sleep(time.Minute)
				for _, id := range []string{"r1", "r2"} {
					adopted.only(id, renew.Granted)
					if lost := adopted.of(id, renew.Lost); lost != nil {
						t.Errorf("%s was lost: %+v", id, lost)
					}
				}
				if n := len(w.holders(t, "a")); n != 1 {
					t.Errorf("%d holders after a minute, want the lease", n)
				}
			})
		})
	}
}
