package socket

import (
	"context"
	"errors"
	"log/slog"
	"net"
	"net/http"
	"sync"
	"sync/atomic"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/stats"

	"github.com/locksidecar/locksidecar/backend/driver"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// ErrServerClosed is what Serve returns after Shutdown.
var ErrServerClosed = errors.New("server is closed")

// Options configure a Server. Locks and Sessions must be set, the rest may be
// left out.
type Options struct {
	Locks    Locks
	Sessions Sessions
	// Events are what Watch tells; nil means that Watch is unsupported.
	Events Events
	// Status describes the process; nil means an empty description.
	Status func(context.Context, *lockpb.GetStatusRequest) *lockpb.Status
	// Ready says of each backend, by name, whether it serves. It must be
	// cheap. nil means that Locks serves.
	Ready func() map[string]bool
	// Authorize refuses a call by an error, which is logged and not told. It
	// must be cheap. nil allows everything: the socket's mode is the boundary.
	Authorize func(Call) error
	// Clock counts valid-until; it must be the store's. nil means
	// driver.BootClock.
	Clock  driver.Clock
	Limits Limits
	// Limited is told which limit refused a request or connection. It must be
	// cheap; nil is allowed.
	Limited func(limit string)
	// Tracer makes spans of calls; nil means that nobody does.
	Tracer Tracer
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Tracer makes spans of calls. Its contexts are those of what is done for them.
type Tracer interface {
	// Stats is told of the gRPC calls.
	Stats() stats.Handler
	// Begin is told of a call over HTTP, by its gRPC method and with the
	// request's header; end is called when it has ended.
	Begin(ctx context.Context, method string, header http.Header) (_ context.Context, end func())
}

// Server serves the API. Its goroutines end with Shutdown.
type Server struct {
	o     Options
	pulse pulse
	// parting is partingTime, but for tests.
	parting  time.Duration
	log      limitedLog
	quotas   quotas
	mourning mourning
	watchers atomic.Int64
	pages    pages
	deaths   *deaths

	grpc      *grpc.Server
	http      *http.Server
	grpcConns *handover
	httpConns *handover
	// drain ends, with errDraining, when the server begins to stop.
	drain    context.Context
	stopping context.CancelCauseFunc
	// accepting counts the loops and connections before the handover, running
	// everything else.
	accepting, running sync.WaitGroup

	mu        sync.Mutex
	started   bool
	listeners map[net.Listener]struct{}
	unsniffed map[*conn]struct{}
}

// New returns a server; Serve starts it.
func New(o Options) *Server { return newServer(o, steady) }

func newServer(o Options, p pulse) *Server {
	if o.Status == nil {
		o.Status = func(context.Context, *lockpb.GetStatusRequest) *lockpb.Status { return &lockpb.Status{} }
	}
	if o.Ready == nil {
		o.Ready = func() map[string]bool { return map[string]bool{o.Locks.Name(): true} }
	}
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Limited == nil {
		o.Limited = func(string) {}
	}
	o.Logger = driver.Logger(o.Logger)
	s := &Server{
		o: o, pulse: p, parting: partingTime, grpcConns: newHandover(), httpConns: newHandover(),
		listeners: make(map[net.Listener]struct{}), unsniffed: make(map[*conn]struct{}),
	}
	s.log.to = o.Logger
	if o.Authorize != nil {
		s.pages = newPages()
	}
	s.quotas = quotas{limits: o.Limits.withDefaults(), peers: make(map[peerKey]*quota)}
	s.drain, s.stopping = context.WithCancelCause(context.Background())
	s.grpc = s.newGRPC()
	s.http = s.newHTTP()
	return s
}

// Serve accepts connections on l until Shutdown, which closes l, and then
// returns ErrServerClosed. It may be called for several listeners.
func (s *Server) Serve(l net.Listener) error {
	if err := s.begin(l); err != nil {
		_ = l.Close()
		return err
	}
	defer s.accepting.Done()
	pause := time.Duration(0)
	for {
		c, err := l.Accept()
		switch {
		case err == nil:
			pause = 0
			s.accepting.Add(1)
			go s.admit(c, l.Addr().String())
		case s.drain.Err() != nil:
			return ErrServerClosed
		case acceptAgain(err):
			// Out of file descriptors, mostly: those who are connected go on.
			pause = min(max(2*pause, 5*time.Millisecond), time.Second)
			s.log.write(slog.LevelWarn, "accept failed, it is tried again", driver.LogPause, pause, driver.LogError, err)
			select {
			case <-time.After(pause):
			case <-s.drain.Done():
			}
		default:
			return err
		}
	}
}

// begin enters a listener; the first starts the server.
func (s *Server) begin(l net.Listener) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drain.Err() != nil {
		return ErrServerClosed
	}
	if !s.started {
		d, err := newDeaths()
		if err != nil {
			return err
		}
		s.started, s.deaths = true, d
		s.running.Go(func() { _ = s.grpc.Serve(s.grpcConns) })
		s.running.Go(func() { _ = s.http.Serve(s.httpConns) })
	}
	s.listeners[l] = struct{}{}
	s.accepting.Add(1)
	return nil
}

// admit identifies the peer of a connection, counts it, finds out its protocol
// and hands it over.
func (s *Server) admit(raw net.Conn, path string) {
	defer s.accepting.Done()
	peer, pidfd := identify(raw)
	peer.Socket = path
	var l *life
	if pidfd >= 0 {
		l = s.deaths.watch(pidfd)
	}
	mine, over, ok := s.quotas.connect(peer)
	if !ok {
		s.o.Limited("connections") // nobody tells the peer
		l.release()
		_ = raw.Close()
		return
	}
	c := &conn{Conn: raw, peer: peer, quota: mine, life: l, refused: over, parting: s.parting, closed: func() { s.quotas.disconnect(peer) }}
	if over {
		s.log.write(slog.LevelWarn, "a peer has too many connections", driver.LogPID, peer.PID, driver.LogUID, peer.UID, driver.LogLimit, s.quotas.limits.Connections)
		s.mourning.after(refusalTime, func() {
			if !c.kept.Load() {
				_ = c.Close()
			}
		})
	}
	if !s.enter(c) {
		_ = c.Close()
		return
	}
	http2, err := c.sniff(s.pulse.timeout)
	s.leave(c)
	to := s.httpConns
	if http2 {
		to = s.grpcConns
	}
	if err == nil {
		err = to.give(c)
	}
	if err != nil {
		_ = c.Close()
	}
}

// refusalTime is how long a connection beyond the limit is kept to be told so.
const refusalTime = 5 * time.Second

// enter and leave keep the connections whose protocol is not known yet, so that
// Shutdown can close them.
func (s *Server) enter(c *conn) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.drain.Err() != nil {
		return false
	}
	s.unsniffed[c] = struct{}{}
	return true
}

func (s *Server) leave(c *conn) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.unsniffed, c)
}

// explain describes an error for a client, and logs what the client is not
// told.
func (s *Server) explain(err error) *answer {
	a := describe(err, s.o.Locks.Name())
	switch a.reason.Code {
	case codes.ResourceExhausted:
		s.o.Limited(a.info.GetMetadata()["limit"])
	case codes.Unavailable, codes.Unknown, codes.Internal, codes.FailedPrecondition:
		if !errors.Is(err, errDraining) {
			s.log.write(levelOf(a.reason.Code), "a call failed", driver.LogReason, a.info.GetReason(), driver.LogError, err)
		}
	}
	return a
}

// levelOf is error for what is a fault of the sidecar's own or of its operator.
func levelOf(c codes.Code) slog.Level {
	if c == codes.Internal || c == codes.FailedPrecondition {
		return slog.LevelError
	}
	return slog.LevelWarn
}
