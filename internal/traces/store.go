package traces

import (
	"context"
	"errors"
	"sync"
	"time"

	"go.opentelemetry.io/otel/attribute"
	"go.opentelemetry.io/otel/codes"
	"go.opentelemetry.io/otel/trace"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxWaiting bounds the waiters that are looked after; further ones have no spans
// of their waiting.
const maxWaiting = 10_000

// store is a driver whose calls are spans.
type store struct {
	driver.Driver
	t       *Tracer
	backend attribute.KeyValue

	mu      sync.Mutex
	waiting map[request]*waiter
}

type request struct{ lockID, requestID string }

// waiter is a request that has a place in the queue.
type waiter struct {
	// ctx has the span of its call.
	ctx   context.Context
	since time.Time
	// hinted is when the store said that it may be granted.
	hinted time.Time
}

var (
	_ driver.Driver       = (*store)(nil)
	_ driver.BatchRenewer = (*store)(nil)
	_ driver.Async        = (*store)(nil)
	_ driver.Unwrapper    = (*store)(nil)
)

// Driver returns d with spans of its calls, of those that an application's call
// caused.
func (t *Tracer) Driver(backend string, d driver.Driver) driver.Driver {
	return &store{Driver: d, t: t, backend: attribute.String("locksidecar.backend", backend), waiting: make(map[request]*waiter)}
}

// Unwrap returns the driver beneath.
func (s *store) Unwrap() driver.Driver { return s.Driver }

// begin makes a span of a call; end ends it. Both do nothing for a call that
// nobody traces.
func (s *store) begin(ctx context.Context, name, lockID string) (_ context.Context, end func(error)) {
	if !trace.SpanFromContext(ctx).IsRecording() {
		return ctx, func(error) {}
	}
	ctx, span := s.t.tracer.Start(ctx, "store "+name, trace.WithSpanKind(trace.SpanKindClient), trace.WithAttributes(s.backend))
	if lockID != "" {
		span.SetAttributes(attribute.String("locksidecar.lock_id", lockID))
	}
	return ctx, func(err error) {
		if err != nil {
			span.SetAttributes(attribute.String("locksidecar.outcome", reason(err)))
		}
		if errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) {
			span.SetStatus(codes.Error, reason(err))
		}
		span.End()
	}
}

// reason is the sentinel's text, which has nothing of a store or a caller in it.
func reason(err error) string {
	for _, s := range driver.Sentinels() {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	for _, s := range []error{context.Canceled, context.DeadlineExceeded} {
		if errors.Is(err, s) {
			return s.Error()
		}
	}
	return "error"
}

func spanned[T any](ctx context.Context, s *store, name, lockID string, call func(context.Context) (T, error)) (T, error) {
	ctx, end := s.begin(ctx, name, lockID)
	result, err := call(ctx)
	end(err)
	return result, err
}

// Acquire is a span, and begins or ends a wait.
func (s *store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	start := time.Now()
	res, err := spanned(ctx, s, "acquire", req.LockID, func(ctx context.Context) (*driver.AcquireResult, error) { return s.Driver.Acquire(ctx, req) })
	s.acquired(ctx, req, start, res, err)
	return res, err
}

// AcquireAsync is as Acquire.
func (s *store) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	start := time.Now()
	inner, end := s.begin(ctx, "acquire", req.LockID)
	driver.AcquireAsync(inner, s.Driver, req, func(res *driver.AcquireResult, err error) {
		end(err)
		s.acquired(ctx, req, start, res, err)
		done(res, err)
	})
}

