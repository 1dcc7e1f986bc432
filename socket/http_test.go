package socket_test

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/socket"
)

// call sends a request whose path is taken as it stands.
func call(t testing.TB, c *http.Client, method, path, body string) (int, map[string]any, http.Header) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, "http://localhost", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque, req.URL.RawQuery, _ = strings.Cut(path, "?")
	req.Header.Set("Content-Type", "application/x-www-form-urlencoded") // as curl -d
	resp, err := c.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	var answer map[string]any
	if err := json.Unmarshal(raw, &answer); err != nil {
		t.Fatalf("%s answered %d and no JSON: %q", path, resp.StatusCode, raw)
	}
	return resp.StatusCode, answer, resp.Header
}

// reasonIn is the reason of an error's body, checked for its form.
func reasonIn(t testing.TB, answer map[string]any) string {
	t.Helper()
	details, _ := answer["details"].([]any)
	if len(details) == 0 {
		t.Errorf("the error %v has no details", answer)
		return ""
	}
	info, _ := details[0].(map[string]any)
	if info["@type"] != "type.googleapis.com/google.rpc.ErrorInfo" || info["domain"] != socket.Domain {
		t.Errorf("details[0] is %v", info)
	}
	reason, _ := info["reason"].(string)
	return reason
}

func TestHTTPCalls(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := httpClient(t, s.path)
	code, free, _ := call(t, c, "GET", "/locks/user:42", "")
	if holders, ok := free["holders"].([]any); code != 200 || !ok || len(holders) != 0 {
		t.Errorf("a free lock: %d %v; want an empty list of holders", code, free)
	}
	code, l, _ := call(t, c, "POST", "/locks/user:42:acquire", `{"wait":"0s","ttl":"20s","metadata":{"host":"web-1"}}`)
	token, _ := l["fencing_token"].(string)
	lease, _ := l["lease_id"].(string)
	if code != 200 || l["lock_id"] != "user:42" || token == "" || lease == "" || l["ttl"] != "20s" || l["shared"] != false {
		t.Fatalf("acquire: %d %v", code, l)
	}
	if code, e, _ := call(t, c, "POST", "/locks/user:42:acquire", `{"wait":"0s"}`); code != 409 || reasonIn(t, e) != "LOCK_HELD" {
		t.Errorf("a try: %d %v", code, e)
	}
	if code, e, _ := call(t, c, "POST", "/locks/user:42:release", `{"lease_id":"`+lease+`","fencing_token":"1"}`); code != 409 || reasonIn(t, e) != "STALE_TOKEN" {
		t.Errorf("a release with a wrong token: %d %v", code, e)
	}
	proof := `{"lease_id":"` + lease + `","fencing_token":` + token + `}` // also as a number
	if code, r, _ := call(t, c, "POST", "/locks/user:42:renew", proof); code != 200 || r["fencing_token"] != token {
		t.Errorf("renew: %d %v", code, r)
	}
	if code, r, _ := call(t, c, "GET", "/locks?prefix=user:&page_size=10", ""); code != 200 || len(r["locks"].([]any)) != 1 {
		t.Errorf("list: %d %v", code, r)
	}
	if code, r, _ := call(t, c, "POST", "/locks/user:42:release", proof); code != 200 || r["hold_count"] != 0.0 {
		t.Errorf("release: %d %v", code, r)
	}
	if code, r, _ := call(t, c, "POST", "/locks/empty/body:acquire", ""); code != 200 {
		t.Errorf("an empty body: %d %v", code, r)
	}
	if code, r, _ := call(t, c, "GET", "/status", ""); code != 200 || r["draining"] != false {
		t.Errorf("status: %d %v", code, r)
	}
	if code, r, _ := call(t, c, "GET", "/healthz", ""); code != 200 || r["status"] != "SERVING" {
		t.Errorf("healthz: %d %v", code, r)
	}
}

func TestHTTPForceRelease(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := httpClient(t, s.path)
	_, l, _ := call(t, c, "POST", "/locks/a:acquire", "")
	token, _ := l["fencing_token"].(string)
	if code, e, _ := call(t, c, "POST", "/locks/a:force-release", `{"fencing_token":"`+token+`"}`); code != 400 || reasonIn(t, e) != "INVALID_REASON" {
		t.Errorf("without a reason: %d %v", code, e)
	}
	code, r, _ := call(t, c, "POST", "/locks/a:force-release", `{"fencing_token":"`+token+`","reason":"it hangs","immediate":true}`)
	if code != 200 || r["ended"] != true {
		t.Errorf("force-release: %d %v", code, r)
	}
}

