package e2e

import (
	"context"
	"encoding/hex"
	"net"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	collector "go.opentelemetry.io/proto/otlp/collector/trace/v1"
	tracepb "go.opentelemetry.io/proto/otlp/trace/v1"
	"google.golang.org/grpc"
	"google.golang.org/grpc/metadata"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// collected are the spans that a collector of OTLP was sent.
type collected struct {
	collector.UnimplementedTraceServiceServer
	mu    sync.Mutex
	spans []*tracepb.Span
}

func (c *collected) Export(_ context.Context, req *collector.ExportTraceServiceRequest) (*collector.ExportTraceServiceResponse, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, r := range req.GetResourceSpans() {
		for _, s := range r.GetScopeSpans() {
			c.spans = append(c.spans, s.GetSpans()...)
		}
	}
	return &collector.ExportTraceServiceResponse{}, nil
}

// of are the spans of a trace with a name.
func (c *collected) of(traceID, name string) (found []*tracepb.Span) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for _, s := range c.spans {
		if hex.EncodeToString(s.GetTraceId()) == traceID && s.GetName() == name {
			found = append(found, s)
		}
	}
	return found
}

func collect(t *testing.T) (*collected, string) {
	t.Helper()
	l, err := new(net.ListenConfig).Listen(t.Context(), "tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	c, g := &collected{}, grpc.NewServer()
	collector.RegisterTraceServiceServer(g, c)
	go func() { _ = g.Serve(l) }()
	t.Cleanup(g.Stop)
	return c, "http://" + l.Addr().String()
}

const spanID = "00f067aa0ba902b7"

// traced is a context whose calls belong to the trace of an application.
func traced(t *testing.T, traceID string) context.Context {
	t.Helper()
	return metadata.AppendToOutgoingContext(within(t), "traceparent", "00-"+traceID+"-"+spanID+"-01")
}

// An application's trace goes on in the sidecar: the call, what the store was
// asked, the wait and the hand-off, over gRPC, on a Hold stream and over HTTP.
// The sidecar's end sends what it still has.
func TestTracesGoOnInTheSidecar(t *testing.T) {
	spans, endpoint := collect(t)
	d := testenv.Daemon(t, "serve", "--backend", testenv.StartRedisT(t).URL(), "--traces", endpoint)
	c := dial(t, d.Endpoint())
	const unary, stream, web = "11111111111111111111111111111111", "22222222222222222222222222222222", "33333333333333333333333333333333"
	l, err := c.Acquire(traced(t, unary), &lockpb.AcquireRequest{LockId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	held, err := c.Hold(traced(t, stream))
	if err != nil {
		t.Fatal(err)
	}
	s := streamed{held}
	s.send(t, &lockpb.AcquireRequest{LockId: "a", OwnerId: "two", RequestId: "secret-request"})
	if r, err := s.Recv(); err != nil || r.GetQueued() == nil {
		t.Fatalf("%v, %v", r, err)
	}
	if _, err := c.Release(traced(t, unary), &lockpb.ReleaseRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId()}); err != nil {
		t.Fatal(err)
	}
	granted := s.granted(t)
	if err := s.CloseSend(); err != nil {
		t.Fatal(err)
	}
	path := strings.TrimPrefix(d.Endpoint(), "unix://")
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://localhost/locks/a", nil)
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("traceparent", "00-"+web+"-"+spanID+"-01")
	client := &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
	resp, err := client.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	_ = resp.Body.Close()
	client.CloseIdleConnections()
	if err := d.Stop(); err != nil { // it sends what it has
		t.Fatal(err)
	}
	for _, want := range []struct{ trace, name, parent string }{
		{unary, "locksidecar.v1.LockService/Acquire", spanID}, {unary, "store acquire", ""},
		{unary, "locksidecar.v1.LockService/Release", spanID}, {unary, "store release", ""},
		{stream, "locksidecar.v1.LockService/Hold", spanID}, {stream, "store acquire", ""}, {stream, "wait", ""}, {stream, "hand-off", ""},
		{web, "/locksidecar.v1.LockService/Get", spanID}, {web, "store inspect", ""},
	} {
		found := spans.of(want.trace, want.name)
		if len(found) == 0 {
			t.Errorf("the trace %s has no span %q", want.trace, want.name)
			continue
		}
		if want.parent != "" && hex.EncodeToString(found[0].GetParentSpanId()) != want.parent {
			t.Errorf("%q is the child of %x", want.name, found[0].GetParentSpanId())
		}
	}
	wait, handOff := spans.of(stream, "wait"), spans.of(stream, "hand-off")
	if len(wait) != 1 || len(handOff) != 1 {
		t.Fatalf("%d waits, %d hand-offs", len(wait), len(handOff))
	}
	if w, h := wait[0], handOff[0]; w.GetStartTimeUnixNano() > h.GetStartTimeUnixNano() || w.GetEndTimeUnixNano() != h.GetEndTimeUnixNano() ||
		time.Duration(h.GetEndTimeUnixNano()-h.GetStartTimeUnixNano()) <= 0 {
		t.Errorf("the wait is %v, the hand-off %v", w, h)
	}
	spans.mu.Lock()
	defer spans.mu.Unlock()
	for _, s := range spans.spans {
		for _, secret := range []string{"secret-request", l.GetLeaseId(), granted.GetLeaseId()} {
			if strings.Contains(s.String(), secret) {
				t.Errorf("a secret is in the span %v", s)
			}
		}
	}
}

// A collector that is not there costs lines of the log and no call.
func TestACollectorThatIsNotThereHoldsNothingUp(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:", "--traces", "http://127.0.0.1:1")
	c := dial(t, d.Endpoint())
	for range 100 {
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"})
		if err != nil {
			t.Fatal(err)
		}
		c.release(t, l)
	}
}
