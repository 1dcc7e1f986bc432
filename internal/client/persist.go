package client

import (
	"context"
	"errors"
	"math/rand/v2"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Patience bounds how long an acquire is repeated while nobody listens at the
// socket, or its backend cannot be reached. The request's own wait bounds it
// too.
const Patience = 10 * time.Second

// The pauses between two attempts grow from firstPause to longestPause, with
// full jitter: a fleet that lost its store does not come back in step.
const (
	firstPause   = 50 * time.Millisecond
	longestPause = 2 * time.Second
)

// Attempt sends an acquire once. It reports whether the request got as far as
// the queue, from which patience begins anew.
type Attempt func(ctx context.Context, req *lockpb.AcquireRequest) (queued bool, err error)

// Persist sends an acquire, and again under the same request id while the
// answer is that nothing or nobody knows what was done. It returns the last
// attempt's error.
func Persist(ctx context.Context, req *lockpb.AcquireRequest, attempt Attempt) error {
	if req.RequestId == "" {
		req.RequestId = backend.NewSecret()
	}
	began := time.Now()
	var until time.Time // the end of the wait; zero: none
	if req.Wait != nil {
		until = began.Add(req.Wait.AsDuration())
	}
	progress, tries := began, 0
	for {
		queued, err := attempt(ctx, req)
		if err == nil || !Transient(err) || ctx.Err() != nil {
			return err
		}
		now := time.Now()
		if queued {
			progress, tries = now, 0
		}
		pause := time.Duration(rand.Int64N(int64(min(longestPause, firstPause<<min(tries, 10)))))
		tries++
		next := now.Add(pause)
		if !until.IsZero() && next.After(until) || !quarantined(err) && next.Sub(progress) > Patience {
			return err
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
			t.Stop()
			return err
		}
		if !until.IsZero() {
			req.Wait = durationpb.New(max(0, time.Until(until)))
		}
	}
}

// Transient reports whether repeating a request under its id may help: nobody
// answered, the backend cannot be reached, or the outcome is not known.
func Transient(err error) bool {
	if errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) || errors.Is(err, driver.ErrQuarantined) {
		return true
	}
	reason, _ := Reason(err)
	return status.Code(err) == codes.Unavailable || reason == "OUTCOME_UNKNOWN"
}

// quarantined says that the backend answers, and will grant once it is sure:
// that is a wait like any other.
func quarantined(err error) bool {
	reason, _ := Reason(err)
	return reason == "QUARANTINED" || errors.Is(err, driver.ErrQuarantined)
}
