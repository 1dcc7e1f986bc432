package backend_test

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// held is a driver whose first acquire reaches the store late.
type held struct {
	driver.Driver
	gate  chan struct{}
	calls int
}

func (h *held) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if h.calls++; h.calls == 1 {
		<-h.gate
	}
	return h.Driver.Acquire(ctx, r)
}

type answer struct {
	lease *backend.Lease
	err   error
}

// A repeat under the same request id, while the older attempt is on its way to
// the store or waits, is answered with the lease; the older attempt ends, and
// neither takes the lease nor undoes it.
func TestRepeatSupersedesTheOlderAttempt(t *testing.T) {
	for _, where := range []string{"on its way", "waiting"} {
		t.Run(where, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
				if err != nil {
					t.Fatal(err)
				}
				var d driver.Driver = m.Open()
				gate := make(chan struct{})
				if where == "on its way" {
					d = onlyDriver{&held{Driver: d, gate: gate}}
				}
				s := backend.New(d, backend.Options{Clock: driver.ProcessClock})
				defer func() { _ = s.Close() }()
				var first *backend.Lease
				if where == "waiting" {
					first = mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: time.Minute})
				}
				ask := func() chan answer {
					ended := make(chan answer, 1)
					s.AcquireAsync(t.Context(), &backend.AcquireRequest{LockID: "a", RequestID: "r", OwnerID: "me", Wait: backend.Forever},
						func(l *backend.Lease, err error) { ended <- answer{l, err} })
					synctest.Wait()
					return ended
				}
				older := ask()
				time.Sleep(time.Second)
				newer := ask()
				s.EachWait(func(_ string, waited time.Duration) {
					if waited != time.Second {
						t.Errorf("the repeat has waited for %v, want a second: since the first attempt", waited)
					}
				})
				close(gate)
				if first != nil {
					if _, err := s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: first.Ref(false)}); err != nil {
						t.Fatal(err)
					}
				}
				var lost *driver.LostError
				if o := <-older; !errors.As(o.err, &lost) || lost.Cause != driver.CauseReattached {
					t.Errorf("the older attempt ended with %+v, want it reattached", o)
				}
				o := <-newer
				if o.err != nil {
					t.Fatal(o.err)
				}
				synctest.Wait() // whatever is undone
				l, err := s.Renew(t.Context(), &backend.RenewRequest{LeaseRef: o.lease.Ref(true)})
				if err != nil || l.Token != o.lease.Token {
					t.Errorf("the newer attempt's lease is renewed to %+v, %v", l, err)
				}
			})
		})
	}
}

// A repeat that is given up while the first attempt is on its way undoes that
// one, and not what a third attempt gets, which waits for the first one too.
func TestRepeatThatIsGivenUpUndoesNoNewerOne(t *testing.T) {
	for _, ends := range []string{"cancelled", "superseded"} {
		t.Run(ends, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				gate, slow := make(chan struct{}), make(chan struct{})
				s, _, other := stage(t, backend.Options{}, func(d *staged) {
					inner, calls := d.Driver, 0
					d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
						if calls++; calls == 1 {
							<-gate
						}
						return inner.Acquire(ctx, r)
					}
					d.leave = func(ctx context.Context, r *driver.LeaveRequest) error {
						<-slow
						return inner.Leave(ctx, r)
					}
				})
				ask := func(ctx context.Context) <-chan outcome {
					ended := start(ctx, s, backend.AcquireRequest{LockID: "a", RequestID: "r", OwnerID: "me", Wait: backend.Forever})
					synctest.Wait()
					return ended
				}
				leaving, leave := context.WithCancel(t.Context())
				first, second := ask(t.Context()), ask(leaving)
				if ends == "cancelled" {
					leave()
					synctest.Wait()
				}
				third := ask(t.Context())
				leave()
				select {
				case o := <-third:
					t.Fatalf("the third attempt did not wait for the first: %+v", o)
				default:
				}
				close(gate)
				o := <-third
				if o.err != nil {
					t.Fatal(o.err)
				}
				close(slow)
				synctest.Wait() // whatever is undone
				if a, b := <-first, <-second; a.err == nil || b.err == nil {
					t.Errorf("the older attempts ended with %+v and %+v", a, b)
				}
				lock, err := other.Inspect(t.Context(), "a")
				if err != nil || len(lock.Holders) != 1 || lock.Holders[0].Token != o.lease.Token {
					t.Errorf("told of token %d, the lock has %+v, %v", o.lease.Token, lock, err)
				}
				if _, err := s.Renew(t.Context(), &backend.RenewRequest{LeaseRef: o.lease.Ref(true)}); err != nil {
					t.Error(err)
				}
			})
		})
	}
}

// When the last attempt at a request is given up, nothing of any is left.
func TestRepeatThatIsGivenUpUndoesTheOlderOne(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		gate := make(chan struct{})
		s, _, other := stage(t, backend.Options{}, func(d *staged) {
			inner := d.Driver
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				<-gate
				return inner.Acquire(ctx, r)
			}
		})
		ctx, leave := context.WithCancel(t.Context())
		request := backend.AcquireRequest{LockID: "a", RequestID: "r", OwnerID: "me", Wait: backend.Forever}
		first := start(t.Context(), s, request)
		synctest.Wait()
		second := start(ctx, s, request)
		synctest.Wait()
		leave()
		if o := <-second; !errors.Is(o.err, context.Canceled) {
			t.Errorf("the caller that left got %+v", o)
		}
		close(gate)
		<-first
		synctest.Wait()
		if lock, err := other.Inspect(t.Context(), "a"); err != nil || len(lock.Holders)+len(lock.Waiters) != 0 {
			t.Errorf("what nobody was told of is left: %+v, %v", lock, err)
		}
	})
}

// One request id on two locks is two requests.
func TestRequestIDIsOfItsLock(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		for _, id := range []string{"a", "b"} {
			mustAcquire(t, s, &backend.AcquireRequest{LockID: id, TTL: 10 * time.Second})
		}
		ended := make(chan answer, 2)
		for _, id := range []string{"a", "b"} {
			s.AcquireAsync(t.Context(), &backend.AcquireRequest{LockID: id, RequestID: "r", Wait: backend.Forever},
				func(l *backend.Lease, err error) { ended <- answer{l, err} })
		}
		for range 2 {
			if o := <-ended; o.err != nil {
				t.Error(o.err)
			}
		}
	})
}
