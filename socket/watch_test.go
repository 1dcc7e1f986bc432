package socket_test

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// logged is a log of events as the server needs it.
type logged struct{ *events.Log }

func (l logged) Subscribe(prefix, after string) (socket.Subscription, error) {
	s, err := l.Log.Subscribe(prefix, after)
	if err != nil {
		return nil, err
	}
	return s, nil
}

// startWatched is a sidecar with a log that the test fills.
func startWatched(t *testing.T, size int, o socket.Options) (*sidecar, *events.Log) {
	t.Helper()
	log := events.New(size)
	o.Events = logged{log}
	return start(t, o, nil), log
}

func happened(log *events.Log, lock string, token int64) {
	log.Happened(backend.Event{
		Kind: backend.Acquired, LockID: lock, OwnerID: "owner", RequestID: "5ecret", Token: token, HoldCount: 1,
	})
}

// watch starts a stream and returns it with its first cursor.
func watch(t *testing.T, c client, in *lockpb.WatchRequest) (lockpb.AdminService_WatchClient, string) {
	t.Helper()
	stream, err := c.admin.Watch(within(t), in)
	if err != nil {
		t.Fatal(err)
	}
	header, err := stream.Header()
	if err != nil {
		t.Fatal(err)
	}
	if len(header.Get("locksidecar-cursor")) != 1 {
		t.Fatalf("header %v has no cursor", header)
	}
	return stream, header.Get("locksidecar-cursor")[0]
}

func next(t *testing.T, stream lockpb.AdminService_WatchClient) *lockpb.Event {
	t.Helper()
	e, err := stream.Recv()
	if err != nil {
		t.Fatal(err)
	}
	return e
}

func TestWatchResumesFromTheHeadersCursor(t *testing.T) {
	s, log := startWatched(t, 0, socket.Options{})
	c := dial(t, s.path)
	ctx, cancel := context.WithCancel(within(t))
	first, err := c.admin.Watch(ctx, &lockpb.WatchRequest{Prefix: "a"})
	if err != nil {
		t.Fatal(err)
	}
	header, err := first.Header()
	if err != nil {
		t.Fatal(err)
	}
	cancel() // before any event
	happened(log, "b", 1)
	happened(log, "a/1", 2)
	stream, _ := watch(t, c, &lockpb.WatchRequest{Prefix: "a", After: header.Get("locksidecar-cursor")[0]})
	e := next(t, stream)
	if e.GetFencingToken() != 2 || e.GetType() != "acquired" || e.GetLockId() != "a/1" || e.GetOwnerId() != "owner" || !e.GetTime().IsValid() {
		t.Errorf("event %v", e)
	}
	if strings.Contains(e.String(), "5ecret") {
		t.Errorf("event %v tells a request id", e)
	}
	happened(log, "a/2", 3)
	if e := next(t, stream); e.GetFencingToken() != 3 {
		t.Errorf("event %v", e)
	}
}

func TestWatchRefuses(t *testing.T) {
	s, _ := startWatched(t, 0, socket.Options{})
	c := dial(t, s.path)
	stream, err := c.admin.Watch(within(t), &lockpb.WatchRequest{After: "made up"})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.InvalidArgument {
		t.Errorf("a made-up cursor: %v", err)
	}
	h := httpClient(t, s.path)
	for path, want := range map[string]int{
		"/events?after=x": http.StatusBadRequest, "/events?prefx=a": http.StatusBadRequest, "/events?prefix=a&prefix=b": http.StatusBadRequest,
	} {
		r, err := h.Get("http://localhost" + path)
		if err != nil {
			t.Fatal(err)
		}
		_ = r.Body.Close()
		if r.StatusCode != want {
			t.Errorf("%s answered %d, want %d", path, r.StatusCode, want)
		}
	}
	// A server without a log says so.
	plain := dial(t, start(t, socket.Options{}, nil).path)
	if stream, err = plain.admin.Watch(within(t), &lockpb.WatchRequest{}); err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.Unimplemented {
		t.Errorf("without events: %v", err)
	}
}

func TestWatchIsAuthorised(t *testing.T) {
	s, _ := startWatched(t, 0, socket.Options{Authorize: func(c socket.Call) error {
		if c.Method == lockpb.AdminService_Watch_FullMethodName && c.Verb == socket.VerbInspect {
			return io.EOF
		}
		return nil
	}})
	stream, err := dial(t, s.path).admin.Watch(within(t), &lockpb.WatchRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.PermissionDenied {
		t.Errorf("gRPC: %v", err)
	}
	r, err := httpClient(t, s.path).Get("http://localhost/events")
	if err != nil {
		t.Fatal(err)
	}
	_ = r.Body.Close()
	if r.StatusCode != http.StatusForbidden {
		t.Errorf("HTTP: %d", r.StatusCode)
	}
}

// A watcher is shown the locks that it may inspect, and no others.
func TestWatchShowsWhatMayBeInspected(t *testing.T) {
	s, log := startWatched(t, 0, socket.Options{Authorize: func(c socket.Call) error {
		if c.Verb == socket.VerbInspect && strings.HasPrefix(c.LockID, "secret/") {
			return io.EOF
		}
		return nil
	}})
	stream, _ := watch(t, dial(t, s.path), &lockpb.WatchRequest{})
	_, lines := openEvents(t, s, "")
	happened(log, "secret/1", 1)
	happened(log, "open", 2)
	if e := next(t, stream); e.GetLockId() != "open" {
		t.Errorf("gRPC: told %v", e)
	}
	if !lines.Scan() || !strings.Contains(lines.Text(), `"lock_id":"open"`) {
		t.Errorf("HTTP: told %s", lines.Text())
	}
}

// openEvents starts GET /events and returns its lines.
func openEvents(t *testing.T, s *sidecar, query string) (*http.Response, *bufio.Scanner) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, "http://localhost/events"+query, nil)
	if err != nil {
		t.Fatal(err)
	}
	r, err := httpClient(t, s.path).Do(req)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = r.Body.Close() })
	if r.StatusCode != http.StatusOK || r.Header.Get("Content-Type") != "application/x-ndjson" {
		t.Fatalf("answered %d %v", r.StatusCode, r.Header)
	}
	return r, bufio.NewScanner(r.Body)
}

