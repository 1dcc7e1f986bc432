package client

import (
	"context"
	"fmt"
	"sync"
	"time"

	spb "google.golang.org/genproto/googleapis/rpc/status"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

type holdStream = grpc.BidiStreamingClient[lockpb.HoldRequest, lockpb.HoldResponse]

// Held is a lease held over a Hold stream. When the stream breaks, the lease is
// adopted on a new one.
type Held struct {
	*Tenure
	c      *Client
	ctx    context.Context
	cancel context.CancelFunc
	done   chan struct{}

	mu        sync.Mutex
	stream    holdStream
	releasing bool
	released  chan error
}

// Take acquires a lock, persistently, and keeps its lease. The wait ends with
// ctx. queued, which may be nil, is told the position in the queue.
func Take(ctx context.Context, c *Client, req *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (*Held, error) {
	req.Linger = true // the command may outlive this process
	var h *Held
	err := Persist(ctx, req, func(ctx context.Context, req *lockpb.AcquireRequest) (bool, error) {
		waited := false
		var err error
		h, err = take(ctx, c, req, func(q *lockpb.Queued) {
			waited = true
			if queued != nil {
				queued(q)
			}
		})
		return waited, err
	})
	return h, err
}

func take(ctx context.Context, c *Client, req *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (*Held, error) {
	h := &Held{Tenure: newTenure(), c: c, done: make(chan struct{}), released: make(chan error, 1)}
	// The lease outlives the wait: its stream has a context of its own.
	h.ctx, h.cancel = context.WithCancel(context.WithoutCancel(ctx))
	stop := context.AfterFunc(ctx, h.cancel)
	s, err := h.open(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: req}})
	for err == nil && h.Lease() == nil {
		var r *lockpb.HoldResponse
		if r, err = s.Recv(); err != nil {
			break
		}
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Queued:
			queued(e.Queued)
		case *lockpb.HoldResponse_Granted:
			h.Renewed(e.Granted)
		case *lockpb.HoldResponse_Error:
			err = ErrorOf(e.Error)
		case *lockpb.HoldResponse_Lost:
			err = fmt.Errorf("the lease was lost (%s) as it was granted", e.Lost.GetReason())
		}
	}
	if err == nil && !stop() {
		err = context.Cause(ctx) // the cancelled stream releases the grant
	}
	if err != nil {
		h.cancel()
		return nil, err
	}
	h.stream = s
	go h.follow(s)
	return h, nil
}

// ErrorOf is the API's Error, a google.rpc.Status field for field, as an error.
func ErrorOf(e *lockpb.Error) error {
	return status.FromProto(&spb.Status{Code: e.GetCode(), Message: e.GetMessage(), Details: e.GetDetails()}).Err()
}

// open starts a stream that also tells of renewals.
func (h *Held) open(first *lockpb.HoldRequest) (holdStream, error) {
	s, err := h.c.Hold(metadata.AppendToOutgoingContext(h.ctx, "locksidecar-renewals", "1"))
	if err != nil {
		return nil, err
	}
	if err := s.Send(first); err != nil {
		_, err = s.Recv() // it says why
		return nil, err
	}
	return s, nil
}

// follow reads events until the last one, over new streams if one breaks.
func (h *Held) follow(s holdStream) {
	defer close(h.done)
	for s != nil {
		r, err := s.Recv()
		if err != nil {
			// Also a sidecar that stops: it leaves what lingers to the next one.
			s = h.adopt()
			continue
		}
		switch e := r.GetEvent().(type) {
		case *lockpb.HoldResponse_Granted:
			h.Renewed(e.Granted)
		case *lockpb.HoldResponse_Renewed:
			h.Renewed(e.Renewed)
		case *lockpb.HoldResponse_Lost:
			h.Lose(e.Lost.GetReason())
		case *lockpb.HoldResponse_Released:
			h.answer(nil)
		case *lockpb.HoldResponse_Error:
			if err := ErrorOf(e.Error); !h.answer(err) {
				s = h.refused(err) // the adopt was
			}
		}
	}
}

// answer hands the outcome of a release over; it reports false if none was
// asked for.
func (h *Held) answer(err error) bool {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.releasing {
		select {
		case h.released <- err:
		default:
		}
	}
	return h.releasing
}

// refused takes the answer to an adopt: either the lease does not stand any
// more, or it is tried again.
func (h *Held) refused(err error) holdStream {
	if Gone(err) {
		reason, info := Reason(err)
		if info["cause"] != "" {
			reason = info["cause"]
		}
		h.Lose(reason)
		return nil
	}
	return h.adopt()
}

// Gone reports whether the sidecar said that the lease is not the caller's any
// more.
func Gone(err error) bool {
	reason, _ := Reason(err)
	return reason == "LEASE_LOST" || reason == "NOT_OWNER" || reason == "STALE_TOKEN"
}

// adoptPause is between two attempts to reach the sidecar again.
const adoptPause = 100 * time.Millisecond

// adopt attaches the lease to a new stream, as long as it stands and nobody
// releases it.
func (h *Held) adopt() holdStream {
	for {
		t := time.NewTimer(adoptPause)
		select {
		case <-t.C:
		case <-h.ctx.Done():
		case <-h.Lost():
		}
		t.Stop()
		if h.Left() <= 0 || h.Reason() != "" || h.ctx.Err() != nil {
			return nil
		}
		l := h.Lease()
		s, err := h.open(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
			LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
			Ttl: l.GetTtl(), Linger: true,
		}}})
		if err != nil {
			continue
		}
		h.mu.Lock()
		if h.releasing {
			s = nil // the release goes its own way
		}
		h.stream = s
		h.mu.Unlock()
		return s
	}
}

// Release gives the lease back, or acknowledges that it was revoked. ctx bounds
// it.
func (h *Held) Release(ctx context.Context) error {
	l := h.Lease()
	req := &lockpb.ReleaseRequest{
		LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(),
	}
	h.mu.Lock()
	s := h.stream
	h.releasing = true
	h.mu.Unlock()
	if s != nil && s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: req}}) == nil {
		select {
		case err := <-h.released:
			return err
		case <-h.done: // the stream broke
		case <-ctx.Done():
			return fmt.Errorf("the sidecar did not answer: %w", ctx.Err())
		}
	}
	// The same by a call of its own.
	_, err := h.c.Release(ctx, req)
	return err
}

// Close ends the stream, which releases what is still held on it, and waits for
// its reader. A holder that must not release leaves it open and ends: the lease
// then ends by its time.
func (h *Held) Close() {
	h.cancel()
	<-h.done
}
