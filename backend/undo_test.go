package backend_test

import (
	"context"
	"errors"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

func TestGrantThatMeetsNobodyIsUndone(t *testing.T) {
	for _, way := range []string{"sync", "async"} {
		synctest.Test(t, func(t *testing.T) {
			answer := make(chan struct{})
			watched := &observed{}
			s, _, other := stage(t, backend.Options{Observer: watched}, func(d *staged) {
				d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
					res, err := d.Driver.Acquire(ctx, r)
					<-answer
					return res, err
				}
			})
			dead := &driver.AcquireRequest{LockID: "a", OwnerID: "dead", RequestID: "dead", Key: driver.KeyOf("dead"), TTL: time.Second}
			if _, err := other.Acquire(t.Context(), dead); err != nil {
				t.Fatal(err)
			}
			time.Sleep(2 * time.Second)
			synctest.Wait()
			ctx, cancel := context.WithCancel(t.Context())
			ended := make(chan error, 1)
			if way == "sync" {
				go func() {
					_, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
					ended <- err
				}()
			} else {
				s.AcquireAsync(ctx, &backend.AcquireRequest{LockID: "a"}, func(_ *backend.Lease, err error) { ended <- err })
			}
			synctest.Wait()
			if l, err := s.Get(t.Context(), "a"); err != nil || len(l.Holders) != 1 {
				t.Fatalf("the store has %+v (%v), want the grant", l, err)
			}
			cancel()
			close(answer)
			if err := <-ended; !errors.Is(err, context.Canceled) {
				t.Errorf("%s: error %v, want context.Canceled", way, err)
			}
			synctest.Wait()
			empty(t, s, "a")
			if watched.expired != 1 {
				t.Errorf("%s: %d expiries were counted, want the one that the grant reported", way, watched.expired)
			}
		})
	}
}

func TestUnknownErrorIsAnUnknownOutcomeAndUndoneUntilItWorks(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		strange := errors.New("strange")
		refusals := 5
		s, d, _ := stage(t, backend.Options{}, func(d *staged) {
			d.acquire = func(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
				if _, err := d.Driver.Acquire(ctx, r); err != nil {
					return nil, err
				}
				return nil, strange
			}
			d.leave = func(ctx context.Context, r *driver.LeaveRequest) error {
				if refusals--; refusals >= 0 {
					return driver.ErrUnavailable
				}
				return d.Driver.Leave(ctx, r)
			}
		})
		_, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", RequestID: "r"})
		if !errors.Is(err, driver.ErrIndeterminate) || !errors.Is(err, strange) {
			t.Errorf("error %v, want ErrIndeterminate and what it was", err)
		}
		time.Sleep(10 * time.Second) // well before the lease's own end
		synctest.Wait()
		empty(t, s, "a")
		if left := d.leaves(); len(left) != 6 || left[5] != "r" {
			t.Errorf("left %v, want r until it worked", left)
		}
	})
}

func TestUndoEndsWithTheLongestLease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		var lines []string
		s, _, _ := stage(t, backend.Options{Logger: told(func(line string) {
			mu.Lock()
			defer mu.Unlock()
			lines = append(lines, line)
		})}, func(d *staged) {
			d.acquire = func(context.Context, *driver.AcquireRequest) (*driver.AcquireResult, error) {
				return nil, driver.ErrIndeterminate
			}
			d.leave = func(context.Context, *driver.LeaveRequest) error { return driver.ErrUnavailable }
		})
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, driver.ErrIndeterminate) {
			t.Error(err)
		}
		time.Sleep(s.Capabilities().MaxTTL + 10*time.Second)
		synctest.Wait()
		mu.Lock()
		defer mu.Unlock()
		if len(lines) != 1 {
			t.Errorf("logged %q, want one line that the undo was given up", lines)
		}
	})
}

func TestUndosAreBounded(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var mu sync.Mutex
		logged := 0
		s, d, _ := stage(t, backend.Options{Logger: told(func(string) { mu.Lock(); logged++; mu.Unlock() })}, func(d *staged) {
			d.acquire = func(context.Context, *driver.AcquireRequest) (*driver.AcquireResult, error) {
				return nil, driver.ErrIndeterminate
			}
			d.leave = func(ctx context.Context, _ *driver.LeaveRequest) error { <-ctx.Done(); return driver.ErrIndeterminate }
		})
		const bound = 4096
		for range bound + 3 {
			_, _ = s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"})
		}
		synctest.Wait()
		if n := len(d.leaves()); n != bound || logged != 3 {
			t.Errorf("%d undos are under way and %d were given up, want %d and 3", n, logged, bound)
		}
		began := time.Now()
		if err := s.Close(); err != nil {
			t.Error(err)
		}
		if took := time.Since(began); took > 3*time.Second {
			t.Errorf("close waited %v for undos that do not end", took)
		}
	})
}
