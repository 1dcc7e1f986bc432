package socket

import (
	"context"
	"encoding/json"
	"log/slog"
	"net/http"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// decodeStream reads what a request for a stream asks of it.
var decodeStream = map[string]func(lockID string, body []byte) (func(context.Context, *hold), error){
	lockpb.LockService_Hold_FullMethodName:   decodeHold,
	lockpb.AdminService_Drain_FullMethodName: decodeDrain,
}

// serveHold answers :hold and :drain with one event a line, until its one lock is lost or
// released or the client leaves. Between the lines a blank goes out every 5 s,
// which JSON allows; a client that does not read them is silent, and loses the
// connection as a silent gRPC client does.
func (s *Server) serveHold(w http.ResponseWriter, r *http.Request, c *conn, decode func(string, []byte) (func(context.Context, *hold), error), lockID string, body []byte) {
	ask, err := decode(lockID, body)
	if err != nil {
		s.writeError(w, err)
		return
	}
	ctx, cancel := context.WithCancelCause(r.Context())
	defer cancel(nil)
	defer c.follow(func() { cancel(errBroken) })()
	h, err := s.openHold(c, r.Header.Get(renewalsKey) == "1")
	if err != nil {
		s.writeError(w, err)
		return
	}
	cause := errBroken
	defer func() { h.end(cause) }()
	ask(ctx, h)
	h.halfClose()
	out := &eventWriter{s: s, h: h, w: w, rc: http.NewResponseController(w)}
	defer out.limit(time.Time{}) // the connection may carry further requests

	ticker := time.NewTicker(s.pulse.period)
	defer ticker.Stop()
	var silent time.Duration
	for {
		select {
		case <-h.outbox.ready:
			if err := out.flush(); err != nil {
				return
			}
		case <-h.idle:
			if err := out.flush(); err != nil {
				return
			}
			cause = nil
			return
		case <-ticker.C:
			if silent += s.pulse.period; unread(c.Conn) <= 0 {
				silent = 0
			}
			if silent > s.pulse.timeout {
				_ = c.Close()
				return
			}
			if err := out.blank(); err != nil {
				return
			}
		case <-h.outbox.full:
			_ = c.Close()
			return
		case <-h.life.over():
			return
		case <-ctx.Done():
			return
		case <-s.drain.Done():
			cause = s.drained()
			out.put(&renew.Event{Kind: renew.Failed, RequestID: out.requestID, LockID: lockID, Err: context.Cause(s.drain)})
			return
		}
	}
}

// decodeHold reads the body of a :hold: an acquire, or {"adopt": {…}}.
func decodeHold(lockID string, body []byte) (func(context.Context, *hold), error) {
	var outer map[string]json.RawMessage
	if json.Unmarshal(body, &outer) == nil && outer["adopt"] != nil {
		request := &lockpb.HoldRequest{}
		if err := decode(body, request); err != nil {
			return nil, err
		}
		adopt := request.GetAdopt()
		if adopt == nil {
			adopt = &lockpb.AdoptRequest{}
		}
		return func(ctx context.Context, h *hold) { h.adopt(ctx, adopt) }, decodeFor(lockID, nil, adopt, &adopt.LockId)
	}
	acquire := &lockpb.AcquireRequest{}
	return func(ctx context.Context, h *hold) { h.acquire(ctx, acquire) }, decodeFor(lockID, body, acquire, &acquire.LockId)
}

// decodeDrain reads the body of a :drain.
func decodeDrain(lockID string, body []byte) (func(context.Context, *hold), error) {
	in := &lockpb.DrainRequest{}
	return func(ctx context.Context, h *hold) { h.drainLock(ctx, in) }, decodeFor(lockID, body, in, &in.LockId)
}

// eventWriter writes the events of a hold. If the first one is a failure, it
// decides the status of the answer, as without :hold.
type eventWriter struct {
	s         *Server
	h         *hold
	w         http.ResponseWriter
	rc        *http.ResponseController
	began     bool
	requestID string
	events    []renew.Event
}

// flush writes what waits in the outbox.
func (o *eventWriter) flush() error {
	o.limit(time.Now().Add(o.s.pulse.timeout))
	for o.events = o.h.outbox.take(o.events); len(o.events) > 0; o.events = o.h.outbox.take(o.events) {
		for i := range o.events {
			if err := o.write(&o.events[i]); err != nil {
				return err
			}
		}
	}
	return o.rc.Flush()
}

// put writes one event, as the last one.
func (o *eventWriter) put(e *renew.Event) {
	o.limit(time.Now().Add(flushTimeout))
	if o.write(e) == nil {
		_ = o.rc.Flush()
	}
}

func (o *eventWriter) write(e *renew.Event) error {
	o.requestID = e.RequestID
	if !o.began && e.Kind == renew.Failed {
		o.began = true
		o.s.writeError(o.w, &requestError{e.Err, e.RequestID})
		return nil
	}
	line, err := encode(whole, o.h.response(e))
	if err != nil {
		o.s.log.write(slog.LevelError, "an event could not be encoded", driver.LogError, err)
		return err
	}
	o.begin()
	_, err = o.w.Write(line)
	return err
}

// begin sends the head of the answer.
func (o *eventWriter) begin() {
	if !o.began {
		o.began = true
		o.w.Header().Set("Content-Type", "application/x-ndjson")
		o.w.WriteHeader(http.StatusOK)
	}
}

// blank writes what JSON ignores.
func (o *eventWriter) blank() error {
	o.limit(time.Now().Add(o.s.pulse.timeout))
	o.begin()
	if _, err := o.w.Write([]byte{' '}); err != nil {
		return err
	}
	return o.rc.Flush()
}

// limit bounds what is written from here on.
func (o *eventWriter) limit(deadline time.Time) { _ = o.rc.SetWriteDeadline(deadline) }
