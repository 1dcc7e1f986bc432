package socket

import (
	"context"
	"fmt"
	"slices"

	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Events is what a Server needs of the log of events.
type Events interface {
	// Subscribe reads the events of the locks with the prefix that follow a
	// cursor.
	Subscribe(prefix, after string) (Subscription, error)
}

// Subscription is one reader of the events, used by one goroutine.
type Subscription interface {
	// Cursor is from where Next reads.
	Cursor() string
	// Next waits for events until ctx ends. It waits for nobody who is slow: what
	// is missing is told by an event.
	Next(ctx context.Context) ([]*lockpb.Event, error)
}

// cursorKey is the metadata (over HTTP, the header) that tells from where a
// stream starts, so that a client which has had no event yet can resume too.
const cursorKey = "locksidecar-cursor"

// maxWatchers bounds the streams of events at a time.
const maxWatchers = 256

// subscribe starts a stream of events; done is to be called at its end.
func (s *Server) subscribe(in *lockpb.WatchRequest) (sub Subscription, done func(), err error) {
	if s.o.Events == nil {
		return nil, nil, fmt.Errorf("events are %w", driver.ErrUnsupported)
	}
	if s.drain.Err() != nil {
		return nil, nil, errDraining
	}
	sub, err = s.o.Events.Subscribe(in.GetPrefix(), in.GetAfter())
	if err != nil {
		return nil, nil, err
	}
	if s.watchers.Add(1) > maxWatchers {
		s.watchers.Add(-1)
		return nil, nil, &limitError{"event streams", maxWatchers}
	}
	return sub, func() { s.watchers.Add(-1) }, nil
}

// visible are the events of the locks that the peer may inspect now.
func (s *Server) visible(c *conn, events []*lockpb.Event) []*lockpb.Event {
	return slices.DeleteFunc(events, func(e *lockpb.Event) bool {
		if e.GetDeadlock() != nil && !s.mayInspect(c, lockpb.AdminService_Watch_FullMethodName, e.GetDeadlock()) {
			return true
		}
		return e.GetLockId() != "" && s.ask(c, lockpb.AdminService_Watch_FullMethodName, VerbInspect, e.GetLockId()) != nil
	})
}

// Watch sends events until the client leaves or the server stops.
func (g adminService) Watch(in *lockpb.WatchRequest, stream grpc.ServerStreamingServer[lockpb.Event]) error {
	s, c := g.s, connOf(stream.Context())
	sub, done, err := s.subscribe(in)
	if err != nil {
		return s.explain(err).status()
	}
	defer done()
	if err := stream.SendHeader(metadata.Pairs(cursorKey, sub.Cursor())); err != nil {
		return err
	}
	ctx, cancel := context.WithCancelCause(stream.Context())
	defer cancel(nil)
	defer context.AfterFunc(s.drain, func() {
		cancel(errDraining)
		// A client that does not read would hold up the stop.
		s.mourning.after(flushTimeout, func() {
			if stream.Context().Err() == nil {
				_ = c.Close()
			}
		})
	})()
	for {
		events, err := sub.Next(ctx)
		if err != nil {
			return s.explain(context.Cause(ctx)).status()
		}
		for _, e := range s.visible(c, events) {
			if err := stream.Send(e); err != nil {
				return err
			}
		}
	}
}
