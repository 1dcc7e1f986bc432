package conformance

import (
	"errors"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func revocationCases() []Case {
	return []Case{
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
	}
}
