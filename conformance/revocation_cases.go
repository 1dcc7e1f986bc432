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
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
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
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
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
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				_, err := t.D.Evict(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseExpired})
				t.is(err, driver.ErrHeld)
			}},
		{Name: "Admin/AnExpiryIsReportedOnce", Guarantee: "An expired lease is reported as evicted by exactly one call.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				t.expire(g)
				// Calls that end or keep leases look at it without reporting it.
				_, _ = t.Renew(t.D, g)
				t.leave(t.Request(t.Lock("a"), "nobody"))
				var reported atomic.Int32
				count := func(res *driver.AcquireResult) {
					for _, e := range res.Evicted {
						if e.Token == g.Token {
							reported.Add(1)
						}
					}
				}
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
						count(res)
					})
				}
				wg.Wait()
				res, err := t.attempt(t.D, t.Request(t.Lock("a"), "after", enqueue))
				if err != nil {
					t.Fatalf("acquire: %v", err)
				}
				count(res)
				if reported.Load() != 1 {
					t.Errorf("the expiry was reported %d times", reported.Load())
				}
			}},
		{Name: "Admin/EvictionLetsTheFirstWaiterIn", Guarantee: "After an eviction by force the first waiter is granted by its next attempt.", Needs: []Need{NeedEvict},
			Run: func(t *T) {
				holder, requests := t.line(2, func(i int) *driver.AcquireRequest {
					return t.Request(t.Lock("a"), fmt.Sprint(i))
				})
				if _, err := t.D.Evict(t.ctx, &driver.EvictRequest{LockID: holder.LockID, Token: holder.Token, Cause: driver.CauseDeadlock}); err != nil {
					t.Fatalf("evict: %v", err)
				}
				t.Queue(t.D, requests[1])
				t.Must(t.D, requests[0])
				_, err := t.Renew(t.D, holder)
				t.Lost(err, driver.CauseDeadlock)
			}},
		{Name: "Admin/RevocationEndsWithTheLease", Guarantee: "A revoked lease that its holder does not give back ends at its expiry, and no renewal delays that.",
			Run: func(t *T) {
				t.unlessLate(func(d time.Duration) (late bool) {
					lock := t.Lock(d.String())
					g := t.Must(t.D, t.Request(lock, "one", ttl(2*d)))
					end := g.Origin.Add(g.Remaining)
					for range 2 { // repeated, it changes nothing
						if _, err := t.D.Revoke(t.ctx, &driver.EvictRequest{LockID: lock, Token: g.Token, Cause: driver.CauseForced}); err != nil {
							if t.now() >= end {
								return true
							}
							t.Fatalf("revoke: %v", err)
						}
					}
					waiter := t.Request(lock, "two", enqueue)
					res, err := t.attempt(t.D, waiter)
					if err != nil {
						t.Fatalf("queueing two: %v", err)
					}
					_, err = t.Renew(t.D, g)
					t.is(err, driver.ErrLost)
					if res.Lease == nil {
						t.Await(t.D, waiter)
					}
					if early := end.Sub(t.now()); early > 0 {
						t.Errorf("the next one was granted %v before the revoked lease's end", early)
					}
					return res.Lease != nil // before a renewal could delay anything
				})
			}},
		{Name: "Admin/RevokedLeaseGrantsNothingMore", Guarantee: "A revoked lease is neither adopted, nor re-entered, nor given again to its repeated acquire.", Needs: []Need{NeedAttach, NeedKeys},
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				if _, err := t.D.Revoke(t.ctx, &driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseForced}); err != nil {
					t.Fatalf("revoke: %v", err)
				}
				ref := g.ref()
				ref.Attach = 0
				_, err := t.D.Adopt(t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: t.TTL()})
				t.Lost(err, driver.CauseForced)
				if held := t.Refused(t.D, t.Request(t.Lock("a"), "one", reentrant(g))); !held.BySelf {
					t.Errorf("refused by %+v, want itself", held)
				}
				_, err = t.attempt(t.D, g.req)
				t.Lost(err, driver.CauseForced)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || !l.Holders[0].Revoked || l.Holders[0].HoldCount != 1 {
					t.Errorf("holders %+v, want the one that is revoked", l.Holders)
				}
			}},
		{Name: "Admin/HolderIsHintedAtItsLoss", Guarantee: "Where the driver declares hints, a revocation and an eviction reach the driver of the holder.", Needs: []Need{NeedWatch, NeedEvict},
			Run: func(t *T) {
				d := t.Open()
				next := t.watch(d)
				for i, end := range []func(*driver.EvictRequest){
					func(r *driver.EvictRequest) { _, _ = t.D.Revoke(t.ctx, r) },
					func(r *driver.EvictRequest) { _, _ = t.D.Evict(t.ctx, r) },
				} {
					t.hinted(next, func(n int) driver.Hint {
						g := t.Must(d, t.Request(t.Lock(fmt.Sprint(i, "-", n)), "holder"))
						end(&driver.EvictRequest{LockID: g.LockID, Token: g.Token, Cause: driver.CauseForced})
						return driver.Hint{Kind: driver.HintRevoked, LockID: g.LockID, Token: g.Token}
					})
				}
			}},
	}
}
