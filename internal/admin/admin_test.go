package admin

import (
	"errors"
	"io"
	"log"
	"log/slog"
	"net"
	"net/http"
	"net/http/httptest"
	"os"
	"regexp"
	"strconv"
	"strings"
	"testing"
	"testing/synctest"
	"time"
)

const secret = "0123456789abcdef0123"

// at is a handler of a listener at an address; the API answers with who asks.
func at(address string, change func(*Options)) http.Handler {
	tcp, err := net.ResolveTCPAddr("tcp", address)
	if err != nil {
		panic(err)
	}
	o := Options{
		Address: tcp, Token: func() (string, error) { return secret, nil },
		API: func(who string) http.Handler {
			return http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) { _, _ = w.Write([]byte("served " + who)) })
		},
	}
	if change != nil {
		change(&o)
	}
	return New(o).Handler
}

func ask(h http.Handler, method, path string, header map[string]string) *httptest.ResponseRecorder {
	r := httptest.NewRequest(method, path, strings.NewReader("{}"))
	r.Host = "127.0.0.1:9717"
	for name, value := range header {
		if name == "Host" {
			r.Host = value
		} else {
			r.Header.Set(name, value)
		}
	}
	w := httptest.NewRecorder()
	h.ServeHTTP(w, r)
	return w
}

// A client that cannot even shake hands writes nothing into the log.
func TestNoiseIsNotLogged(t *testing.T) {
	var lines strings.Builder
	log.SetOutput(&lines)
	defer log.SetOutput(os.Stderr)
	s := httptest.NewUnstartedServer(nil)
	s.Config = New(Options{Address: s.Listener.Addr()})
	s.StartTLS()
	c, err := net.Dial("tcp", s.Listener.Addr().String())
	if err != nil {
		t.Fatal(err)
	}
	_, _ = c.Write([]byte("GET / HTTP/1.0\r\n\r\n"))
	_, _ = io.Copy(io.Discard, c)
	_ = c.Close()
	s.Close()
	if lines.Len() > 0 {
		t.Errorf("the log has %q", lines.String())
	}
}

// Who is refused is told with where they came from and what they wanted, without the
// token that they tried and without a line for each attempt.
func TestRefusedOperatorsAreLogged(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		var lines strings.Builder
		broken := false
		h := at("127.0.0.1:9717", func(o *Options) {
			o.Logger = slog.New(slog.NewTextHandler(&lines, nil))
			o.Token = func() (string, error) {
				if broken {
					return "", os.ErrPermission
				}
				return secret, nil
			}
		})
		wrong := map[string]string{"Authorization": "Bearer a guess that is wrong", "Content-Type": "application/json"}
		ask(h, "GET", "/locks/a", map[string]string{"Authorization": "Bearer " + secret})
		if lines.Len() > 0 {
			t.Errorf("of one who was served the log has %q", lines.String())
		}
		ask(h, "GET", "/locks/a", nil)
		ask(h, "POST", "/locks/a:force-release", wrong)
		broken = true
		ask(h, "GET", "/locks/a", wrong)
		for _, want := range []string{"verb=inspect", "verb=force", "remote=192.0.2.1:1234", "level=WARN", "a token or a certificate is needed", os.ErrPermission.Error()} {
			if !strings.Contains(lines.String(), want) {
				t.Errorf("the log has no %q:\n%s", want, lines.String())
			}
		}
		for range 1000 {
			ask(h, "GET", "/locks/a", wrong)
		}
		if n := strings.Count(lines.String(), "\n"); n != logBurst {
			t.Errorf("%d lines in a second, want %d", n, logBurst)
		}
		time.Sleep(logInterval)
		ask(h, "GET", "/locks/a", wrong)
		if want := "count=" + strconv.Itoa(1000+3-logBurst); !strings.Contains(lines.String(), want) || strings.Contains(lines.String(), "a guess") {
			t.Errorf("want %q and no token:\n%s", want, lines.String())
		}
	})
}

