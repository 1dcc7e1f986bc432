package conformance

import (
	"errors"
	"fmt"
	"maps"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func adminCases() []Case {
	return here("admin_cases.go", []Case{
		{Name: "Admin/InspectShowsTheLock", Guarantee: "Inspect shows holders with their metadata, and waiters; a free lock is no error.",
			Run: func(t *T) {
				if l := t.Inspect(t.D, t.Lock("free")); len(l.Holders)+len(l.Waiters) != 0 {
					t.Errorf("a free lock has %+v", l)
				}
				r := t.Request(t.Lock("a"), "one", ttl(20*time.Second))
				r.Metadata = map[string]string{"host": "web-1", "odd \x1f key": "line\nbreak \x1e ü"}
				g := t.Must(t.D, r)
				t.Queue(t.D, t.Request(t.Lock("a"), "two", priority(3)))
				l := t.Inspect(t.D, t.Lock("a"))
				if len(l.Holders) != 1 || l.Holders[0].OwnerID != "one" || l.Holders[0].Token != g.Token || l.Holders[0].HoldCount != 1 || !maps.Equal(l.Holders[0].Metadata, r.Metadata) {
					t.Errorf("holders %+v", l.Holders)
				}
				if len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "two" || l.Waiters[0].Priority != 3 {
					t.Errorf("waiters %+v", l.Waiters)
				}
			}},
		{Name: "Admin/ListPagesWithoutLossOrRepeat", Guarantee: "Listing page by page returns each standing lock of the prefix exactly once.",
			Run: func(t *T) {
				const n = 200
				for i := range n {
					t.Must(t.D, t.Request(t.Lock(fmt.Sprint("list/", i)), "one", ttl(50*time.Second)))
				}
				t.Must(t.D, t.Request(t.Lock("other"), "one"))
				seen := make(map[string]int)
				req := &driver.ListRequest{Prefix: t.Lock("list/"), PageSize: 7}
				for {
					page, err := t.D.List(t.ctx, req)
					if err != nil {
						t.Fatalf("list: %v", err)
					}
					if len(page.Locks) > req.PageSize {
						t.Errorf("a page of %d locks, asked for %d", len(page.Locks), req.PageSize)
					}
					for _, l := range page.Locks {
						seen[l.LockID]++
					}
					if req.PageToken = page.NextPageToken; req.PageToken == "" {
						break
					}
				}
				for id, times := range seen {
					if times != 1 {
						t.Errorf("%s was listed %d times", id, times)
					}
				}
				if len(seen) != n {
					t.Errorf("%d of %d locks were listed", len(seen), n)
				}
			}},
		{Name: "Admin/RevocationWaitsForTheHolder", Guarantee: "A revoked lease cannot be renewed; the next grant waits for its release.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(20*time.Second)))
				h, err := t.D.Revoke(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseForced})
				if err != nil || h.Token != g.Token {
					t.Fatalf("revoke: %+v, %v", h, err)
				}
				_, err = t.Renew(t.D, g)
				t.Lost(err, driver.CauseForced)
				t.Refused(t.D, t.Request(t.Lock("a"), "two"))
				t.Release(t.D, g)
				t.Must(t.D, t.Request(t.Lock("a"), "two"))
			}},
		{Name: "Admin/RevocationNeedsTheToken", Guarantee: "Revoking by a token that is not the lease's touches nothing.",
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				if _, err := t.D.Revoke(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token - 1, Cause: driver.CauseForced}); !errors.Is(err, driver.ErrLost) && !errors.Is(err, driver.ErrStaleToken) {
					t.Errorf("error %v, want LOST or stale", err)
				}
				if _, err := t.Renew(t.D, g); err != nil {
					t.Errorf("renew: %v", err)
				}
			}},
		{Name: "Admin/OneEvictionWins", Guarantee: "Of many who evict one lease exactly one wins, and its holder learns the cause.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(20*time.Second)))
				var wins atomic.Int32
				var wg sync.WaitGroup
				for _, d := range []driver.Driver{t.D, t.Open(), t.Open()} {
					wg.Go(func() {
						if e, err := d.Evict(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseForced}); err == nil {
							wins.Add(1)
							if e.OwnerID != "one" || e.Token != g.Token || e.Cause != driver.CauseForced {
								t.Errorf("evicted %+v", e)
							}
						}
					})
				}
				wg.Wait()
				if wins.Load() != 1 {
					t.Errorf("%d evictions won", wins.Load())
				}
				_, err := t.Renew(t.D, g)
				t.Lost(err, driver.CauseForced)
			}},
		{Name: "Admin/EvictExpiredOnlyIfExpired", Guarantee: "A lease that stands is not evicted as expired.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", ttl(20*time.Second)))
				_, err := t.D.Evict(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseExpired})
				t.is(err, driver.ErrHeld)
			}},
		{Name: "Admin/AnExpiryIsReportedOnce", Guarantee: "An expired lease is reported as evicted by exactly one call.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				t.expire(g)
				// Calls that end or keep leases look at it without reporting it.
				_, _ = t.Renew(t.D, g)
				t.leave(t.Request(t.Lock("a"), "nobody"))
				var reported atomic.Int32
				var wg sync.WaitGroup
				for i, d := range []driver.Driver{t.D, t.Open(), t.Open()} {
					wg.Go(func() {
						if i == 0 {
							if _, err := d.Evict(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseExpired}); err == nil {
								reported.Add(1)
							}
							return
						}
						res, err := t.attempt(d, t.Request(t.Lock("a"), fmt.Sprint(i), enqueue))
						if err != nil {
							t.Errorf("acquire: %v", err)
							return
						}
						for _, e := range res.Evicted {
							if e.Token == g.Token {
								reported.Add(1)
							}
						}
					})
				}
				wg.Wait()
				if reported.Load() != 1 {
					t.Errorf("the expiry was reported %d times", reported.Load())
				}
			}},
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
		{Name: "Admin/AnExpiryWithNobodyWaitingIsToldOnce", Alone: true, Needs: []Need{NeedSweep},
			Guarantee: "A driver that declares expiry events reports an expiry for which nobody asks once among its openers; another has no sweep.",
			Run:       func(t *T) { t.expiryIsTold() }},
	})
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
		g := t.Must(t.D, t.Request(t.Lock(fmt.Sprint("dead/", i)), "dead"))
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
