package socket

import (
	"context"
	"io"
	"log"
	"net"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"

	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/backend"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

func (s *Server) newHTTP() *http.Server {
	return &http.Server{
		Handler:           http.HandlerFunc(s.serveHTTP),
		ReadHeaderTimeout: s.pulse.timeout,
		IdleTimeout:       2 * time.Minute,
		MaxHeaderBytes:    slack * s.quotas.limits.Headers,
		// An answer may be waited for as long as the lock is, and a hold's goes
		// on for ever: no timeout for writing.
		ConnContext: func(ctx context.Context, c net.Conn) context.Context {
			return context.WithValue(ctx, connKey{}, c)
		},
		// What net/http would log is about clients that misbehave.
		ErrorLog: log.New(io.Discard, "", 0),
	}
}

// serveHTTP is the HTTP side of every call. Paths are matched as they are: no
// ServeMux, which would clean them.
func (s *Server) serveHTTP(w http.ResponseWriter, r *http.Request) {
	_ = http.NewResponseController(w).SetWriteDeadline(time.Time{})
	e, err := route(r.Method, r.URL.EscapedPath())
	if err != nil {
		s.writeError(w, err)
		return
	}
	if most := s.quotas.limits.Headers; headersOf(r) > most {
		w.Header().Set("Connection", "close")
		s.writeError(w, &limitError{"bytes of headers", most})
		return
	}
	if e.method == "" {
		s.healthz(w)
		return
	}
	if s.o.Tracer != nil {
		ctx, end := s.o.Tracer.Begin(r.Context(), e.method, r.Header)
		defer end()
		r = r.WithContext(ctx)
	}
	c, err := s.authorize(r.Context(), e.method, e.lockID)
	if err != nil {
		w.Header().Set("Connection", "close")
		s.writeError(w, err)
		return
	}
	if e.perLock {
		if err := backend.ValidLockID(e.lockID); err != nil {
			s.writeError(w, err)
			return
		}
	}
	body, err := s.readBody(w, r)
	if err != nil {
		w.Header().Set("Connection", "close")
		s.writeError(w, err)
		return
	}
	if decode := decodeStream[e.method]; decode != nil {
		s.serveHold(w, r, c, decode, e.lockID, body)
		return
	}
	if e.method == lockpb.AdminService_Watch_FullMethodName {
		s.serveEvents(w, r, c)
		return
	}
	out, err := s.counted(r, c, e, body)
	if err != nil {
		s.writeError(w, err)
		return
	}
	s.writeMessage(w, http.StatusOK, whole, out)
}

// headersOf is the size of a request's headers, counted as over gRPC.
func headersOf(r *http.Request) int {
	size := headerSize(":path", r.RequestURI)
	for name, values := range r.Header {
		for _, v := range values {
			size += headerSize(name, v)
		}
	}
	return size
}

// counted makes the call within the peer's limit.
func (s *Server) counted(r *http.Request, c *conn, e endpoint, body []byte) (proto.Message, error) {
	if !exempt[e.method] {
		if err := c.quota.call(); err != nil {
			return nil, err
		}
		defer c.quota.hangUp()
	}
	return s.call(r, c, e, body)
}

// call decodes a request and makes the call.
func (s *Server) call(r *http.Request, c *conn, e endpoint, body []byte) (proto.Message, error) {
	ctx := r.Context()
	switch e.method {
	case lockpb.LockService_Acquire_FullMethodName:
		in := &lockpb.AcquireRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.acquire(ctx, c, in))
	case lockpb.LockService_Renew_FullMethodName:
		in := &lockpb.RenewRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.renew(ctx, in))
	case lockpb.LockService_Release_FullMethodName:
		in := &lockpb.ReleaseRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.release(ctx, in))
	case lockpb.AdminService_ForceRelease_FullMethodName:
		in := &lockpb.ForceReleaseRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.forceRelease(ctx, c, in))
	case lockpb.AdminService_CancelWaiter_FullMethodName:
		in := &lockpb.CancelWaiterRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.cancelWaiter(ctx, c, in))
	case lockpb.AdminService_Reprioritize_FullMethodName:
		in := &lockpb.ReprioritizeRequest{}
		if err := decodeFor(e.lockID, body, in, &in.LockId); err != nil {
			return nil, err
		}
		return message(s.reprioritize(ctx, c, in))
	case lockpb.LockService_Get_FullMethodName:
		return message(s.get(ctx, &lockpb.GetRequest{LockId: e.lockID}))
	case lockpb.AdminService_List_FullMethodName:
		in, err := listRequest(r.URL.RawQuery)
		if err != nil {
			return nil, err
		}
		return message(s.list(ctx, c, in))
	case lockpb.AdminService_GetStatus_FullMethodName:
		in, err := statusRequest(r.URL.RawQuery)
		if err != nil {
			return nil, err
		}
		return s.status(ctx, c, in), nil
	}
	return nil, errNoPath
}

