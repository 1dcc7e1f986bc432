package socket

import (
	"fmt"
	"time"
	"unicode"
	"unicode/utf8"

	"google.golang.org/protobuf/types/known/durationpb"
	"google.golang.org/protobuf/types/known/timestamppb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// bounded reads a duration; unset means the default. atLeast is the least that
// an explicit value may be.
func bounded(field string, d *durationpb.Duration, unset, atLeast time.Duration) (time.Duration, error) {
	if d == nil {
		return unset, nil
	}
	v := d.AsDuration()
	if d.CheckValid() != nil || v < atLeast {
		limits := fmt.Sprintf("%v or more", atLeast)
		if atLeast == 1 {
			limits = "more than 0s; leave it out for the default"
		}
		return 0, &backend.InvalidError{Field: field, Reason: fmt.Sprintf("is %v", v), Limits: limits}
	}
	return v, nil
}

// acquireRequest reads a request. It has a request id afterwards.
func acquireRequest(in *lockpb.AcquireRequest) (*backend.AcquireRequest, error) {
	ttl, err := bounded("ttl", in.GetTtl(), 0, 1)
	if err != nil {
		return nil, err
	}
	wait, err := bounded("wait", in.GetWait(), backend.Forever, 0)
	if err != nil {
		return nil, err
	}
	req := &backend.AcquireRequest{
		LockID: in.GetLockId(), OwnerID: in.GetOwnerId(), RequestID: in.GetRequestId(), LeaseID: in.GetLeaseId(),
		TTL: ttl, Wait: wait, Shared: in.GetShared(), Reentrant: in.GetReentrant(),
		// A greater one is out of range anyway, and must not become negative.
		Priority: int(min(in.GetPriority(), 1<<16)), TokenFloor: in.GetTokenFloor(), Metadata: in.GetMetadata(),
	}
	if req.RequestID == "" {
		req.RequestID = backend.NewSecret()
	}
	return req, nil
}

func heldRequest(in *lockpb.AcquireRequest) (*renew.AcquireRequest, error) {
	maxHold, err := bounded("max_hold", in.GetMaxHold(), 0, 1)
	if err != nil {
		return nil, err
	}
	req, err := acquireRequest(in)
	if err != nil {
		return nil, err
	}
	return &renew.AcquireRequest{AcquireRequest: *req, MaxHold: maxHold, Linger: in.GetLinger()}, nil
}

// drainRequest reads an operator's drain. Each has an owner of its own: two drains
// are not one who waits for himself.
func (s *Server) drainRequest(in *lockpb.DrainRequest, operator string) (*renew.AcquireRequest, error) {
	if err := checkReason(in.GetReason(), s.quotas.limits.Reason); err != nil {
		return nil, err
	}
	req, err := heldRequest(&lockpb.AcquireRequest{
		LockId: in.GetLockId(), OwnerId: "drain-" + backend.NewSecret()[:8], Wait: in.GetWait(), MaxHold: in.GetMaxHold(), Priority: driver.MaxPriority,
		Metadata: map[string]string{"operator": operator, "reason": in.GetReason()},
	})
	if err != nil {
		return nil, err
	}
	req.Drain = &backend.Drain{Reason: in.GetReason(), By: operator}
	return req, nil
}

func adoptRequest(in *lockpb.AdoptRequest) (*renew.AdoptRequest, error) {
	ttl, err := bounded("ttl", in.GetTtl(), 0, 1)
	if err != nil {
		return nil, err
	}
	maxHold, err := bounded("max_hold", in.GetMaxHold(), 0, 1)
	if err != nil {
		return nil, err
	}
	req := &renew.AdoptRequest{
		LeaseRef:  backend.LeaseRef{LockID: in.GetLockId(), LeaseID: in.GetLeaseId(), Token: in.GetFencingToken()},
		RequestID: in.GetRequestId(), TTL: ttl, MaxHold: maxHold, Linger: in.GetLinger(),
	}
	if req.RequestID == "" {
		req.RequestID = backend.NewSecret()
	}
	return req, nil
}

func renewRequest(in *lockpb.RenewRequest) (*backend.RenewRequest, error) {
	ttl, err := bounded("ttl", in.GetTtl(), 0, 1)
	if err != nil {
		return nil, err
	}
	return &backend.RenewRequest{
		LeaseRef: backend.LeaseRef{LockID: in.GetLockId(), LeaseID: in.GetLeaseId(), Token: in.GetFencingToken()}, TTL: ttl,
	}, nil
}

func releaseRequest(in *lockpb.ReleaseRequest) *backend.ReleaseRequest {
	return &backend.ReleaseRequest{
		LeaseRef:  backend.LeaseRef{LockID: in.GetLockId(), LeaseID: in.GetLeaseId(), Token: in.GetFencingToken()},
		RequestID: in.GetRequestId(),
	}
}

// checkReason checks the reason of a force-release, which goes into the log.
func checkReason(reason string, most int) error {
	problem := ""
	switch {
	case reason == "":
		problem = "is missing"
	case len(reason) > most:
		problem = fmt.Sprintf("has %d bytes", len(reason))
	case !utf8.ValidString(reason):
		problem = "is not UTF-8"
	default:
		for _, r := range reason {
			if !unicode.IsPrint(r) {
				problem = "has a character that cannot be printed"
			}
		}
	}
	if problem == "" {
		return nil
	}
	return &backend.InvalidError{Field: "reason", Reason: problem, Limits: fmt.Sprintf("1 to %d bytes of printable UTF-8", most)}
}

// leaseMessage is a lease as its holder sees it now.
func leaseMessage(l *backend.Lease, now driver.Instant) *lockpb.Lease {
	return &lockpb.Lease{
		LockId: l.LockID, LeaseId: l.LeaseID, OwnerId: l.OwnerID, FencingToken: l.Token, Shared: l.Shared,
		HoldCount: count(len(l.Holds)), RequestId: l.RequestID, Ttl: durationpb.New(l.TTL),
		ValidFor: durationpb.New(validFor(l, now)), ValidUntilBoottimeNs: int64(l.ValidUntil),
		ExpiresAt: timestamp(l.ExpiresAt), Metadata: l.Metadata,
	}
}

func atRiskMessage(l *backend.Lease, now driver.Instant) *lockpb.AtRisk {
	return &lockpb.AtRisk{FencingToken: l.Token, ValidFor: durationpb.New(validFor(l, now)), ValidUntilBoottimeNs: int64(l.ValidUntil)}
}

func validFor(l *backend.Lease, now driver.Instant) time.Duration {
	return max(0, l.ValidUntil.Sub(now))
}

func timestamp(t time.Time) *timestamppb.Timestamp {
	if t.IsZero() {
		return nil
	}
	return timestamppb.New(t)
}

// count is a number of things as the API has it.
func count(n int) uint32 {
	return uint32(max(0, n)) //nolint:gosec // no such number comes near 2^32
}

func lockMessage(l *driver.Lock) *lockpb.Lock {
	m := &lockpb.Lock{LockId: l.LockID, FencingToken: l.Token, Backend: l.Backend}
	for i := range l.Holders {
		m.Holders = append(m.Holders, holderMessage(&l.Holders[i]))
	}
	for i := range l.Waiters {
		m.Waiters = append(m.Waiters, waiterMessage(&l.Waiters[i]))
	}
	return m
}

func waiterMessage(w *driver.Waiter) *lockpb.Waiter {
	return &lockpb.Waiter{OwnerId: w.OwnerID, Position: count(w.Position), Shared: w.Shared, Priority: count(w.Priority), Ticket: w.Ticket}
}

func holderMessage(h *driver.Holder) *lockpb.Holder {
	return &lockpb.Holder{
		OwnerId: h.OwnerID, FencingToken: h.Token, Shared: h.Shared, HoldCount: count(h.HoldCount),
		Ttl: durationpb.New(h.TTL), Remaining: durationpb.New(h.Remaining), ExpiresAt: timestamp(h.ExpiresAt),
		Revoked: h.Revoked, Metadata: h.Metadata, HeldSince: timestamp(heldSince(h.Token, time.Now())),
	}
}

// firstClockToken is in the year 2020: no sidecar read an earlier clock.
const firstClockToken = int64(1_577_836_800_000_000)

// heldSince is the moment that a token says it was made at; zero if it was not made
// from a clock that agrees with this one. See driver.NextToken.
func heldSince(token int64, now time.Time) time.Time {
	at := time.UnixMicro(token)
	if token < firstClockToken || at.After(now.Add(time.Minute)) {
		return time.Time{}
	}
	return at
}
