package main

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

type holdStream = grpc.BidiStreamingClient[lockpb.HoldRequest, lockpb.HoldResponse]

// held is a lease held over a Hold stream. When the stream breaks, the lease is
// adopted on a new one.
type held struct {
	cl     *client.Client
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu         sync.Mutex
	stream     holdStream
	current    *lockpb.Lease
	validUntil driver.Instant
	lost       string
	released   chan error
}

// open starts a stream that also tells of renewals.
func open(ctx context.Context, cl *client.Client, first *lockpb.HoldRequest) (holdStream, error) {
	s, err := cl.Hold(metadata.AppendToOutgoingContext(ctx, "locksidecar-renewals", "1"))
	if err != nil {
		return nil, err
	}
	if err := s.Send(first); err != nil {
		_, err = s.Recv() // it says why
		return nil, err
	}
	return s, nil
}

// take acquires the lock and keeps its lease. The wait ends with ctx.
func take(ctx context.Context, cl *client.Client, req *lockpb.AcquireRequest) (*held, error) {
	req.Linger = true // the command may outlive this process
	if req.RequestId == "" {
		req.RequestId = backend.NewSecret()
	}
	h := &held{cl: cl, done: make(chan struct{}), released: make(chan error, 1)}
	h.ctx, h.cancel = background()
	stop := context.AfterFunc(ctx, h.cancel)
	s, err := open(h.ctx, cl, &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: req}})
	for err == nil && h.current == nil {
		var r *lockpb.HoldResponse
		if r, err = s.Recv(); err != nil {
			break
		}
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Granted:
			h.renewed(e.Granted)
		case *lockpb.HoldResponse_Error:
			err = status.FromProto(statusOf(e.Error)).Err()
		case *lockpb.HoldResponse_Lost:
			err = fmt.Errorf("the lease was lost (%s) as it was granted", e.Lost.GetReason())
		}
	}
	if err != nil || !stop() {
		h.cancel()
		if err == nil {
			err = ctx.Err()
		}
		return nil, err
	}
	h.stream = s
	go h.follow(s)
	return h, nil
}

func (h *held) renewed(l *lockpb.Lease) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.current = l
	h.validUntil = max(h.validUntil, driver.Instant(l.GetValidUntilBoottimeNs()))
}

func (h *held) lease() *lockpb.Lease {
	h.mu.Lock()
	defer h.mu.Unlock()
	return h.current
}

// left is the time for which the lease may be relied on, and whether it is
// already lost.
func (h *held) left() (time.Duration, bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	left := h.validUntil.Sub(driver.BootClock.Now())
	return left, h.lost != "" || left <= 0
}

func (h *held) reason() string {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == "" {
		return "not renewed in time"
	}
	return h.lost
}

// follow reads events until the stream's last one, over new streams if it
// breaks.
func (h *held) follow(s holdStream) {
	defer close(h.done)
	for s != nil {
		r, err := s.Recv()
		if err != nil {
			s = h.adopt()
			continue
		}
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Granted:
			h.renewed(e.Granted)
		case *lockpb.HoldResponse_Renewed:
			h.renewed(e.Renewed)
		case *lockpb.HoldResponse_Lost:
			h.lose(e.Lost.GetReason())
		case *lockpb.HoldResponse_Released:
			h.answer(nil)
		case *lockpb.HoldResponse_Error:
			err := status.FromProto(statusOf(e.Error)).Err()
			if reason, _ := client.Reason(err); reason == "LEASE_LOST" || reason == "NOT_OWNER" || reason == "STALE_TOKEN" {
				h.lose(reason)
			}
			h.answer(err)
		}
	}
}

func (h *held) lose(reason string) {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.lost == "" {
		h.lost = reason
	}
}

func (h *held) answer(err error) {
	select {
	case h.released <- err:
	default:
	}
}

// adoptPause is between two attempts to reach the sidecar again.
const adoptPause = 100 * time.Millisecond

// adopt attaches the lease to a new stream, as long as it stands.
func (h *held) adopt() holdStream {
	for {
		if left, lost := h.left(); lost || left <= 0 || h.ctx.Err() != nil {
			return nil
		}
		l := h.lease()
		s, err := open(h.ctx, h.cl, &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
			LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
			Ttl: l.GetTtl(), Linger: true,
		}}})
		if err == nil {
			h.mu.Lock()
			h.stream = s
			h.mu.Unlock()
			return s
		}
		t := time.NewTimer(adoptPause)
		select {
		case <-t.C:
		case <-h.ctx.Done():
		}
		t.Stop()
	}
}

// release gives the lease back, or acknowledges that it was revoked.
func (h *held) release() error {
	h.mu.Lock()
	s, l := h.stream, h.current
	h.mu.Unlock()
	err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: &lockpb.ReleaseRequest{
		LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
	}}})
	if err == nil {
		t := time.NewTimer(releaseTimeout)
		defer t.Stop()
		select {
		case err = <-h.released:
			return err
		case <-h.done:
			err = errors.New("the stream ended")
		case <-t.C:
			err = status.Error(codes.DeadlineExceeded, "no answer")
		}
	}
	// The stream is gone: the same by a call of its own.
	ctx, cancel := client.Deadline(context.WithoutCancel(h.ctx))
	defer cancel()
	if _, unary := h.cl.Release(ctx, &lockpb.ReleaseRequest{
		LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
	}); unary != nil {
		return errors.Join(err, unary)
	}
	return nil
}

// close ends the stream and waits for its reader.
func (h *held) close() {
	h.cancel()
	<-h.done
}
