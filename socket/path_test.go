package socket

import (
	"errors"
	"net/http"
	"net/url"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/backend"
)

func TestRoute(t *testing.T) {
	for _, c := range []struct {
		method, path string
		verb, id     string
		err          error
	}{
		{"POST", "/locks/a:acquire", "Acquire", "a", nil},
		{"POST", "/locks/user:42:cart:acquire", "Acquire", "user:42:cart", nil},
		{"POST", "/locks/payments/eu/7:release", "Release", "payments/eu/7", nil},
		{"POST", "/locks/a%2Fb:renew", "Renew", "a/b", nil},
		{"POST", "/locks/a%252Fb:hold", "Hold", "a%2Fb", nil},
		{"POST", "/locks/a%3Aacquire", "Acquire", "a", nil},
		{"POST", "/locks/a:acquire:force-release", "ForceRelease", "a:acquire", nil},
		{"POST", "/locks/a/../b:acquire", "Acquire", "a/../b", nil},
		{"POST", "/locks//a:acquire", "Acquire", "/a", nil},
		{"POST", "/locks/:acquire", "Acquire", "", nil},
		{"GET", "/locks/user:42", "Get", "user:42", nil},
		{"GET", "/locks/a:acquire", "Get", "a:acquire", nil},
		{"GET", "/locks/", "Get", "", nil},
		{"GET", "/locks", "List", "", nil},
		{"GET", "/status", "GetStatus", "", nil},
		{"POST", "/locks/a:b:cancel-waiter", "CancelWaiter", "a:b", nil},
		{"POST", "/locks/a:reprioritize", "Reprioritize", "a", nil},
		{"GET", "/events", "Watch", "", nil},
		{"POST", "/locks/a:drain", "Drain", "a", nil},
		{"POST", "/events", "", "", errVerb},
		{"POST", "/locks/user:42", "", "", errNoPath},
		{"POST", "/locks/a", "", "", errNoPath},
		{"POST", "/locks", "", "", errVerb},
		{"DELETE", "/locks/a", "", "", errVerb},
		{"GET", "/", "", "", errNoPath},
		{"GET", "/lockss/a", "", "", errNoPath},
		{"GET", "/locks/%zz", "", "", errNoPath},
	} {
		e, err := route(c.method, c.path)
		if !errors.Is(err, c.err) || e.lockID != c.id || !strings.HasSuffix(e.method, c.verb) || c.verb == "" && e.method != "" {
			t.Errorf("%s %s: %+v, %v; want %s of %q, %v", c.method, c.path, e, err, c.verb, c.id, c.err)
		}
	}
}

// Whatever the path: the id is what one decoding gives, and no id that is valid
// comes from another spelling than its own.
func FuzzRoute(f *testing.F) {
	for _, id := range []string{"a", "a/b", "user:42:cart", "100%", "a%2Fb", "{a}", "a/../b", "a//b", "ä", "a b", ""} {
		f.Add("/locks/"+url.PathEscape(id)+":acquire", id)
		f.Add("/locks/"+id+":acquire", id)
	}
	f.Fuzz(func(t *testing.T, path, id string) {
		if e, err := route(http.MethodPost, path); err == nil && e.perLock {
			decoded, decodeErr := url.PathUnescape(path)
			if decodeErr != nil || !strings.HasPrefix(decoded, "/locks/"+e.lockID+":") {
				t.Errorf("%q became the lock %q", path, e.lockID)
			}
		}
		if backend.ValidLockID(id) != nil {
			return
		}
		for _, spelling := range []string{url.PathEscape(id), strings.ReplaceAll(id, "%", "%25")} {
			// The way through net/url, as a server gets it.
			u, err := url.ParseRequestURI("/locks/" + spelling + ":acquire")
			if err != nil {
				t.Fatalf("%q: %v", spelling, err)
			}
			if e, err := route(http.MethodPost, u.EscapedPath()); err != nil || e.lockID != id {
				t.Errorf("%q became %q, %v; want %q", spelling, e.lockID, err, id)
			}
		}
	})
}
