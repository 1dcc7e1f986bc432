package conformance

import (
	"context"
	"errors"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// impatience bounds a call to a store that is frozen.
const impatience = 500 * time.Millisecond

// frozen runs f while the store answers nothing. f gets a context that ends
// soon.
func (t *T) frozen(f func(ctx context.Context)) {
	resume, err := t.h.Pause()
	if err != nil {
		t.Fatalf("pause: %v", err)
	}
	defer func() {
		if err := resume(); err != nil {
			t.Errorf("resume: %v", err)
		}
	}()
	ctx, cancel := context.WithTimeout(t.ctx, impatience)
	defer cancel()
	f(ctx)
}

// unsettled wants an error that leaves it open what the store did.
func (t *T) unsettled(what string, err error) {
	if !errors.Is(err, driver.ErrIndeterminate) && !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, context.DeadlineExceeded) {
		t.Errorf("%s at a frozen store: %v, want the outcome unknown or the store unavailable", what, err)
	}
}

// settle repeats a call until the store can be reached again.
func (t *T) settle(what string, call func() error) {
	deadline := t.now().Add(patience)
	for {
		err := call()
		if err == nil {
			return
		}
		if !errors.Is(err, driver.ErrIndeterminate) && !errors.Is(err, driver.ErrUnavailable) || t.now() > deadline {
			t.Fatalf("%s, repeated until the store can be reached: %v", what, err)
		}
		t.pause(20 * time.Millisecond)
	}
}

func freezeCases() []Case {
	return []Case{
		{Name: "Idempotence/FrozenAcquireIsSettledByRepeating", Guarantee: "An acquire that a frozen store did not answer ends with its context, says that its outcome is open, and repeated is one hold.", Needs: []Need{NeedPause}, Alone: true,
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				t.frozen(func(ctx context.Context) {
					_, err := t.D.Acquire(ctx, r)
					t.unsettled("acquire", err)
				})
				var lease *driver.Lease
				for range 3 { // the frozen attempt may come through between the repeats
					t.settle("acquire", func() error {
						res, err := t.attempt(t.D, r)
						if err != nil {
							return err
						}
						if res.Lease == nil || lease != nil && res.Lease.Token != lease.Token {
							t.Fatalf("repeated %+v, want one lease and token: %+v", res, lease)
						}
						lease = res.Lease
						return nil
					})
				}
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].HoldCount != 1 || l.Token != lease.Token {
					t.Errorf("the lock is %+v, want one hold of token %d", l, lease.Token)
				}
			}},
		{Name: "Idempotence/FrozenReleaseIsSettledByRepeating", Guarantee: "A release that a frozen store did not answer is settled by repeating, and touches no next holder.", Needs: []Need{NeedPause}, Alone: true,
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one"))
				release := func(ctx context.Context) error {
					_, err := t.D.Release(ctx, &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: g.req.RequestID})
					return err
				}
				t.frozen(func(ctx context.Context) { t.unsettled("release", release(ctx)) })
				t.settle("release", func() error { return release(t.ctx) })
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				t.settle("release", func() error { return release(t.ctx) })
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token {
					t.Errorf("the lock has %+v, want the next holder", l.Holders)
				}
			}},
		{Name: "Idempotence/FrozenAcquireIsUndone", Guarantee: "An acquire that a frozen store did not answer holds nothing any more once it was left.", Needs: []Need{NeedPause}, Alone: true,
			Run: func(t *T) {
				r := t.Request(t.Lock("a"), "one")
				t.frozen(func(ctx context.Context) {
					_, err := t.D.Acquire(ctx, r)
					t.unsettled("acquire", err)
				})
				t.settle("leave", func() error {
					return t.D.Leave(t.ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID})
				})
				next := t.Must(t.D, t.Request(t.Lock("a"), "two"))
				_, err := t.attempt(t.D, r)
				t.is(err, driver.ErrLost)
				if l := t.Inspect(t.D, t.Lock("a")); len(l.Holders) != 1 || l.Holders[0].Token != next.Token {
					t.Errorf("the lock has %+v, want the next holder", l.Holders)
				}
			}},
		{Name: "Expiry/FrozenStoreRenewsNothing", Guarantee: "A renewal that a frozen store did not answer says that its outcome is open; a lease whose time is over by then is lost.", Needs: []Need{NeedPause}, Alone: true,
			Run: func(t *T) {
				g := t.Must(t.D, t.Request(t.Lock("a"), "one", t.brief))
				t.frozen(func(ctx context.Context) {
					_, err := t.D.Renew(ctx, &driver.RenewRequest{LeaseRef: g.ref(), TTL: g.req.TTL})
					t.unsettled("renew", err)
					t.expire(g)
				})
				next := t.Await(t.D, t.Request(t.Lock("a"), "two"))
				if next.Token <= g.Token {
					t.Errorf("token %d after %d", next.Token, g.Token)
				}
				_, err := t.Renew(t.D, g)
				t.is(err, driver.ErrLost)
			}},
	}
}
