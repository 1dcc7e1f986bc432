package redis

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"strconv"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Acquire makes one attempt.
func (s *Store) Acquire(ctx context.Context, req *driver.AcquireRequest) (*driver.AcquireResult, error) {
	if err := s.initialised(ctx); err != nil {
		return nil, err
	}
	c, err := s.acquiring(acquireScript, req)
	if err != nil {
		return nil, err
	}
	c, reply, err := s.do(ctx, c, req.RequestID)
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
	var c *call
	if err == nil {
		c, err = s.acquiring(acquireScript, req)
	}
	if err != nil {
		done(nil, err)
		return
	}
	c.ctx, c.done = ctx, func(c *call, reply []any, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(s.acquired(req, c, reply))
	}
	s.submit(c, false)
}

func (s *Store) acquiring(sc *script, req *driver.AcquireRequest) (*call, error) {
	metadata := ""
	if len(req.Metadata) > 0 {
		raw, err := json.Marshal(req.Metadata) // escapes the control characters that separate fields
		if err != nil {
			return nil, fmt.Errorf("metadata: %w: %w", driver.ErrInvalid, err)
		}
		metadata = string(raw)
	}
	return s.one(sc, req.LockID, req.LockID, req.RequestID, requestHash(req.RequestID), req.OwnerID, string(req.Key),
		decimal(s.ttl(req.TTL).Microseconds()), modes(req), decimal(req.PlaceTTL.Microseconds()), decimal(req.TokenFloor), metadata,
		attemptHash(req.RequestID, req.Key)), nil
}

// modes are four digits: shared, reentrant, enqueue, and the priority.
func modes(req *driver.AcquireRequest) string {
	if !req.Shared && !req.Reentrant && req.Enqueue && req.Priority == 0 {
		return "0010"
	}
	return flag(req.Shared) + flag(req.Reentrant) + flag(req.Enqueue) + decimal(int64(req.Priority))
}

func decimal(n int64) string { return strconv.FormatInt(n, 10) }

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
	if token := r.integer(0); token > 0 { // the common case: the rest is as it was asked for
		ttl := s.ttl(req.TTL)
		return &driver.AcquireResult{Lease: &driver.Lease{
			LockID: lockID, OwnerID: req.OwnerID, Token: token, Shared: req.Shared, Holds: []string{req.RequestID}, Attach: 1,
			TTL: ttl, Remaining: ttl, Origin: sent, ExpiresAt: time.UnixMicro(c.now).Add(ttl), Metadata: maps.Clone(req.Metadata),
		}}, nil
	}
	switch r.text(0) {
	case "lease":
		l, err := s.lease(lockID, r, sent)
		if err != nil {
			return nil, err
		}
		evicted, err := ended(lockID, r.text(10))
		return &driver.AcquireResult{Lease: l, Evicted: evicted, Ticket: r.integer(11)}, err
	case "queued":
		holders, err := parseHolders(r.text(4), r.integer(5))
		if err != nil {
			return nil, err
		}
		evicted, err := ended(lockID, r.text(6))
		res := &driver.AcquireResult{
			Position: int(r.integer(1)), QueueLength: int(r.integer(2)), Ticket: r.integer(7),
			RetryAfter: time.Duration(r.integer(3)) * time.Microsecond, Evicted: evicted,
		}
		if len(holders) > 0 {
			res.Holder = &holders[0]
		}
		if len(r) > 8 { // it queues, and nothing is granted for now
			var known *driver.QuarantineError
			if q := s.quarantined(c, lockID, r.text(8), r.integer(5)); !errors.As(q, &known) {
				return nil, q
			}
		}
		return res, err
	case "sealed":
		return nil, s.quarantined(c, lockID, r.text(1), r.integer(2))
	}
	return nil, s.refusal(r, 0)
}
