package embedded_test

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func memory(t testing.TB) *embedded.Memory {
	t.Helper()
	m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	return m
}

// take acquires at once, for ttl.
func take(t testing.TB, d *embedded.Driver, lock, request string, ttl time.Duration) *driver.Lease {
	t.Helper()
	res, err := d.Acquire(context.Background(), &driver.AcquireRequest{
		LockID: lock, OwnerID: "owner of " + request, RequestID: request, Key: driver.KeyOf(request), TTL: ttl, PlaceTTL: time.Minute,
	})
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire: %+v, %v", res, err)
	}
	return res.Lease
}

func sweep(t testing.TB, d *embedded.Driver) []driver.Ended {
	t.Helper()
	ended, err := d.Sweep(context.Background())
	if err != nil {
		t.Fatal(err)
	}
	return ended
}

// Whatever else happens to the locks, each expiry is reported once by one of
// the openers, and nothing that stands is.
func TestSweepReportsEachExpiryOnce(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m := memory(t)
		openers := []*embedded.Driver{m.Open(), m.Open(), m.Open()}
		want := make(map[string]int64)
		for i := range 500 {
			lock := fmt.Sprint("lock/", i)
			l := take(t, openers[i%3], lock, fmt.Sprint("r", i), time.Duration(1+i%7)*time.Second)
			switch i % 5 {
			case 0: // released: it does not expire
				if _, err := openers[0].Release(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: lock, Key: driver.KeyOf(fmt.Sprint("r", i)), Token: l.Token}}); err != nil {
					t.Fatal(err)
				}
			case 1: // stands longer than the test
				if _, err := openers[0].Renew(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: lock, Key: driver.KeyOf(fmt.Sprint("r", i)), Token: l.Token}, TTL: time.Minute}); err != nil {
					t.Fatal(err)
				}
			default:
				want[lock] = l.Token
			}
		}
		got := make(map[string]int64)
		for range 20 {
			time.Sleep(500 * time.Millisecond)
			// A call that looks at a lock without reporting drops what expired.
			if err := openers[1].Leave(t.Context(), &driver.LeaveRequest{LockID: "lock/2", RequestID: "nobody"}); err != nil {
				t.Fatal(err)
			}
			for _, d := range openers {
				for _, e := range sweep(t, d) {
					if got[e.LockID] != 0 {
						t.Errorf("%s was reported again: %+v", e.LockID, e)
					}
					if e.Cause != driver.CauseExpired || e.OwnerID == "" {
						t.Errorf("reported %+v", e)
					}
					got[e.LockID] = e.Token
				}
			}
		}
		if len(got) != len(want) {
			t.Errorf("%d expiries were reported, want %d", len(got), len(want))
		}
		for lock, token := range want {
			if got[lock] != token {
				t.Errorf("%s: reported %d, want %d", lock, got[lock], token)
			}
		}
	})
}

// A sweep wakes whoever waits for the lock.
func TestSweepHintsAtTheNextWaiter(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		d := memory(t).Open()
		take(t, d, "a", "dead", time.Second)
		ctx, cancel := context.WithCancel(t.Context())
		var hints []driver.Hint
		done := make(chan struct{})
		go func() {
			defer close(done)
			_ = d.Watch(ctx, func(h driver.Hint) { hints = append(hints, h) })
		}()
		if _, err := d.Acquire(ctx, &driver.AcquireRequest{
			LockID: "a", OwnerID: "next", RequestID: "next", Key: driver.KeyOf("next"), TTL: time.Second, Enqueue: true, PlaceTTL: time.Minute,
		}); err != nil {
			t.Fatal(err)
		}
		time.Sleep(2 * time.Second)
		sweep(t, d)
		cancel()
		<-done
		if !slices.ContainsFunc(hints, func(h driver.Hint) bool { return h.Kind == driver.HintGrantable && h.RequestID == "next" }) {
			t.Errorf("hints %+v, want one at the waiter", hints)
		}
	})
}

// BenchmarkSweepStanding sweeps a memory of 10,000 leases of which none expires.
func BenchmarkSweepStanding(b *testing.B) {
	d := memory(b).Open()
	for i := range 10_000 {
		take(b, d, fmt.Sprint("lock/", i), fmt.Sprint("r", i), time.Minute)
	}
	for b.Loop() {
		sweep(b, d)
	}
}
