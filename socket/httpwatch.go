package socket

import (
	"context"
	"log/slog"
	"net/http"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// watchParameters are the query's.
var watchParameters = []string{"prefix", "after"}

// serveEvents answers with one event a line, until the client leaves or the
// server stops. Between the lines a blank goes out every 5 s, as in serveHold; a
// client that does not read loses the connection.
func (s *Server) serveEvents(w http.ResponseWriter, r *http.Request, c *conn) {
	values, err := parameters(r.URL.RawQuery, watchParameters)
	if err != nil {
		s.writeError(w, err)
		return
	}
	if err := c.quota.call(); err != nil {
		s.writeError(w, err)
		return
	}
	defer c.quota.hangUp()
	sub, done, err := s.subscribe(&lockpb.WatchRequest{Prefix: values.Get("prefix"), After: values.Get("after")})
	if err != nil {
		s.writeError(w, err)
		return
	}
	defer done()
	ctx, cancel := context.WithCancel(r.Context())
	defer cancel()
	w.Header().Set(cursorKey, sub.Cursor())
	out := &eventWriter{s: s, w: w, rc: http.NewResponseController(w)}
	defer out.limit(time.Time{}) // the connection may carry further requests
	defer context.AfterFunc(s.drain, func() {
		cancel()
		out.limit(time.Now().Add(flushTimeout)) // nor is a stop held up
	})()
	if err := out.heading(); err != nil {
		return
	}
	var silent time.Duration
	for {
		wait, stop := context.WithTimeout(ctx, s.pulse.period)
		events, err := sub.Next(wait)
		stop()
		switch {
		case ctx.Err() != nil:
			return
		case err != nil: // nothing came for a while
			if silent += s.pulse.period; unread(c.Conn) <= 0 {
				silent = 0
			}
			if silent > s.pulse.timeout {
				_ = c.Close()
				return
			}
			err = out.blank()
		default:
			err = out.lines(s.visible(c, events))
		}
		if err != nil {
			_ = c.Close() // it does not read: what was begun cannot be ended
			return
		}
	}
}

// heading sends the head of the answer at once.
func (o *eventWriter) heading() error {
	o.limit(time.Now().Add(o.s.pulse.timeout))
	o.begin()
	return o.rc.Flush()
}

// lines writes events of the log.
func (o *eventWriter) lines(events []*lockpb.Event) error {
	o.limit(time.Now().Add(o.s.pulse.timeout))
	for _, e := range events {
		line, err := encode(whole, e)
		if err != nil {
			o.s.log.write(slog.LevelError, "an event could not be encoded", driver.LogError, err)
			return err
		}
		if _, err := o.w.Write(line); err != nil {
			return err
		}
	}
	return o.rc.Flush()
}