// What is not an operator's own request gets nothing, whatever it tries.
func TestOnlyOperatorsAreServed(t *testing.T) {
	bearer := "Bearer " + secret
	for _, c := range []struct {
		name, method string
		header       map[string]string
		code         int
	}{
		{"the token", "GET", map[string]string{"Authorization": bearer}, 200},
		{"the scheme in another case", "GET", map[string]string{"Authorization": "bearer " + secret}, 200},
		{"nothing", "GET", nil, 401},
		{"another token", "GET", map[string]string{"Authorization": "Bearer " + strings.Repeat("x", len(secret))}, 401},
		{"a part of it", "GET", map[string]string{"Authorization": "Bearer " + secret[:19]}, 401},
		{"more than it", "GET", map[string]string{"Authorization": bearer + "4"}, 401},
		{"another scheme", "GET", map[string]string{"Authorization": "Basic " + secret}, 401},
		{"a cookie", "GET", map[string]string{"Cookie": "token=" + secret}, 401},
		{"localhost", "GET", map[string]string{"Authorization": bearer, "Host": "localhost:9717"}, 200},
		{"the loopback of IPv6", "GET", map[string]string{"Authorization": bearer, "Host": "[::1]:9717"}, 200},
		{"a name whose DNS leads here", "GET", map[string]string{"Authorization": bearer, "Host": "evil.example:9717"}, 421},
		{"a name that begins as ours", "GET", map[string]string{"Authorization": bearer, "Host": "localhost.evil.example:9717"}, 421},
		{"an address that is not ours", "GET", map[string]string{"Authorization": bearer, "Host": "10.0.0.1:9717"}, 421},
		{"another port", "GET", map[string]string{"Authorization": bearer, "Host": "127.0.0.1:80"}, 421},
		{"no host", "GET", map[string]string{"Authorization": bearer, "Host": ""}, 421},
		{"our own page", "GET", map[string]string{"Authorization": bearer, "Origin": "http://127.0.0.1:9717", "Sec-Fetch-Site": "same-origin"}, 200},
		{"another site's page", "GET", map[string]string{"Authorization": bearer, "Origin": "http://evil.example"}, 403},
		{"a page of another port", "GET", map[string]string{"Authorization": bearer, "Origin": "http://127.0.0.1:80"}, 403},
		{"a page of another scheme", "GET", map[string]string{"Authorization": bearer, "Origin": "https://127.0.0.1:9717"}, 403},
		{"a page without an origin", "POST", map[string]string{"Authorization": bearer, "Origin": "null", "Content-Type": "application/json"}, 403},
		{"a link on another site", "GET", map[string]string{"Authorization": bearer, "Sec-Fetch-Site": "cross-site"}, 403},
		{"a page of the same site", "GET", map[string]string{"Authorization": bearer, "Sec-Fetch-Site": "same-site"}, 403},
		{"JSON", "POST", map[string]string{"Authorization": bearer, "Content-Type": "application/json; charset=utf-8"}, 200},
		{"a form", "POST", map[string]string{"Authorization": bearer, "Content-Type": "application/x-www-form-urlencoded"}, 415},
		{"text", "POST", map[string]string{"Authorization": bearer, "Content-Type": "text/plain"}, 415},
		{"no type", "POST", map[string]string{"Authorization": bearer}, 415},
	} {
		w := ask(at("127.0.0.1:9717", nil), c.method, "/locks/a", c.header)
		if w.Code != c.code || (c.code == 200) != (w.Body.String() == "served token") {
			t.Errorf("%s: %d %q, want %d", c.name, w.Code, w.Body, c.code)
		}
		for name, want := range map[string]string{"X-Content-Type-Options": "nosniff", "X-Frame-Options": "DENY", "Cache-Control": "no-store", "Content-Security-Policy": policy} {
			if got := w.Header().Get(name); got != want {
				t.Errorf("%s: %s is %q", c.name, name, got)
			}
		}
		if w.Header().Get("Access-Control-Allow-Origin") != "" || strings.Contains(w.Body.String(), secret) {
			t.Errorf("%s: %v %q", c.name, w.Header(), w.Body)
		}
	}
}