// acquired looks after the request while it waits. ctx is the call's.
func (s *store) acquired(ctx context.Context, req *driver.AcquireRequest, start time.Time, res *driver.AcquireResult, err error) {
	span := trace.SpanFromContext(ctx)
	if !span.IsRecording() {
		return
	}
	key := request{req.LockID, req.RequestID}
	now := time.Now()
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.waiting[key]
	switch {
	case err == nil && res.Lease == nil:
		if w == nil && len(s.waiting) < maxWaiting {
			s.waiting[key] = &waiter{ctx: trace.ContextWithSpanContext(context.Background(), span.SpanContext()), since: now}
		}
	case w == nil:
	case err == nil:
		if w.hinted.IsZero() || w.hinted.After(start) {
			w.hinted = start // a poll found it free, or the hint came too late
		}
		s.span(w, "wait", req.LockID, "granted", w.since, now)
		s.span(w, "hand-off", req.LockID, "granted", w.hinted, now)
		delete(s.waiting, key)
	case !req.Enqueue:
		s.span(w, "wait", req.LockID, reason(err), w.since, now)
		delete(s.waiting, key)
	}
}

// span makes one of the past.
func (s *store) span(w *waiter, name, lockID, outcome string, from, to time.Time) {
	_, span := s.t.tracer.Start(w.ctx, name, trace.WithTimestamp(from), trace.WithAttributes(
		s.backend, attribute.String("locksidecar.lock_id", lockID), attribute.String("locksidecar.outcome", outcome),
	))
	span.End(trace.WithTimestamp(to))
}

// Leave is a span, and ends a wait.
func (s *store) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	ctx, end := s.begin(ctx, "leave", req.LockID)
	err := s.Driver.Leave(ctx, req)
	end(err)
	key := request{req.LockID, req.RequestID}
	s.mu.Lock()
	defer s.mu.Unlock()
	if w := s.waiting[key]; w != nil {
		s.span(w, "wait", req.LockID, "left", w.since, time.Now())
		delete(s.waiting, key)
	}
	return err
}

// Watch notes the hints.
func (s *store) Watch(ctx context.Context, sink func(driver.Hint)) error {
	return s.Driver.Watch(ctx, func(h driver.Hint) {
		if h.Kind == driver.HintGrantable {
			s.mu.Lock()
			if w := s.waiting[request{h.LockID, h.RequestID}]; w != nil {
				w.hinted = time.Now()
			}
			s.mu.Unlock()
		}
		sink(h)
	})
}

// Renew is a span.
func (s *store) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return spanned(ctx, s, "renew", req.LockID, func(ctx context.Context) (*driver.Lease, error) { return s.Driver.Renew(ctx, req) })
}

// RenewMany passes on: no application's call causes it.
func (s *store) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	return driver.RenewMany(ctx, s.Driver, reqs)
}

// Release is a span.
func (s *store) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	return spanned(ctx, s, "release", req.LockID, func(ctx context.Context) (*driver.ReleaseResult, error) { return s.Driver.Release(ctx, req) })
}

// ReleaseAsync is as Release.
func (s *store) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	ctx, end := s.begin(ctx, "release", req.LockID)
	driver.ReleaseAsync(ctx, s.Driver, req, func(res *driver.ReleaseResult, err error) {
		end(err)
		done(res, err)
	})
}

// Adopt is a span.
func (s *store) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	return spanned(ctx, s, "adopt", req.LockID, func(ctx context.Context) (*driver.Lease, error) { return s.Driver.Adopt(ctx, req) })
}

// Evict is a span.
func (s *store) Evict(ctx context.Context, req *driver.EvictRequest) (*driver.Ended, error) {
	return spanned(ctx, s, "evict", req.LockID, func(ctx context.Context) (*driver.Ended, error) { return s.Driver.Evict(ctx, req) })
}

// Revoke is a span.
func (s *store) Revoke(ctx context.Context, req *driver.EvictRequest) (*driver.Holder, error) {
	return spanned(ctx, s, "revoke", req.LockID, func(ctx context.Context) (*driver.Holder, error) { return s.Driver.Revoke(ctx, req) })
}

// Inspect is a span.
func (s *store) Inspect(ctx context.Context, lockID string) (*driver.Lock, error) {
	return spanned(ctx, s, "inspect", lockID, func(ctx context.Context) (*driver.Lock, error) { return s.Driver.Inspect(ctx, lockID) })
}

// List is a span.
func (s *store) List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error) {
	return spanned(ctx, s, "list", "", func(ctx context.Context) (*driver.ListPage, error) { return s.Driver.List(ctx, req) })
}
