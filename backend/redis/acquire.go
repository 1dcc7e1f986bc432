package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire makes one attempt.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := s.initialised(ctx); err != nil {
		return nil, err
	}
	argv, err := s.acquireArgs(req)
	if err != nil {
		return nil, err
	}
	c, reply, err := s.do(ctx, s.call(acquireScript, req.LockID, argv...), req.RequestID)
	if err != nil {
		return nil, err
	}
	return s.acquired(req, c, reply)
}

// AcquireAsync makes one attempt; done is called by the lane.
func (s *Store) AcquireAsync(ctx context.Context, req *driver.AcquireRequest, done func(*driver.AcquireResult, error)) {
	if !s.fresh.settled(s) {
		go func() { done(s.Acquire(ctx, req)) }() // it ends with the call
		return
	}
	err := s.check(ctx)
	var argv []any
	if err == nil {
		argv, err = s.acquireArgs(req)
	}
	if err != nil {
		done(nil, err)
		return
	}
	c := s.call(acquireScript, req.LockID, argv...)
	c.ctx, c.done = ctx, func(c *call, reply []any, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(s.acquired(req, c, reply))
	}
	s.submit(c, false)
}

func (s *Store) acquireArgs(req *driver.AcquireRequest) ([]any, error) {
	metadata := ""
	if len(req.Metadata) > 0 {
		raw, err := json.Marshal(req.Metadata) // escapes the control characters that separate fields
		if err != nil {
			return nil, fmt.Errorf("metadata: %w: %w", driver.ErrInvalid, err)
		}
		metadata = string(raw)
	}
	return []any{
		req.RequestID, requestHash(req.RequestID), req.OwnerID, string(req.Key), s.ttl(req.TTL).Microseconds(),
		flag(req.Shared), flag(req.Reentrant), flag(req.Enqueue), req.Priority * driver.PriorityStep, req.Priority,
		req.PlaceTTL.Microseconds(), req.TokenFloor, metadata, s.inbox, s.o.Poll.Microseconds(),
		attemptHash(req.RequestID, req.Key),
	}, nil
}

// ttl is the one that a lease gets: whole µs, rounded up.
func (s *Store) ttl(asked time.Duration) time.Duration {
	return (max(asked, s.o.MinTTL) + time.Microsecond - 1).Truncate(time.Microsecond)
}

func flag(b bool) string {
	if b {
		return "1"
	}
	return "0"
}

func (s *Store) acquired(req *driver.AcquireRequest, c *call, reply []any) (*driver.AcquireResult, error) {
	r, lockID, sent := fields(reply), req.LockID, c.sent
	switch r.text(0) {
	case "granted": // the common case: the rest is as it was asked for
		expires := r.integer(2)
		return &driver.AcquireResult{Lease: &driver.Lease{
			LockID: lockID, OwnerID: req.OwnerID, Token: r.integer(1), Shared: req.Shared, Holds: []string{req.RequestID}, Attach: 1,
			TTL: s.ttl(req.TTL), Remaining: time.Duration(expires-r.integer(3)) * time.Microsecond, Origin: sent,
			ExpiresAt: time.UnixMicro(expires), Metadata: maps.Clone(req.Metadata),
		}}, nil
	case "lease":
		l, err := s.lease(lockID, r, sent)
		if err != nil {
			return nil, err
		}
		evicted, err := ended(lockID, r.text(10))
		return &driver.AcquireResult{Lease: l, Evicted: evicted}, err
	case "queued":
		holders, err := parseHolders(r.text(4), r.integer(5))
		if err != nil {
			return nil, err
		}
		evicted, err := ended(lockID, r.text(6))
		res := &driver.AcquireResult{
			Position: int(r.integer(1)), QueueLength: int(r.integer(2)),
			RetryAfter: time.Duration(r.integer(3)) * time.Microsecond, Evicted: evicted,
		}
		if len(holders) > 0 {
			res.Holder = &holders[0]
		}
		if len(r) > 7 { // it queues, and nothing is granted for now
			var known *driver.QuarantineError
			if q := s.quarantined(c, lockID, r.text(7), r.integer(5)); !errors.As(q, &known) {
				return nil, q
			}
		}
		return res, err
	case "sealed":
		return nil, s.quarantined(c, lockID, r.text(1), r.integer(2))
	}
	return nil, s.refusal(r, 0)
}
