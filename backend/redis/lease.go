package redis

import (
	"context"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxRenewals bounds one pipeline of renewals, so that no script of another
// lock waits long for its end.
const maxRenewals = 128

// Renew prolongs a lease.
func (s *Store) Renew(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	c, reply, err := s.do(ctx, s.urgent(renewScript, req.LockID, s.prolongArgs(req)...), "")
	if err != nil {
		return nil, err
	}
	return s.prolonged(req, reply, c.sent)
}

// Adopt attaches the caller to a lease.
func (s *Store) Adopt(ctx context.Context, req *driver.RenewRequest) (*driver.Lease, error) {
	if err := s.initialised(ctx); err != nil {
		return nil, err
	}
	c, reply, err := s.do(ctx, s.urgent(adoptScript, req.LockID, s.prolongArgs(req)...), "")
	if err != nil {
		return nil, err
	}
	if r := fields(reply); r.text(0) == "sealed" {
		return nil, s.quarantined(c, req.LockID, r.text(1), r.integer(2))
	}
	return s.prolonged(req, reply, c.sent)
}

func (s *Store) prolongArgs(req *driver.RenewRequest) []any {
	return []any{string(req.Key), req.Token, req.Attach, s.ttl(req.TTL).Microseconds()}
}

func (s *Store) prolonged(req *driver.RenewRequest, reply []any, sent driver.Instant) (*driver.Lease, error) {
	if r := fields(reply); r.text(0) != "lease" {
		return nil, s.refusal(r, req.Token)
	}
	return s.lease(req.LockID, fields(reply), sent)
}

// RenewMany renews leases in a few pipelines. A deadline of ctx ends it: whoever
// waits for a reply that is lost could not try again while the lease stands.
func (s *Store) RenewMany(ctx context.Context, reqs []driver.RenewRequest) []driver.RenewResult {
	results := make([]driver.RenewResult, len(reqs))
	if err := s.check(ctx); err != nil {
		for i := range results {
			results[i].Err = err
		}
		return results
	}
	calls := make([]*call, len(reqs))
	for i := range reqs {
		req, result := &reqs[i], &results[i]
		c := s.urgent(renewScript, req.LockID, s.prolongArgs(req)...)
		c.ctx, c.done = ctx, func(c *call, reply []any, err error) {
			if err == nil {
				result.Lease, err = s.prolonged(req, reply, c.sent)
			}
			result.Err = err
		}
		calls[i] = c
	}
	s.run(ctx, calls, maxRenewals)
	return results
}

// Release ends one hold.
func (s *Store) Release(ctx context.Context, req *driver.ReleaseRequest) (*driver.ReleaseResult, error) {
	_, reply, err := s.do(ctx, s.releasing(releaseScript, req), "")
	if err != nil {
		return nil, err
	}
	return s.released(req, reply)
}

// ReleaseAsync ends one hold; done is called by the lane.
func (s *Store) ReleaseAsync(ctx context.Context, req *driver.ReleaseRequest, done func(*driver.ReleaseResult, error)) {
	if err := s.check(ctx); err != nil {
		done(nil, err)
		return
	}
	c := s.releasing(releaseScript, req)
	c.ctx, c.done = ctx, func(_ *call, reply []any, err error) {
		if err != nil {
			done(nil, err)
			return
		}
		done(s.released(req, reply))
	}
	s.submit(c, false)
}

func (s *Store) releasing(sc *script, req *driver.ReleaseRequest) *call {
	return s.one(sc, req.LockID, req.LockID, string(req.Key), decimal(req.Token), decimal(req.Attach), req.RequestID,
		requestHash(req.RequestID), attemptHash(req.RequestID, req.Key))
}

func (s *Store) released(req *driver.ReleaseRequest, reply []any) (*driver.ReleaseResult, error) {
	r := fields(reply)
	if common, ok := strings.CutPrefix(r.text(0), fieldSeparator); ok { // the common case: its only hold
		mode, owner, _ := strings.Cut(common, fieldSeparator)
		return &driver.ReleaseResult{OwnerID: owner, Shared: mode == "s"}, nil
	}
	if r.text(0) != "released" {
		return nil, s.refusal(r, req.Token)
	}
	return &driver.ReleaseResult{HoldCount: int(r.integer(1)), OwnerID: r.text(2), Shared: r.integer(3) == 1}, nil
}

// Leave drops a place or an undelivered grant, once no acquire of the request is
// on its way.
func (s *Store) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	if err := s.abandoned.wait(ctx, req.RequestID); err != nil {
		return err
	}
	_, reply, err := s.do(ctx, s.call(leaveScript, req.LockID, req.RequestID, attemptHash(req.RequestID, req.Key),
		string(req.Key), requestHash(req.RequestID)), "")
	if err != nil {
		return err
	}
	if r := fields(reply); r.text(0) != "left" {
		return s.refusal(r, 0)
	}
	return nil
}