func TestEventsOverHTTP(t *testing.T) {
	s, log := startWatched(t, 0, socket.Options{})
	r, lines := openEvents(t, s, "?prefix=a/")
	cursor := r.Header.Get("Locksidecar-Cursor")
	happened(log, "b", 1)
	happened(log, "a/1", 9007199254740993)
	if !lines.Scan() {
		t.Fatal(lines.Err())
	}
	var e map[string]any
	if err := json.Unmarshal(lines.Bytes(), &e); err != nil {
		t.Fatalf("%v: %s", err, lines.Text())
	}
	if e["type"] != "acquired" || e["fencing_token"] != "9007199254740993" || e["lock_id"] != "a/1" || e["hold_count"] != 1.0 {
		t.Errorf("event %v", e)
	}
	_, again := openEvents(t, s, "?prefix=a/&after="+cursor)
	if !again.Scan() || again.Text() != lines.Text() {
		t.Errorf("resumed with %s, want %s", again.Text(), lines.Text())
	}
}

// A client that does not read is not waited for: it is told what it missed.
func TestSlowWatcherIsToldWhatItMissed(t *testing.T) {
	s, log := startWatched(t, 64, socket.Options{})
	stream, _ := watch(t, dial(t, s.path), &lockpb.WatchRequest{})
	const n = 20_000 // far beyond flow control's windows
	lock := strings.Repeat("x", 200)
	for i := range n {
		happened(log, lock, int64(i+1))
	}
	happened(log, "last", n+1)
	total, missed := 0, 0
	for {
		e := next(t, stream)
		total++
		if e.GetType() == "missed" {
			missed++
			total += int(e.GetMissed()) - 1
		}
		if e.GetLockId() == "last" {
			break
		}
	}
	if missed == 0 || total != n+1 {
		t.Errorf("told %d events, %d times of missed ones; want %d with those that were missed", total, missed, n+1)
	}
}

// The streams end with the server, even one whose client does not read.
func TestShutdownEndsWatches(t *testing.T) {
	s, log := startWatched(t, 0, socket.Options{})
	reading, _ := watch(t, dial(t, s.path), &lockpb.WatchRequest{})
	stuck, _ := watch(t, dial(t, s.path), &lockpb.WatchRequest{})
	r, lines := openEvents(t, s, "")
	for i := range 10_000 {
		happened(log, strings.Repeat("x", 200), int64(i+1))
	}
	ended := make(chan error, 1)
	go func() {
		for {
			if _, err := reading.Recv(); err != nil {
				ended <- err
				return
			}
		}
	}()
	ctx, cancel := context.WithTimeout(context.Background(), patience)
	defer cancel()
	if err := s.server.Shutdown(ctx); err != nil {
		t.Errorf("shutdown: %v", err)
	}
	if err := <-ended; status.Code(err) != codes.Unavailable || !strings.Contains(fmt.Sprint(status.Convert(err).Details()), "DRAINING") {
		t.Errorf("the stream ended with %v", err)
	}
	for lines.Scan() {
	}
	_ = r.Body.Close()
	_ = stuck
}

// At most so many streams at a time; one that ended makes room.
func TestWatchersAreBounded(t *testing.T) {
	s, _ := startWatched(t, 0, socket.Options{})
	c := dial(t, s.path)
	ctx, cancel := context.WithCancel(within(t))
	for range 256 {
		stream, err := c.admin.Watch(ctx, &lockpb.WatchRequest{})
		if err != nil {
			t.Fatal(err)
		}
		if _, err := stream.Header(); err != nil {
			t.Fatal(err)
		}
	}
	stream, err := c.admin.Watch(within(t), &lockpb.WatchRequest{})
	if err == nil {
		_, err = stream.Recv()
	}
	if status.Code(err) != codes.ResourceExhausted {
		t.Errorf("one too many: %v", err)
	}
	cancel()
	eventually(t, "there is room again", func() bool {
		ctx, cancel := context.WithCancel(within(t))
		defer cancel()
		stream, err := c.admin.Watch(ctx, &lockpb.WatchRequest{})
		if err != nil {
			return false
		}
		header, err := stream.Header()
		return err == nil && len(header.Get("locksidecar-cursor")) == 1
	})
}
