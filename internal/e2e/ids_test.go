package e2e

import (
	"context"
	"encoding/json"
	"io"
	"net"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// httpClient speaks HTTP/JSON on the socket.
func httpClient(endpoint string) *http.Client {
	path := strings.TrimPrefix(endpoint, "unix://")
	return &http.Client{Transport: &http.Transport{DialContext: func(ctx context.Context, _, _ string) (net.Conn, error) {
		return new(net.Dialer).DialContext(ctx, "unix", path)
	}}}
}

// call posts to (or, without a body, gets) an already encoded path, and returns
// the status and the decoded answer.
func call(t *testing.T, c *http.Client, path, body string) (int, map[string]any) {
	t.Helper()
	method := http.MethodGet
	if body != "" {
		method = http.MethodPost
	}
	req, err := http.NewRequestWithContext(within(t), method, "http://localhost", strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.URL.Opaque = path // sent as it is: no cleaning by the client
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
	return resp.StatusCode, answer
}

// escape writes an id into a URL as a careful client does: every byte that is
// not plainly allowed in a path segment is escaped, slashes are not.
func escape(id string) string {
	segments := strings.Split(id, "/")
	for i, s := range segments {
		segments[i] = url.PathEscape(s)
	}
	return strings.Join(segments, "/")
}

// What one protocol acquires the other sees, whatever the id is made of.
func TestIDsMeanTheSameInGRPCAndHTTP(t *testing.T) {
	redis := testenv.StartRedisT(t)
	for _, backend := range []string{"embedded:", redis.URL()} {
		endpoint := testenv.Daemon(t, "serve", "--backend", backend).Endpoint()
		c, h := dial(t, endpoint), httpClient(endpoint)
		for _, id := range []string{
			"a", "a/b", "a:b", "user:42:cart", "payments/eu/7", "{a}", "{a}b", "100%", "a%2Fb", "a%252Fb", "a=b+c~d@e",
			"a:acquire", "x:y/z:release", "A", strings.Repeat("n", 255),
		} {
			code, lease := call(t, h, "/locks/"+escape(id)+":acquire", `{"wait":"0s","owner_id":"http"}`)
			if code != http.StatusOK || lease["lock_id"] != id {
				t.Errorf("%s: acquire %q by HTTP: %d %v", backend, id, code, lease)
				continue
			}
			got := c.lock(t, id)
			if len(got.GetHolders()) != 1 || got.GetHolders()[0].GetOwnerId() != "http" {
				t.Errorf("%s: gRPC does not see the holder of %q: %v", backend, id, got)
			}
			if code, seen := call(t, h, "/locks/"+escape(id), ""); code != http.StatusOK || seen["lock_id"] != id {
				t.Errorf("%s: get %q by HTTP: %d %v", backend, id, code, seen)
			}
		}
	}
}

func TestHostileIDsAreRefused(t *testing.T) {
	endpoint := testenv.Daemon(t, "serve", "--backend", "embedded:").Endpoint()
	c, h := dial(t, endpoint), httpClient(endpoint)
	for _, id := range []string{"", "/a", "a/", "a//b", "a/../b", "..", ".", "a/.", "a b", "a\nb", "ä", "a\x00b", "a?b", "a#b", "a*", strings.Repeat("n", 256)} {
		_, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Wait: seconds(0)})
		if id != "" && strings.ToValidUTF8(id, "") == id {
			if got := reason(err); status.Code(err) != codes.InvalidArgument || got != "INVALID_LOCK_ID" {
				t.Errorf("gRPC accepted %q or refused it without saying why: %v (%s)", id, err, got)
			}
		}
		code, answer := call(t, h, "/locks/"+escape(id)+":acquire", `{"wait":"0s"}`)
		if code != http.StatusBadRequest {
			t.Errorf("HTTP answered %d to %q, want 400: %v", code, id, answer)
		}
	}
	// Nor does the server clean a path before it looks.
	for _, path := range []string{"/locks/a/../b:acquire", "/locks/a//b:acquire", "/locks/a%2F..%2Fb:acquire", "/locks//a:acquire"} {
		if code, answer := call(t, h, path, `{"wait":"0s"}`); code != http.StatusBadRequest {
			t.Errorf("%s answered %d, want 400: %v", path, code, answer)
		}
	}
}

// reason is the one reason that an error carries.
func reason(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason()
		}
	}
	return ""
}
