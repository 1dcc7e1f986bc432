package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

var operators = regexp.MustCompile(`https?://127\.0\.0\.1:\d+/"`)

// adminURL is where the daemon says that operators are served.
func (c *configured) adminURL(t *testing.T) string {
	t.Helper()
	at := func() string {
		for line := range strings.Lines(c.d.Output()) {
			if strings.Contains(line, "operators are served") {
				return strings.TrimSuffix(operators.FindString(line), `"`)
			}
		}
		return ""
	}
	eventually(t, "the log says where operators are served", func() bool { return at() != "" })
	return at()
}

// operator is a client of the listener for operators.
type operator struct {
	http.Client
	url, token string
}

func (o *operator) call(t *testing.T, method, path, body string) (code int, answer string) {
	t.Helper()
	req, err := http.NewRequestWithContext(within(t), method, o.url+strings.TrimPrefix(path, "/"), strings.NewReader(body))
	if err != nil {
		t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	if o.token != "" {
		req.Header.Set("Authorization", "Bearer "+o.token)
	}
	resp, err := o.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	return resp.StatusCode, string(raw)
}

// With a token, operators read over TCP, and change nothing unless that is
// configured. A token that was changed in its file counts at once.
func TestOperatorsReadByAToken(t *testing.T) {
	file := filepath.Join(t.TempDir(), "token")
	replace(t, file, "a token of 20 letters\n")
	c := configure(t, fmt.Sprintf("backends: {a: {url: 'embedded:'}}\nadmin: {listen: '127.0.0.1:0', token_file: %s}\n", file))
	o := &operator{url: c.adminURL(t), token: "a token of 20 letters"}
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "jobs/1", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	for path, want := range map[string]string{"/locks": `"jobs/1"`, "/locks/jobs/1": `"fencing_token":"`, "/status?find_deadlocks=true": `"deadlock_search":{"time"`} {
		if code, answer := o.call(t, "GET", path, ""); code != 200 || !strings.Contains(answer, want) {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
	force := fmt.Sprintf(`{"fencing_token":"%d","reason":"test"}`, l.GetFencingToken())
	for path, want := range map[string]int{
		"/locks/jobs/1:force-release": 403, "/locks/jobs/1:cancel-waiter": 403, "/locks/jobs/1:reprioritize": 403,
		"/locks/jobs/1:acquire": 404, "/locks/jobs/1:hold": 404, "/locks/jobs/1:renew": 404, "/locks/jobs/1:release": 404,
	} {
		if code, answer := o.call(t, "POST", path, force); code != want {
			t.Errorf("%s: %d %s", path, code, answer)
		}
	}
	if code, _ := o.call(t, "GET", "/events", ""); code != 404 {
		t.Errorf("events: %d", code)
	}
	if l := c.lock(t, "jobs/1"); len(l.GetHolders()) != 1 || l.GetHolders()[0].GetRevoked() {
		t.Errorf("it was changed: %v", l)
	}
	logged := func(parts ...string) bool {
		for line := range strings.Lines(c.d.Output()) {
			missing := func(part string) bool { return !strings.Contains(line, part) }
			if strings.Contains(line, `"an operator was refused"`) && strings.Contains(line, `"remote":"127.0.0.1:`) && !slices.ContainsFunc(parts, missing) {
				return true
			}
		}
		return false
	}
	eventually(t, "what may not be changed is in the log", func() bool {
		return logged(`"operator":"token"`, `"verb":"force"`, `AdminService/ForceRelease"`, `"lock":"jobs/1"`)
	})
	replace(t, file, "another token of 25 letters\n")
	if code, _ := o.call(t, "GET", "/locks", ""); code != 401 {
		t.Errorf("the old token: %d", code)
	}
	eventually(t, "a token that is wrong is in the log", func() bool { return logged(`"verb":"inspect"`, `"a token or a certificate is needed"`) })
	o.token = "another token of 25 letters"
	if code, _ := o.call(t, "GET", "/locks", ""); code != 200 {
		t.Errorf("the new token: %d", code)
	}
	if exit, said := command(t, "serve", "--backend", "embedded:", "--admin", "127.0.0.1:0", "--socket", socketPath(t)); exit != 64 || !strings.Contains(said, "nobody is served without") {
		t.Errorf("without a token: %d %s", exit, said)
	}
}

// With certificates, who did what an operator does is told by the certificate's
// name; nobody comes in without one.
func TestOperatorsChangeByACertificate(t *testing.T) {
	ca, stranger := testenv.NewAuthority(t), testenv.NewAuthority(t)
	server := ca.Server(t)
	c := configure(t, fmt.Sprintf("backends: {a: {url: 'embedded:'}}\nadmin: {listen: '127.0.0.1:0', tls_cert: %s, tls_key: %s, client_ca: %s, write: true}\n",
		server.CertFile, server.KeyFile, ca.CertFile))
	url := c.adminURL(t)
	if !strings.HasPrefix(url, "https://") {
		t.Fatalf("served at %s", url)
	}
	by := func(shown ...testenv.Certificate) *operator {
		config, err := ca.Config(shown...)
		if err != nil {
			t.Fatal(err)
		}
		return &operator{url: url, Client: http.Client{Transport: &http.Transport{TLSClientConfig: config}}}
	}
	for name, o := range map[string]*operator{"none": by(), "another authority's": by(stranger.Client(t, "ops")), "an old one": by(ca.ExpiredClient(t, "ops"))} {
		req, err := http.NewRequestWithContext(within(t), http.MethodGet, o.url, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp, err := o.Do(req); err == nil {
			_ = resp.Body.Close()
			t.Errorf("%s: served with %s", name, resp.Status)
		}
	}
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "jobs/1", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	o := by(ca.Client(t, "ops-1"))
	if code, answer := o.call(t, "POST", "/locks/jobs/1:force-release", fmt.Sprintf(`{"fencing_token":"%d","reason":"test"}`, l.GetFencingToken())); code != 200 {
		t.Fatalf("%d %s", code, answer)
	}
	ctx, cancel := context.WithCancel(within(t))
	defer cancel()
	events, err := c.Watch(ctx, &lockpb.WatchRequest{After: "oldest"})
	if err != nil {
		t.Fatal(err)
	}
	for {
		e, err := events.Recv()
		if err != nil {
			t.Fatal(err)
		}
		if e.GetType() == "force_released" {
			if !strings.Contains(e.GetOperator(), "ops-1") || e.GetReason() != "test" {
				t.Errorf("told as %v", e)
			}
			break
		}
	}
}
