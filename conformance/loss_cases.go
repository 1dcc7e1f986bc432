package conformance

import (
	"errors"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// lossDepth is how many of a call's requests a reply is lost to: the first, the
// second, …; a driver that makes fewer loses none.
const lossDepth = 3

// told wants an error to be true: that nothing was done is said only if nothing was.
func (t *T) told(what string, err error, done bool) {
	switch {
	case err == nil, errors.Is(err, driver.ErrIndeterminate):
	case !errors.Is(err, driver.ErrUnavailable):
		t.Errorf("%s whose reply was lost: %v, want the outcome unknown or the store unavailable", what, err)
	case done:
		t.Errorf("%s whose reply was lost says that nothing was done, and it was: %v", what, err)
	}
}

func lossCases() []Case {
	return []Case{
		{Name: "Idempotence/ALostReplyIsToldTruly", Guarantee: "When a reply is lost, no call says that nothing was done unless nothing was, and repeating settles each: one hold, one release, one place less.", Needs: []Need{NeedLink},
			Run: func(t *T) {
				l, id := t.link(), t.Lock("a")
				for n := 1; n <= lossDepth; n++ {
					r := t.Request(id, "one")
					l.LoseReply(n)
					_, err := t.attempt(l.Driver, r)
					l.LoseReply(0)
					t.told("an acquire", err, len(t.Inspect(t.D, id).Holders) > 0)
					var g *grant
					t.settle("acquire", func() error {
						res, err := t.attempt(l.Driver, r)
						if err == nil && res.Lease == nil {
							t.Fatalf("a repeated acquire was queued at %d", res.Position)
						}
						if err == nil {
							g = &grant{res.Lease, r}
						}
						return err
					})
					if holders := t.Inspect(t.D, id).Holders; len(holders) != 1 || holders[0].HoldCount != 1 || holders[0].Token != g.Token {
						t.Fatalf("the holders are %+v after an acquire with token %d was repeated", holders, g.Token)
					}

					l.LoseReply(n)
					_, err = t.Renew(l.Driver, g)
					l.LoseReply(0)
					t.told("a renewal", err, false)
					t.settle("renewal", func() error { _, err := t.Renew(l.Driver, g); return err })

					waiter := t.Request(id, "two", enqueue)
					t.settle("queueing", func() error { _, err := t.attempt(l.Driver, waiter); return err })
					leave := &driver.LeaveRequest{LockID: id, RequestID: waiter.RequestID, Key: waiter.Key}
					l.LoseReply(n)
					err = l.Driver.Leave(t.ctx, leave)
					l.LoseReply(0)
					t.told("a leave", err, len(t.Inspect(t.D, id).Waiters) == 0)
					t.settle("leave", func() error { return l.Driver.Leave(t.ctx, leave) })
					if waiters := t.Inspect(t.D, id).Waiters; len(waiters) != 0 {
						t.Errorf("the waiters are %+v after a leave was repeated", waiters)
					}

					release := &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: r.RequestID}
					l.LoseReply(n)
					_, err = l.Driver.Release(t.ctx, release)
					l.LoseReply(0)
					t.told("a release", err, len(t.Inspect(t.D, id).Holders) == 0)
					t.settle("release", func() error { _, err := l.Driver.Release(t.ctx, release); return err })
					if holders := t.Inspect(t.D, id).Holders; len(holders) != 0 {
						t.Errorf("the holders are %+v after a release was repeated", holders)
					}
				}
			}},
		{Name: "Expiry/KilledHolderIsFollowedInTime", Guarantee: "When a holder's sidecar is killed, the next is granted after the lease's time, and not before.", Needs: []Need{NeedLink},
			Run: func(t *T) {
				l := t.link()
				g := t.Must(l.Driver, t.Request(t.Lock("a"), "one", t.brief))
				l.Cut()
				second := t.Await(t.D, t.Request(t.Lock("a"), "two"))
				if early := g.Origin.Add(g.Remaining).Sub(t.now()); early > 0 {
					t.Errorf("the next was granted %v early (token %d)", early, second.Token)
				}
			}},
		{Name: "Waiting/KilledWaiterIsPassedOver", Guarantee: "When a waiter's sidecar is killed, those behind it are granted once its place has run out.", Needs: []Need{NeedLink, NeedPlaces},
			Run: func(t *T) {
				l, id := t.link(), t.Lock("a")
				holder := t.Must(t.D, t.Request(id, "holder"))
				t.Queue(l.Driver, t.Request(id, "killed", placeTTL(time.Second)))
				l.Cut()
				behind := t.Request(id, "behind")
				t.Queue(t.D, behind)
				t.Release(t.D, holder)
				t.Await(t.D, behind)
			}},
		{Name: "Fencing/TokenRisesOverARestart", Guarantee: "After the store's restart a lease that was held stands or is lost, its lock is nobody else's before its time is over, and tokens rise.", Needs: []Need{NeedRestart}, Alone: true,
			Run: func(t *T) {
				held := t.Must(t.D, t.Request(t.Lock("held"), "one", ttl(5*time.Second)))
				free := t.Must(t.D, t.Request(t.Lock("free"), "one"))
				t.Release(t.D, free)
				var err error
				if apart(func() { err = t.h.Restart(t.ctx) }); err != nil {
					t.Fatalf("restart: %v", err)
				}
				t.D = t.Open()
				var again *driver.AcquireResult
				two := t.Request(t.Lock("free"), "two", enqueue)
				t.settle("acquire", func() (err error) {
					again, err = t.attempt(t.D, two)
					return err
				})
				if again.Lease == nil || again.Lease.Token <= free.Token {
					t.Errorf("a free lock was answered with %+v after the restart, want a lease with a token above %d", again, free.Token)
				}
				next := t.Await(t.D, t.Request(t.Lock("held"), "two"))
				if early := held.Origin.Add(held.Remaining).Sub(t.now()); early > 0 || next.Token <= held.Token {
					t.Errorf("the next was granted %v early, with token %d after %d", early, next.Token, held.Token)
				}
			}},
	}
}
