package socket_test

import (
	"context"
	"io"
	"net/http"
	"net/url"
	"strconv"
	"strings"
	"testing"
	"time"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/metadata"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/encoding/protojson"
	"google.golang.org/protobuf/proto"

	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// reasonHTTP makes the same request over HTTP, and returns the reason of its
// refusal, or nothing.
func reasonHTTP(t *testing.T, c *http.Client, req proto.Message) string {
	t.Helper()
	body, err := protojson.MarshalOptions{UseProtoNames: true}.Marshal(req)
	if err != nil {
		t.Fatal(err)
	}
	method, path := "POST", ""
	switch m := req.(type) {
	case *lockpb.AcquireRequest:
		path = "/locks/" + url.PathEscape(m.GetLockId()) + ":acquire"
	case *lockpb.ForceReleaseRequest:
		path = "/locks/" + m.GetLockId() + ":force-release"
	case *lockpb.ListRequest:
		q := url.Values{}
		if m.GetPageSize() != 0 {
			q.Set("page_size", strconv.Itoa(int(m.GetPageSize())))
		}
		q.Set("prefix", m.GetPrefix())
		method, path, body = "GET", "/locks?"+q.Encode(), nil
	default:
		t.Fatalf("no path for %T", req)
	}
	code, answer, _ := call(t, c, method, path, string(body))
	if code == http.StatusOK {
		return ""
	}
	return reasonIn(t, answer)
}

// reasonGRPC is the same over gRPC.
func reasonGRPC(t *testing.T, c client, req proto.Message) string {
	t.Helper()
	var err error
	switch m := req.(type) {
	case *lockpb.AcquireRequest:
		_, err = c.Acquire(within(t), m)
	case *lockpb.ForceReleaseRequest:
		_, err = c.admin.ForceRelease(within(t), m)
	case *lockpb.ListRequest:
		_, err = c.admin.List(within(t), m)
	default:
		t.Fatalf("no call for %T", req)
	}
	if err == nil {
		return ""
	}
	return infoOf(t, err).GetReason()
}

// Every field is taken at its bound and refused beyond it, over both protocols
// and for the same reason.
func TestFieldsAreBounded(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	serial := 0
	acquire := func(change func(*lockpb.AcquireRequest)) proto.Message {
		serial++
		req := &lockpb.AcquireRequest{LockId: "free/" + strconv.Itoa(serial), Wait: seconds(0)}
		change(req)
		return req
	}
	text := func(n int) string { return strings.Repeat("x", n) }
	for _, b := range []struct {
		name          string
		bound, beyond int
		reason        string
		request       func(n int) proto.Message
		// atBound is the outcome at the bound: none, mostly.
		atBound string
	}{
		{"owner_id", 128, 129, "INVALID_OWNER_ID", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.OwnerId = text(n) })
		}, ""},
		{"request_id", 128, 129, "INVALID_REQUEST_ID", func(n int) proto.Message {
			serial++
			return acquire(func(r *lockpb.AcquireRequest) { r.RequestId = strconv.Itoa(1e6+serial) + text(n-7) })
		}, ""},
		{"lock_id", 255, 256, "INVALID_LOCK_ID", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.LockId += "/" + text(n-len(r.LockId)-1) })
		}, ""},
		{"metadata keys", 16, 17, "INVALID_METADATA", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) {
				r.Metadata = map[string]string{}
				for i := range n {
					r.Metadata[strconv.Itoa(i)] = ""
				}
			})
		}, ""},
		{"metadata bytes", 4096, 4097, "INVALID_METADATA", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.Metadata = map[string]string{"key": text(n - 3)} })
		}, ""},
		{"priority", 9, 10, "INVALID_PRIORITY", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.Priority = uint32(n) })
		}, ""},
		{"longest ttl, ms", 60_000, 60_001, "INVALID_TTL", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.Ttl = seconds(float64(n) / 1000) })
		}, ""},
		{"shortest ttl, ms", 1000, 999, "INVALID_TTL", func(n int) proto.Message {
			return acquire(func(r *lockpb.AcquireRequest) { r.Ttl = seconds(float64(n) / 1000) })
		}, ""},
		{"reason", 512, 513, "INVALID_REASON", func(n int) proto.Message {
			return &lockpb.ForceReleaseRequest{LockId: "nobodys", FencingToken: 1, Reason: text(n)}
		}, "LEASE_LOST"},
		{"page_size", 1000, 1001, "INVALID_PAGE_SIZE", func(n int) proto.Message {
			return &lockpb.ListRequest{PageSize: uint32(n)}
		}, ""},
		{"prefix", 255, 256, "INVALID_PREFIX", func(n int) proto.Message {
			return &lockpb.ListRequest{Prefix: text(n)}
		}, ""},
	} {
		t.Run(b.name, func(t *testing.T) {
			for protocol, reason := range map[string]func(n int) string{
				"gRPC": func(n int) string { return reasonGRPC(t, c, b.request(n)) },
				"HTTP": func(n int) string { return reasonHTTP(t, web, b.request(n)) },
			} {
				if got := reason(b.bound); got != b.atBound {
					t.Errorf("%s: %d is answered with %q, want %q", protocol, b.bound, got, b.atBound)
				}
				if got := reason(b.beyond); got != b.reason {
					t.Errorf("%s: %d is answered with %q, want %q", protocol, b.beyond, got, b.reason)
				}
			}
		})
	}
}