func TestHostsAreThoseOfTheListener(t *testing.T) {
	named := func(o *Options) { o.Hosts = []string{"locks.example.com"} }
	for _, c := range []struct {
		listens, host string
		ours          bool
	}{
		{"10.1.2.3:9717", "10.1.2.3:9717", true}, {"10.1.2.3:9717", "127.0.0.1:9717", false}, {"10.1.2.3:9717", "localhost:9717", false},
		{"10.1.2.3:443", "10.1.2.3", true}, {"[::]:9717", "10.9.9.9:9717", true}, {"[::]:9717", "evil.example:9717", false},
		{"10.1.2.3:9717", "locks.example.com:8443", true}, {"10.1.2.3:9717", "LOCKS.example.com.", true}, {"10.1.2.3:9717", "xlocks.example.com", false},
	} {
		w := ask(at(c.listens, named), "GET", "/status", map[string]string{"Host": c.host, "Authorization": "Bearer " + secret})
		if (w.Code == 200) != c.ours {
			t.Errorf("%s asked for %s: %d", c.listens, c.host, w.Code)
		}
	}
}

func TestTokensThatAreNone(t *testing.T) {
	for name, c := range map[string]struct {
		token func() (string, error)
		code  int
	}{
		"none":       {nil, 401},
		"empty":      {func() (string, error) { return "", nil }, 401},
		"short":      {func() (string, error) { return "short", nil }, 401},
		"unreadable": {func() (string, error) { return "", errors.New("open /etc/secret: denied") }, 503},
	} {
		for _, given := range []string{"", "short", secret} {
			w := ask(at("127.0.0.1:9717", func(o *Options) { o.Token = c.token }), "GET", "/status", map[string]string{"Authorization": "Bearer " + given})
			if w.Code != c.code || strings.Contains(w.Body.String(), "/etc") {
				t.Errorf("%s, given %q: %d %s", name, given, w.Code, w.Body)
			}
		}
	}
}

// The page needs no token, and has no data; nothing in it is loaded from
// elsewhere, and nothing that comes from a lock is taken for markup.
func TestPage(t *testing.T) {
	h := at("127.0.0.1:9717", nil)
	w := ask(h, "GET", "/", nil)
	text := w.Body.String()
	if w.Code != 200 || w.Header().Get("Content-Type") != "text/html; charset=utf-8" || !strings.Contains(text, "<h2>Deadlocks</h2>") {
		t.Fatalf("%d %v", w.Code, w.Header())
	}
	for _, bad := range []string{`(?i)https?://`, `(?i)(src|href)=`, `(?i)innerHTML|outerHTML|insertAdjacent|document\.write|eval\(|Function\(`, `(?i)\son[a-z]+=`, `style="`, `/\*s(tyle|cript)\*/`} {
		if found := regexp.MustCompile(bad).FindString(text); found != "" {
			t.Errorf("the page has %q", found)
		}
	}
	// The browser runs what the policy names by its hash: the one script, whole.
	for _, part := range []struct{ open, end, directive string }{{"<script>", "</script>", "script-src "}, {"<style>", "</style>", "style-src "}} {
		if strings.Count(text, part.open) != 1 || strings.Count(text, part.end) != 1 {
			t.Fatalf("the page has not one %s", part.open)
		}
		_, rest, _ := strings.Cut(text, part.open)
		inside, _, _ := strings.Cut(rest, part.end)
		if !strings.Contains(policy, part.directive+hash(inside)+";") {
			t.Errorf("the policy %q does not name what is in %s", policy, part.open)
		}
	}
	if strings.Contains(policy, "unsafe") || !strings.HasPrefix(policy, "default-src 'none'; ") {
		t.Errorf("the policy is %q", policy)
	}
	if w := ask(h, "GET", "/", map[string]string{"Host": "evil.example"}); w.Code != 421 {
		t.Errorf("another host's page: %d", w.Code)
	}
	if w := ask(h, "POST", "/", nil); w.Code != 401 {
		t.Errorf("posted to: %d", w.Code)
	}
}