func TestHTTPRefusals(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := httpClient(t, s.path)
	for _, tt := range []struct {
		method, path, body string
		code               int
		reason, says       string
	}{
		{"POST", "/locks/a:acquire", `{"wiat":"0s"}`, 400, "INVALID_REQUEST", "wiat"},
		{"POST", "/locks/a:acquire", `{`, 400, "INVALID_REQUEST", "body"},
		{"POST", "/locks/a:acquire", `{"ttl":"10"}`, 400, "INVALID_REQUEST", `"10"`},
		{"POST", "/locks/a:acquire", `{"ttl":"1000s"}`, 400, "INVALID_TTL", "ttl"},
		{"POST", "/locks/a:acquire", `{"wait":"-1s"}`, 400, "INVALID_WAIT", "wait"},
		{"POST", "/locks/a:acquire", `{"lock_id":"b"}`, 400, "INVALID_LOCK_ID", "lock_id"},
		{"POST", "/locks/a:acquire", `{"linger":true}`, 400, "INVALID_LINGER", "Hold"},
		{"POST", "/locks/a:acquire", `{"metadata":{"k":"` + strings.Repeat("v", 70<<10) + `"}}`, 429, "LIMIT_EXCEEDED", "65536"},
		{"POST", "/locks/:acquire", ``, 400, "INVALID_LOCK_ID", "empty"},
		{"POST", "/locks/a/../b:acquire", ``, 400, "INVALID_LOCK_ID", ".."},
		{"POST", "/locks/a//b:acquire", ``, 400, "INVALID_LOCK_ID", "empty segment"},
		{"POST", "/locks//a:acquire", ``, 400, "INVALID_LOCK_ID", "slash"},
		{"POST", "/locks/a%2F..%2Fb:acquire", ``, 400, "INVALID_LOCK_ID", ".."},
		{"POST", "/locks/a%00b:acquire", ``, 400, "INVALID_LOCK_ID", ""},
		{"GET", "/locks/a%20b", ``, 400, "INVALID_LOCK_ID", ""},
		{"POST", "/locks/a:hold", `{"wiat":"0s"}`, 400, "INVALID_REQUEST", "wiat"},
		{"POST", "/locks/a:hold", `{"adopt":{"lease_id":"x","fencing_token":"7"}}`, 409, "LEASE_LOST", ""},
		{"POST", "/locks/a:hold", `{"ttl":"1000s"}`, 400, "INVALID_TTL", ""},
		{"GET", "/locks?prefx=a", ``, 400, "INVALID_REQUEST", "prefx"},
		{"GET", "/locks?page_size=9999", ``, 400, "INVALID_PAGE_SIZE", ""},
		{"GET", "/locks?page_size=x", ``, 400, "INVALID_PAGE_SIZE", ""},
		{"GET", "/nothing", ``, 404, "NO_SUCH_PATH", ""},
		{"POST", "/locks/a:steal", ``, 404, "NO_SUCH_PATH", ""},
		{"DELETE", "/locks/a", ``, 405, "WRONG_METHOD", ""},
	} {
		code, answer, _ := call(t, c, tt.method, tt.path, tt.body)
		message, _ := answer["message"].(string)
		if code != tt.code || reasonIn(t, answer) != tt.reason || !strings.Contains(message, tt.says) {
			t.Errorf("%s %s %.40s: %d %v; want %d %s that says %q", tt.method, tt.path, tt.body, code, answer, tt.code, tt.reason, tt.says)
		}
	}
}

// broken is a driver whose store is out of reach.
type broken struct {
	driver.Driver
	err error
}

func (b broken) Acquire(context.Context, *driver.AcquireRequest) (*driver.AcquireResult, error) {
	return nil, b.err
}

func (b broken) Unwrap() driver.Driver { return nil }

func TestHTTPUnavailableSaysWhenToRetryAndNothingOfTheStore(t *testing.T) {
	secret := errors.Join(driver.ErrUnavailable, errors.New("dial tcp 10.0.0.7:6379"))
	s := start(t, socket.Options{}, func(d driver.Driver) driver.Driver { return broken{d, secret} })
	code, answer, header := call(t, httpClient(t, s.path), "POST", "/locks/a:acquire", "")
	raw, _ := json.Marshal(answer)
	if code != 503 || reasonIn(t, answer) != "BACKEND_UNAVAILABLE" || header.Get("Retry-After") != "1" || strings.Contains(string(raw), "10.0.0.7") {
		t.Errorf("%d %s, Retry-After %q", code, raw, header.Get("Retry-After"))
	}
}

