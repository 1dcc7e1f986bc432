package socket

import (
	"context"
	"errors"
	"io"
	"log/slog"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// renewalsKey is the request metadata (over HTTP, the header) by which a client
// asks to be told of each renewal.
const renewalsKey = "locksidecar-renewals"

// flushTimeout bounds how long the last events may take to go out.
const flushTimeout = time.Second

type holdStream = grpc.BidiStreamingServer[lockpb.HoldRequest, lockpb.HoldResponse]

// eventStream is what Hold and Drain have in common.
type eventStream interface {
	Context() context.Context
	Send(r *lockpb.HoldResponse) error
}

// Hold takes requests until its stream ends.
func (g lockService) Hold(stream holdStream) error {
	return g.s.serveStream(stream, func(ctx context.Context, h *hold) error { return h.receive(ctx, stream) })
}

// Drain takes one.
func (g adminService) Drain(in *lockpb.DrainRequest, stream grpc.ServerStreamingServer[lockpb.HoldResponse]) error {
	if err := g.s.fits(in); err != nil {
		return g.s.explain(err).status()
	}
	return g.s.serveStream(stream, func(ctx context.Context, h *hold) error {
		h.drainLock(ctx, in)
		h.halfClose()
		<-stream.Context().Done()
		return nil
	})
}

// serveStream runs one stream: a goroutine reads the requests, another sends the
// events, and this one waits for the end and decides what it means.
func (s *Server) serveStream(stream eventStream, receive func(context.Context, *hold) error) error {
	c := connOf(stream.Context())
	// The first cause counts: a broken connection tells its followers before
	// the transport cancels the streams, and a cancelled stream ends before its
	// connection does.
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer c.follow(func() { cancel(errBroken) })()

	h, err := s.openHold(c, asksRenewals(metadata.ValueFromIncomingContext(ctx, renewalsKey)))
	if err != nil {
		return s.explain(err).status()
	}
	received := make(chan error, 1)
	sent := make(chan struct{})
	last := make(chan struct{})
	s.running.Go(func() { received <- receive(ctx, h) })
	s.running.Go(func() {
		defer close(sent)
		h.send(last, stream)
	})
	// finish lets what was told go out before the result.
	finish := func(cause, result error) error {
		h.end(cause)
		close(last)
		timer := time.NewTimer(flushTimeout)
		defer timer.Stop()
		select {
		case <-sent:
		case <-ctx.Done():
		case <-timer.C:
			_ = c.Close()
		}
		return result
	}
	// leave does not: nobody listens.
	leave := func(cause error) error {
		h.end(cause)
		close(last)
		return s.explain(context.Canceled).status()
	}
	select {
	case <-ctx.Done():
		return leave(c.cancelled(context.Cause(ctx)))
	case <-h.life.over():
		return leave(errBroken)
	case err := <-received:
		if stream.Context().Err() != nil {
			// The reader may see the end before it has come down to ctx.
			<-ctx.Done()
			return leave(c.cancelled(context.Cause(ctx)))
		}
		// Bytes that are no request: whoever sent them did not ask for an end.
		return finish(errCut, err)
	case <-h.outbox.full:
		// The stream's own end would wait behind what is not read.
		s.log.write(slog.LevelWarn, "a peer does not read its events, its connection is closed", driver.LogPID, c.peer.PID, driver.LogUID, c.peer.UID)
		_ = c.Close()
		return leave(errCut)
	case <-h.idle:
		return finish(nil, nil)
	case <-s.drain.Done():
		return finish(s.drained(), s.explain(context.Cause(s.drain)).status())
	}
}

func asksRenewals(values []string) bool {
	return len(values) > 0 && values[0] == "1"
}

// receive passes the requests on until the stream ends. A half-close is not
// the end.
func (h *hold) receive(ctx context.Context, stream holdStream) error {
	for {
		in, err := stream.Recv()
		if errors.Is(err, io.EOF) {
			h.halfClose()
			<-stream.Context().Done()
			return nil
		}
		if err != nil {
			return err
		}
		if err := h.s.fits(in); err != nil {
			h.fail(requestOf(in), "", err)
			continue
		}
		switch r := in.GetRequest().(type) {
		case *lockpb.HoldRequest_Acquire:
			h.acquire(ctx, r.Acquire)
		case *lockpb.HoldRequest_Release:
			h.release(r.Release)
		case *lockpb.HoldRequest_Adopt:
			h.adopt(ctx, r.Adopt)
		default:
			h.fail("", "", &backend.InvalidError{Field: "request", Reason: "is missing", Limits: "acquire, release or adopt"})
		}
	}
}

// requestOf is the id under which a request is answered.
func requestOf(in *lockpb.HoldRequest) string {
	return in.GetAcquire().GetRequestId() + in.GetRelease().GetRequestId() + in.GetAdopt().GetRequestId()
}

// send sends the events as they come, until last is closed and none is left or
// the stream takes no more.
func (h *hold) send(last <-chan struct{}, stream eventStream) {
	var events []renew.Event
	for over := false; !over; {
		select {
		case <-h.outbox.ready:
		case <-last:
			over = true
		}
		for events = h.outbox.take(events); len(events) > 0; events = h.outbox.take(events) {
			for i := range events {
				if err := stream.Send(h.response(&events[i])); err != nil {
					return
				}
			}
		}
	}
}