// A page has 100 locks unless the request says otherwise, or the operator.
func TestPageOfAListing(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	for i := range 101 {
		if got := reasonGRPC(t, c, &lockpb.AcquireRequest{LockId: "l/" + strconv.Itoa(i)}); got != "" {
			t.Fatal(got)
		}
	}
	page, err := c.admin.List(within(t), &lockpb.ListRequest{})
	if err != nil || len(page.GetLocks()) != 100 || page.GetNextPageToken() == "" {
		t.Errorf("a page has %d locks, %v", len(page.GetLocks()), err)
	}
	if _, r, _ := call(t, web, "GET", "/locks", ""); len(r["locks"].([]any)) != 100 {
		t.Errorf("over HTTP it has %d", len(r["locks"].([]any)))
	}
}

const messageBound = 64 << 10

// A message is read to its bound; a little beyond it the answer says so, and
// far beyond it gRPC itself does.
func TestMessagesAreBounded(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	sized := func(n int) *lockpb.AcquireRequest { // refused for its owner, if it is read
		req := &lockpb.AcquireRequest{LockId: "a", RequestId: "r"}
		req.OwnerId = strings.Repeat("x", n-proto.Size(req)-4)
		if proto.Size(req) != n {
			t.Fatalf("it has %d bytes, want %d", proto.Size(req), n)
		}
		return req
	}
	h := c.hold(t)
	for n, want := range map[int]string{messageBound: "INVALID_OWNER_ID", messageBound + 1: "LIMIT_EXCEEDED"} {
		if got := reasonGRPC(t, c, sized(n)); got != want {
			t.Errorf("%d bytes: %s, want %s", n, got, want)
		}
		in := &lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: sized(n - 4)}}
		if proto.Size(in) != n {
			t.Fatalf("it has %d bytes, want %d", proto.Size(in), n)
		}
		if err := h.Send(in); err != nil {
			t.Fatal(err)
		}
		r := h.next()
		if got := infoOf(t, status.FromProto(statusOf(r.GetError())).Err()).GetReason(); got != want || r.GetRequestId() != "r" {
			t.Errorf("%d bytes on a stream: %s for %q, want %s", n, got, r.GetRequestId(), want)
		}
		code, e, _ := call(t, web, "POST", "/locks/a:acquire", `{"owner_id":"`+strings.Repeat("x", n-15)+`"}`)
		if got := reasonIn(t, e); got != want || (code == 429) != (want == "LIMIT_EXCEEDED") {
			t.Errorf("%d bytes over HTTP: %d %s, want %s", n, code, got, want)
		}
	}
	// The stream goes on.
	h.acquire(&lockpb.AcquireRequest{LockId: "a"})
	h.granted()
	_, err := c.Acquire(within(t), sized(5*messageBound))
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("far beyond the bound: %v", err)
	}
}

const headersBound = 16 << 10

// Headers are read to their bound; beyond it the answer says so.
func TestHeadersAreBounded(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	// What else is sent counts too: the bound is found from both sides.
	grpcReason := func(n int) string {
		ctx := metadata.AppendToOutgoingContext(within(t), "padding", strings.Repeat("x", n))
		_, err := c.Get(ctx, &lockpb.GetRequest{LockId: "a"})
		if err == nil {
			return ""
		}
		return infoOf(t, err).GetReason()
	}
	httpReason := func(n int) string {
		req, err := http.NewRequestWithContext(within(t), "GET", "http://localhost/locks/a", nil)
		if err != nil {
			t.Fatal(err)
		}
		req.Header.Set("Padding", strings.Repeat("x", n))
		resp, err := web.Do(req)
		if err != nil {
			return "431, unread: " + err.Error()
		}
		defer func() { _ = resp.Body.Close() }()
		raw, err := io.ReadAll(resp.Body)
		switch {
		case err != nil:
			return resp.Status + ", unread: " + err.Error()
		case resp.StatusCode == 200:
			return ""
		case resp.StatusCode == 429 && strings.Contains(string(raw), "LIMIT_EXCEEDED"):
			return "LIMIT_EXCEEDED"
		}
		return string(raw)
	}
	for protocol, reason := range map[string]func(int) string{"gRPC": grpcReason, "HTTP": httpReason} {
		low, high := headersBound-1000, headersBound
		for low+1 < high {
			if mid := (low + high) / 2; reason(mid) == "" {
				low = mid
			} else {
				high = mid
			}
		}
		if reason(low) != "" || reason(high) != "LIMIT_EXCEEDED" || high == headersBound-999 {
			t.Errorf("%s: with %d bytes more it is %q, with %d %q", protocol, low, reason(low), high, reason(high))
		}
	}
	// Far beyond it each protocol refuses in its own words.
	if got := httpReason(8 * headersBound); !strings.Contains(got, "431") {
		t.Errorf("far beyond the bound: %s", got)
	}
	ctx := metadata.AppendToOutgoingContext(within(t), "padding", strings.Repeat("x", 8*headersBound))
	if _, err := c.Get(ctx, &lockpb.GetRequest{LockId: "a"}); err == nil {
		t.Error("far beyond the bound it is read")
	}
	if got := grpcReason(0); got != "" {
		t.Errorf("afterwards: %s", got)
	}
}