// holdLine starts a :hold and reads its first event.
func holdLine(t testing.TB, path, lock, body string) (net.Conn, *bufio.Reader, map[string]any) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	_ = c.SetDeadline(time.Now().Add(patience))
	req, err := http.NewRequestWithContext(within(t), "POST", "http://localhost/locks/"+lock+":hold", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	if err := req.Write(c); err != nil {
		t.Fatal(err)
	}
	resp, err := http.ReadResponse(bufio.NewReader(c), req)
	if err != nil {
		t.Fatal(err)
	}
	if resp.StatusCode != 200 {
		raw, _ := io.ReadAll(resp.Body)
		t.Fatalf("hold: %d %s", resp.StatusCode, raw)
	}
	lines := bufio.NewReader(resp.Body)
	return c, lines, nextLine(t, lines)
}

func nextLine(t testing.TB, lines *bufio.Reader) map[string]any {
	t.Helper()
	line, err := lines.ReadBytes('\n')
	if err != nil {
		t.Fatal(err)
	}
	var event map[string]any
	if err := json.Unmarshal(line, &event); err != nil {
		t.Fatalf("%q: %v", line, err)
	}
	return event
}

func TestHTTPHoldStreamsEventsAndKeepsItsLeaseWhenItBreaks(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	first, _, event := holdLine(t, s.path, "user:42", `{"ttl":"60s"}`)
	lease, _ := event["granted"].(map[string]any)
	if lease["lock_id"] != "user:42" || lease["lease_id"] == "" {
		t.Fatalf("the first event is %v", event)
	}
	_, waiting, event := holdLine(t, s.path, "user:42", `{"request_id":"next"}`)
	if queued, _ := event["queued"].(map[string]any); queued["position"] != 1.0 || event["request_id"] != "next" {
		t.Errorf("the waiter is told %v", event)
	}
	_ = first.Close()
	eventually(t, "the keeper renews it no more", func() bool { return s.keeper.Held() == 0 })
	if n := len(s.holders(t, "user:42")); n != 1 {
		t.Fatalf("%d holders after the connection closed, want 1", n)
	}
	id, _ := lease["lease_id"].(string)
	token, _ := lease["fencing_token"].(string)
	_, adopted, event := holdLine(t, s.path, "user:42", `{"adopt":{"lease_id":"`+id+`","fencing_token":"`+token+`"}}`)
	if got, _ := event["granted"].(map[string]any); got["fencing_token"] != token {
		t.Fatalf("adopt: %v", event)
	}
	// A release by another way ends the response.
	if code, r, _ := call(t, httpClient(t, s.path), "POST", "/locks/user:42:release", `{"lease_id":"`+id+`","fencing_token":"`+token+`"}`); code != 200 {
		t.Fatalf("release: %d %v", code, r)
	}
	if lost, _ := nextLine(t, adopted)["lost"].(map[string]any); lost["reason"] != "released" {
		t.Errorf("the holder is told %v", lost)
	}
	if _, err := adopted.ReadByte(); !errors.Is(err, io.EOF) {
		t.Errorf("the response goes on: %v", err)
	}
	for event = nextLine(t, waiting); event["queued"] != nil; event = nextLine(t, waiting) {
	}
	if event["granted"] == nil {
		t.Errorf("the waiter is told %v", event)
	}
}

func TestHTTPClientThatLeavesGivesUpItsPlace(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	c := httpClient(t, s.path)
	if code, l, _ := call(t, c, "POST", "/locks/a:acquire", ""); code != 200 {
		t.Fatal(code, l)
	}
	ctx, cancel := contextWithCancel(t)
	left := make(chan struct{})
	go func() {
		defer close(left)
		req, err := http.NewRequestWithContext(ctx, "POST", "http://localhost/locks/a:acquire", strings.NewReader(`{}`))
		if err != nil {
			t.Error(err)
			return
		}
		if resp, err := c.Do(req); err == nil {
			_ = resp.Body.Close()
		}
	}()
	eventually(t, "the request waits", func() bool { return s.waiters(t, "a") == 1 })
	cancel()
	<-left
	eventually(t, "its place is given up", func() bool { return s.waiters(t, "a") == 0 })
}
