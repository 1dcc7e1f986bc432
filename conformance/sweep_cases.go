package conformance

import (
	"errors"
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func sweepCases() []Case {
	return []Case{
		{Name: "Admin/AnExpiryWithNobodyWaitingIsToldOnce", Alone: true, Needs: []Need{NeedSweep},
			Guarantee: "A driver that declares expiry events reports an expiry for which nobody asks once among its openers; another has no sweep.",
			Run:       func(t *T) { t.expiryIsTold() }},
	}
}

// expiryIsTold lets leases expire for which nobody asks, and sweeps with three
// drivers.
func (t *T) expiryIsTold() {
	var sweepers []driver.Sweeper
	for _, d := range []driver.Driver{t.D, t.Open(), t.Open()} {
		w, ok := driver.As[driver.Sweeper](d)
		if ok != t.caps.ExpiryEvents {
			t.Fatalf("the driver declares expiry events: %t; it can sweep: %t", t.caps.ExpiryEvents, ok)
		}
		sweepers = append(sweepers, w)
	}
	if !t.caps.ExpiryEvents {
		return
	}
	const n = 5
	stands := t.Must(t.D, t.Request(t.Lock("stands"), "alive", ttl(50*time.Second)))
	released := t.Must(t.D, t.Request(t.Lock("released"), "done"))
	t.Release(t.D, released)
	want := make(map[string]*grant)
	for i := range n {
		g := t.Must(t.D, t.Request(t.Lock(fmt.Sprint("dead/", i)), "dead", t.brief))
		want[g.LockID] = g
	}
	reported := make(map[string]int)
	sweep := func() {
		for _, w := range sweepers {
			ends, err := w.Sweep(t.ctx)
			if err != nil {
				t.Fatalf("sweep: %v", err)
			}
			for _, e := range ends {
				if g := want[e.LockID]; g != nil {
					reported[e.LockID]++
					if e.Token != g.Token || e.OwnerID != "dead" || e.Cause != driver.CauseExpired {
						t.Errorf("reported %+v", e)
					}
				} else if e.LockID == stands.LockID || e.LockID == released.LockID {
					t.Errorf("reported %+v, which did not expire", e)
				}
			}
			// By another than the one that reported them: what counts is the
			// store.
			if err := sweepers[0].Told(t.ctx, ends); err != nil {
				t.Fatalf("told: %v", err)
			}
		}
		t.pause(20 * time.Millisecond)
	}
	last := want[t.Lock(fmt.Sprint("dead/", n-1))]
	for deadline := last.Origin.Add(last.Remaining + patience); len(reported) < n && t.now() < deadline; {
		sweep()
	}
	if len(reported) < n {
		t.Errorf("%d of %d expiries were reported", len(reported), n)
	}
	for again := t.now().Add(2 * time.Second); t.now() < again; {
		sweep()
	}
	for lock, times := range reported {
		if times != 1 {
			t.Errorf("the expiry of %s was reported %d times", lock, times)
		}
	}
	if _, err := t.Renew(t.D, want[last.LockID]); !errors.Is(err, driver.ErrLost) {
		t.Errorf("renewal of what expired: %v", err)
	}
	if _, err := t.Renew(t.D, stands); err != nil {
		t.Errorf("renewal of what stands: %v", err)
	}
}
