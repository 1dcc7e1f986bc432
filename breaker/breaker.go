package breaker

import (
	"context"
	"errors"
	"time"

	"github.com/cenkalti/backoff/v4"
	"github.com/sony/gobreaker/v2"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Breaker)(nil)
	_ driver.BatchRenewer = (*Breaker)(nil)
	_ driver.Async        = (*Breaker)(nil)
	_ driver.Unwrapper    = (*Breaker)(nil)
)

// The defaults of Options.
const (
	defaultOpenFor          = 2 * time.Second
	defaultFailureThreshold = 5
	defaultMaxRetries       = 3
	// A retry waits a random time below 25 ms, doubling up to 500 ms (full
	// jitter): three retries pass over a reconnect, not over an outage.
	firstPause, longestPause = 25 * time.Millisecond, 500 * time.Millisecond
)

// Options configure a Breaker. The zero value is usable.
type Options struct {
	// OpenFor is how long an open breaker refuses before it lets one request
	// through; 0 means 2 s.
	OpenFor time.Duration
	// FailureThreshold is how many failures in a row open it; 0 means 5.
	FailureThreshold uint32
	// MaxRetries bounds the retries of an acquire; 0 means 3, a negative value
	// none.
	MaxRetries int
	// OnStateChange is told "closed", "half-open" or "open", of the breaker
	// "acquire" or "read". It must not block, and must not call the Breaker.
	OnStateChange func(name, from, to string)
}

// Breaker is a driver that protects the one beneath it.
type Breaker struct {
	driver.Driver
	maxRetries uint64
	// acquires and reads fail apart: a listing that times out must not refuse
	// acquires.
	acquires, reads *gobreaker.TwoStepCircuitBreaker[struct{}]
}

// New decorates d.
func New(d driver.Driver, o Options) *Breaker {
	if o.OpenFor == 0 {
		o.OpenFor = defaultOpenFor
	}
	if o.FailureThreshold == 0 {
		o.FailureThreshold = defaultFailureThreshold
	}
	if o.MaxRetries == 0 {
		o.MaxRetries = defaultMaxRetries
	}
	circuit := func(name string) *gobreaker.TwoStepCircuitBreaker[struct{}] {
		return gobreaker.NewTwoStepCircuitBreaker[struct{}](gobreaker.Settings{
			Name: name, Timeout: o.OpenFor, IsExcluded: func(err error) bool { return errors.Is(err, errLeft) }, IsSuccessful: answered,
			ReadyToTrip: func(c gobreaker.Counts) bool { return c.ConsecutiveFailures >= o.FailureThreshold },
			OnStateChange: func(name string, from, to gobreaker.State) {
				if o.OnStateChange != nil {
					o.OnStateChange(name, from.String(), to.String())
				}
			},
		})
	}
	return &Breaker{Driver: d, maxRetries: uint64(max(o.MaxRetries, 0)), acquires: circuit("acquire"), reads: circuit("read")}
}

// errLeft is reported, in place of a failure, for a call whose caller left or had
// no more time: it tells nothing about the store. Of a deadline only
// the context says so: a driver's own timeout may look like one.
var errLeft = errors.New("the caller left")

// outcome is what a breaker counts of a call.
func outcome(ctx context.Context, err error) error {
	if !answered(err) && (ctx.Err() != nil || errors.Is(err, context.Canceled)) {
		return errLeft
	}
	return err
}

// answered says that the store decided, whatever it decided: also that it has no
// capacity for the call, which may be retried all the same.
func answered(err error) bool {
	return err == nil || errors.Is(err, driver.ErrLimit) && !errors.Is(err, driver.ErrIndeterminate) || !retryable(err) && decided(err)
}

func decided(err error) bool {
	for _, s := range driver.Sentinels() {
		if errors.Is(err, s) {
			return true
		}
	}
	return false
}

// retryable says that the store could not be asked, or its answer was lost.
func retryable(err error) bool {
	return errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate)
}

// Unwrap returns the driver beneath.
func (b *Breaker) Unwrap() driver.Driver { return b.Driver }

// State is the state of the breaker of acquires: "closed", "half-open", "open".
func (b *Breaker) State() string { return b.acquires.State().String() }