// message keeps a nil pointer from becoming a message that is not nil.
func message[M proto.Message](m M, err error) (proto.Message, error) {
	if err != nil {
		return nil, err
	}
	return m, nil
}

// decodeFor reads a body and puts the lock id of the URL into it; the body may
// repeat it, and nothing else.
func decodeFor(lockID string, body []byte, m proto.Message, field *string) error {
	if err := decode(body, m); err != nil {
		return err
	}
	if *field != "" && *field != lockID {
		return &backend.InvalidError{Field: "lock_id", Reason: "is another in the body than in the URL", Limits: "the one of the URL"}
	}
	*field = lockID
	return nil
}

// listParameters are the query's.
var listParameters = []string{"prefix", "contended", "page_size", "page_token"}

func listRequest(query string) (*lockpb.ListRequest, error) {
	values, err := parameters(query, listParameters)
	if err != nil {
		return nil, err
	}
	in := &lockpb.ListRequest{Prefix: values.Get("prefix"), PageToken: values.Get("page_token")}
	if in.Contended, err = boolean(values, "contended"); err != nil {
		return nil, err
	}
	if v := values.Get("page_size"); v != "" {
		size, err := strconv.ParseUint(v, 10, 16)
		if err != nil {
			return nil, &backend.InvalidError{Field: "page_size", Reason: "is no number in range", Limits: "a whole number from 1"}
		}
		in.PageSize = uint32(size)
	}
	return in, nil
}

// statusParameters are the query's.
var statusParameters = []string{"find_deadlocks"}

func statusRequest(query string) (in *lockpb.GetStatusRequest, err error) {
	values, err := parameters(query, statusParameters)
	if err != nil {
		return nil, err
	}
	in = &lockpb.GetStatusRequest{}
	in.FindDeadlocks, err = boolean(values, "find_deadlocks")
	return in, err
}

// boolean is a parameter; unset it is false.
func boolean(values url.Values, name string) (b bool, err error) {
	v := values.Get(name)
	if v == "" {
		return false, nil
	}
	if b, err = strconv.ParseBool(v); err != nil {
		return false, &backend.InvalidError{Field: name, Reason: "is neither true nor false", Limits: "true, false"}
	}
	return b, nil
}

// parameters reads a query that has the names, each once at most, and no others.
func parameters(query string, names []string) (url.Values, error) {
	values, err := url.ParseQuery(query)
	if err != nil {
		return nil, badRequest("query", "cannot be read", strings.Join(names, ", "))
	}
	for name, v := range values {
		if !slices.Contains(names, name) {
			return nil, badRequest(name, "is no parameter", strings.Join(names, ", "))
		}
		if len(v) > 1 {
			return nil, badRequest(name, "is given twice", "once")
		}
	}
	return values, nil
}

// healthz answers whether the sidecar serves.
func (s *Server) healthz(w http.ResponseWriter) {
	status := http.StatusOK
	if serving, _ := s.serving(""); !serving {
		status = http.StatusServiceUnavailable
	}
	w.Header().Set("Content-Type", "application/json")
	w.WriteHeader(status)
	_, _ = io.WriteString(w, `{"status":"`+s.health("").String()+"\"}\n")
}
