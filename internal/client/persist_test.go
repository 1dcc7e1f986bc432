package client

import (
	"context"
	"errors"
	"slices"
	"testing"
	"testing/synctest"
	"time"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func answer(t *testing.T, code codes.Code, reason string) error {
	t.Helper()
	s, err := status.New(code, "test").WithDetails(&errdetails.ErrorInfo{Reason: reason})
	if err != nil {
		t.Fatal(err)
	}
	return s.Err()
}

// How long an acquire is repeated, by what it is answered and how long it may
// wait.
func TestPersistence(t *testing.T) {
	noDaemon := status.Error(codes.Unavailable, "connection refused")
	for name, c := range map[string]struct {
		err         error
		wait        *durationpb.Duration
		least, most time.Duration
		once        bool
	}{
		"nobody listens":             {err: noDaemon, least: Patience - longestPause, most: Patience},
		"nobody listens, short wait": {err: noDaemon, wait: durationpb.New(3 * time.Second), least: time.Second, most: 3 * time.Second},
		"a try":                      {err: noDaemon, wait: durationpb.New(0), once: true},
		"backend down":               {err: answer(t, codes.Unavailable, "BACKEND_UNAVAILABLE"), least: Patience - longestPause, most: Patience},
		"backend of this process":    {err: driver.ErrBreakerOpen, least: Patience - longestPause, most: Patience},
		"outcome unknown":            {err: answer(t, codes.Unknown, "OUTCOME_UNKNOWN"), least: Patience - longestPause, most: Patience},
		"quarantine is a wait":       {err: answer(t, codes.Unavailable, "QUARANTINED"), wait: durationpb.New(time.Minute), least: time.Minute - longestPause, most: time.Minute},
		"held":                       {err: answer(t, codes.Aborted, "LOCK_HELD"), once: true},
		"refused":                    {err: answer(t, codes.InvalidArgument, "INVALID_TTL"), once: true},
		"held, in this process":      {err: &driver.HeldError{}, once: true},
	} {
		t.Run(name, func(t *testing.T) {
			synctest.Test(t, func(t *testing.T) {
				began := time.Now()
				var ids []string
				var left []time.Duration
				err := Persist(t.Context(), &lockpb.AcquireRequest{Wait: c.wait}, func(_ context.Context, req *lockpb.AcquireRequest) (bool, error) {
					ids = append(ids, req.GetRequestId())
					if req.Wait != nil {
						left = append(left, req.GetWait().AsDuration())
						if bound := c.most - time.Since(began); !c.once && left[len(left)-1] > bound {
							t.Errorf("asked to wait %v with %v left", left[len(left)-1], bound)
						}
					}
					return false, c.err
				})
				if !errors.Is(err, c.err) {
					t.Errorf("got %v, want %v", err, c.err)
				}
				if took := time.Since(began); took < c.least || took > c.most {
					t.Errorf("gave up after %v, want %v to %v", took, c.least, c.most)
				}
				if c.once != (len(ids) == 1) {
					t.Errorf("%d attempts", len(ids))
				}
				if distinct := slices.Compact(slices.Clone(ids)); len(distinct) != 1 || distinct[0] == "" {
					t.Errorf("request ids %q, want one", distinct)
				}
			})
		})
	}
}

// Patience begins anew in the queue: a daemon that restarts now and then is no
// reason to give up.
func TestPatienceBeginsAnewInTheQueue(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		began, attempts := time.Now(), 0
		err := Persist(t.Context(), &lockpb.AcquireRequest{}, func(context.Context, *lockpb.AcquireRequest) (bool, error) {
			attempts++
			if attempts > 20 {
				return false, nil
			}
			time.Sleep(5 * time.Second)
			return true, status.Error(codes.Unavailable, "gone")
		})
		if err != nil || time.Since(began) < 10*Patience {
			t.Errorf("after %v and %d attempts: %v", time.Since(began), attempts, err)
		}
	})
}

// Its context ends the repeating at once.
func TestPersistenceEndsWithItsContext(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		ctx, cancel := context.WithTimeout(t.Context(), time.Second)
		defer cancel()
		began := time.Now()
		err := Persist(ctx, &lockpb.AcquireRequest{}, func(context.Context, *lockpb.AcquireRequest) (bool, error) {
			return false, driver.ErrUnavailable
		})
		if err == nil || time.Since(began) > time.Second {
			t.Errorf("%v after %v", err, time.Since(began))
		}
	})
}

// Renewals only prolong, and the first reason of a loss counts.
func TestTenure(t *testing.T) {
	now := driver.BootClock.Now()
	at := func(d time.Duration) *lockpb.Lease {
		return &lockpb.Lease{LockId: "job", ValidUntilBoottimeNs: int64(now.Add(d))}
	}
	held := NewTenure(at(time.Hour))
	held.Renewed(at(time.Minute)) // overtaken by a later one
	if got := held.ValidUntil(); got != now.Add(time.Hour) {
		t.Errorf("valid until %v after now, want an hour", got.Sub(now))
	}
	select {
	case <-held.Lost():
		t.Error("lost")
	default:
	}
	held.Lose("forced")
	held.Lose("expired")
	<-held.Lost()
	if got := held.Reason(); got != "forced" {
		t.Errorf("lost by %q", got)
	}
	if past := NewTenure(at(-time.Second)); past.Left() > -time.Second {
		t.Errorf("%v left of a lease that ended", past.Left())
	}
}

// The endpoint is the given one, else the environment's, else dev's if it is
// there, else serve's.
func TestEndpoint(t *testing.T) {
	t.Setenv("XDG_RUNTIME_DIR", t.TempDir())
	t.Setenv(EndpointVariable, "")
	if got := Endpoint(""); got != "unix://"+ServePath {
		t.Errorf("got %q, want serve's", got)
	}
	t.Setenv(EndpointVariable, "unix:///from/environment")
	if got := Endpoint(""); got != "unix:///from/environment" {
		t.Errorf("got %q", got)
	}
	if got := Endpoint("unix:///given"); got != "unix:///given" {
		t.Errorf("got %q", got)
	}
	for _, bad := range []string{"http://localhost", "unix:", "unix:///", "/path"} {
		if _, err := New(bad); err == nil {
			t.Errorf("endpoint %q was taken", bad)
		}
	}
}