// States are those of both breakers, by their names. To ask makes an open one
// whose time is over half-open, and so tells OnStateChange.
func (b *Breaker) States() map[string]string {
	return map[string]string{b.acquires.Name(): b.acquires.State().String(), b.reads.Name(): b.reads.State().String()}
}

// Acquire makes one attempt, and repeats it under the same request id while the
// store cannot be reached.
func (b *Breaker) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := b.once(ctx, req)
	return b.retry(ctx, req, res, err)
}

// AcquireAsync makes the first attempt without a goroutine; only a retry has
// one.
func (b *Breaker) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	report, err := b.acquires.Allow()
	if err != nil {
		done(nil, driver.ErrBreakerOpen)
		return
	}
	driver.AcquireAsync(ctx, b.Driver, req, func(res *driver.AcquireResult, err error) {
		report(outcome(ctx, err))
		if !b.again(ctx, err) {
			done(res, err)
			return
		}
		go func() { done(b.retry(ctx, req, res, err)) }()
	})
}

func (b *Breaker) once(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	return guarded(ctx, b.acquires, func() (*driver.AcquireResult, error) { return b.Driver.Acquire(ctx, req) })
}

// again says whether an attempt that ended with err is worth another one.
func (b *Breaker) again(ctx context.Context, err error) bool {
	return err != nil && b.maxRetries > 0 && retryable(err) && !errors.Is(err, driver.ErrBreakerOpen) && ctx.Err() == nil
}

// retry repeats an acquire whose first attempt gave res and err. Once an
// attempt may have been done, the outcome stays unknown until one is answered.
func (b *Breaker) retry(ctx context.Context, req *driver.AcquireRequest, res *driver.AcquireResult, err error) (*driver.AcquireResult, error) {
	if !b.again(ctx, err) {
		return res, err
	}
	unknown := errors.Is(err, driver.ErrIndeterminate)
	pauses := backoff.WithMaxRetries(backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(firstPause/2), // with the factor below: uniform over (0, firstPause)
		backoff.WithMaxInterval(longestPause/2),
		backoff.WithRandomizationFactor(1),
		backoff.WithMultiplier(2),
		backoff.WithMaxElapsedTime(0), // the number of retries and ctx bound it
	), b.maxRetries)
	for b.again(ctx, err) {
		pause := pauses.NextBackOff()
		if pause == backoff.Stop {
			break
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case <-ctx.Done():
		}
		t.Stop()
		if ctx.Err() != nil {
			break
		}
		res, err = b.once(ctx, req)
		unknown = unknown || errors.Is(err, driver.ErrIndeterminate)
	}
	if unknown && !settles(err) && !errors.Is(err, driver.ErrIndeterminate) {
		return nil, errors.Join(driver.ErrIndeterminate, err)
	}
	return res, err
}

// settles says that an attempt's outcome also tells what became of the earlier
// ones under its request id. A store that did not look for them does not.
func settles(err error) bool {
	for _, blind := range []error{driver.ErrQuarantined, driver.ErrClosed, driver.ErrFormat} {
		if errors.Is(err, blind) {
			return false
		}
	}
	return answered(err)
}

// RenewMany passes on: it never waits for a breaker.
func (b *Breaker) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	return driver.RenewMany(ctx, b.Driver, reqs)
}

// ReleaseAsync passes on: it never waits for a breaker.
func (b *Breaker) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	driver.ReleaseAsync(ctx, b.Driver, req, done)
}

// Inspect reads behind the breaker of reads.
func (b *Breaker) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	return guarded(ctx, b.reads, func() (*driver.Lock, error) { return b.Driver.Inspect(ctx, lockID) })
}

// List reads behind the breaker of reads.
func (b *Breaker) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	return guarded(ctx, b.reads, func() (*driver.ListPage, error) { return b.Driver.List(ctx, req) })
}

// errPanicked is reported for a call that did not return, so that a probe never
// leaves the breaker half-open.
var errPanicked = errors.New("the driver panicked")

func guarded[T any](ctx context.Context, circuit *gobreaker.TwoStepCircuitBreaker[struct{}], call func() (T, error)) (result T, err error) {
	report, err := circuit.Allow()
	if err != nil {
		return result, driver.ErrBreakerOpen
	}
	counted := errPanicked
	defer func() { report(counted) }()
	result, err = call()
	counted = outcome(ctx, err)
	return result, err
}