// The operator's own bounds take the place of the usual ones.
func TestLimitsOfTheOperator(t *testing.T) {
	s := start(t, socket.Options{Limits: socket.Limits{Message: 1000, Headers: 2000, Reason: 10}}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	for _, req := range []proto.Message{&lockpb.AcquireRequest{LockId: "a", OwnerId: strings.Repeat("x", 1000)}} {
		if g, h := reasonGRPC(t, c, req), reasonHTTP(t, web, req); g != "LIMIT_EXCEEDED" || h != g {
			t.Errorf("%s, %s", g, h)
		}
	}
	force := &lockpb.ForceReleaseRequest{LockId: "a", FencingToken: 1, Reason: "eleven byte"}
	if g, h := reasonGRPC(t, c, force), reasonHTTP(t, web, force); g != "INVALID_REASON" || h != g {
		t.Errorf("%s, %s", g, h)
	}
	ctx := metadata.AppendToOutgoingContext(within(t), "padding", strings.Repeat("x", 2000))
	_, err := c.Get(ctx, &lockpb.GetRequest{LockId: "a"})
	isLimit(t, err, "bytes of headers")
}

// Calls of a peer are counted over both protocols, streams among them. What
// keeps a lease is exempt, also where a new stream is needed for it.
func TestCallsOfAPeerAreLimited(t *testing.T) {
	s := start(t, socket.Options{Limits: socket.Limits{Calls: 2}}, nil)
	c, web := dial(t, s.path), httpClient(t, s.path)
	h := c.hold(t)
	h.acquire(&lockpb.AcquireRequest{LockId: "held"})
	l := h.granted()
	ctx, cancel := context.WithCancel(within(t))
	waited := make(chan error, 1)
	go func() {
		_, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: "held"})
		waited <- err
	}()
	eventually(t, "the second call waits", func() bool { return s.waiters(t, "held") == 1 })
	_, err := c.Get(within(t), &lockpb.GetRequest{LockId: "a"})
	isLimit(t, err, "calls")
	for _, r := range [][2]string{{"GET", "/locks/a"}, {"POST", "/locks/a:acquire"}, {"POST", "/locks/a:hold"}, {"GET", "/locks"}} {
		if code, e, _ := call(t, web, r[0], r[1], ""); code != 429 || reasonIn(t, e) != "LIMIT_EXCEEDED" {
			t.Errorf("%s: %d %v", r[1], code, e)
		}
	}
	proof := &lockpb.RenewRequest{LockId: "held", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}
	if _, err := c.Renew(within(t), proof); err != nil {
		t.Errorf("renew: %v", err)
	}
	spare := c.hold(t)
	spare.acquire(&lockpb.AcquireRequest{LockId: "a"})
	isLimit(t, status.FromProto(statusOf(spare.next().GetError())).Err(), "calls")
	err = spare.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
		LockId: "held", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	spare.granted()
	// The streams that may adopt have a bound too.
	var last error
	for range 32 {
		st := c.hold(t)
		// A stream that is refused may end before this is sent: Recv says why.
		_ = st.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "a"}}})
		if _, last = st.Recv(); last != nil {
			break
		}
	}
	isLimit(t, last, "calls")
	// What ends makes room.
	cancel()
	if err := <-waited; status.Code(err) != codes.Canceled {
		t.Errorf("the call that waited: %v", err)
	}
	_ = c.conn.Close()
	again := dial(t, s.path)
	eventually(t, "there is room again", func() bool {
		_, err := again.Get(within(t), &lockpb.GetRequest{LockId: "a"})
		return err == nil
	})
}

// A lease is adopted on a connection beyond the limit, which then stays.
func TestAdoptIsExemptFromTheLimitOfConnections(t *testing.T) {
	s := start(t, socket.Options{Limits: socket.Limits{Connections: 1}}, nil)
	c := dial(t, s.path)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	over := dial(t, s.path).hold(t)
	over.acquire(&lockpb.AcquireRequest{LockId: "b"})
	isLimit(t, status.FromProto(statusOf(over.next().GetError())).Err(), "connections")
	err = over.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
		LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(),
	}}})
	if err != nil {
		t.Fatal(err)
	}
	over.granted()
	// Beyond the time for which a refused connection is kept.
	ended := make(chan error, 1)
	go func() {
		_, err := over.Recv()
		ended <- err
	}()
	select {
	case err := <-ended:
		t.Errorf("the connection that holds the lease was closed: %v", err)
	case <-time.After(socket.RefusalTime + time.Second):
	}
	if n := s.keeper.Held(); n != 1 {
		t.Errorf("%d leases are held, want 1", n)
	}
}
