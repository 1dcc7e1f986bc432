package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"fmt"
	"net/url"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// seen is what the browser saw in one look: testdata/page.mjs.
type seen struct {
	Name                        string
	Login, Wide                 bool
	State, Looked, Unread, Kept string
	Backends, Locks, Deadlocks  [][]string
	Controls                    []string
	Foreign                     int
	Requests                    []struct{ Method, URL, Type string }
	Refused                     []int
	Wrong                       []string
}

// row is the first row of a table that begins with these cells.
func row(rows [][]string, begins ...string) []string {
	for _, r := range rows {
		if len(r) >= len(begins) && slices.Equal(r[:len(begins)], begins) {
			return r
		}
	}
	return nil
}

// In a browser, the page shows nothing without the token, and with it who holds
// what and who waits for it, as text; it keeps itself current, asks nobody but
// the daemon, and changes nothing.
func TestThePageInABrowser(t *testing.T) {
	const token, next, markup = "a token of 20 letters", "another token of 25 letters", "<img src=x onerror=alert(1)>"
	file := filepath.Join(t.TempDir(), "token")
	replace(t, file, token+"\n")
	down := testenv.StartRedisT(t)
	down.Kill()
	c := configure(t, fmt.Sprintf("backends:\n  a: {url: 'embedded:'}\n  b: {url: '%s'}\nroutes: [{match: jobs/**, backend: a}, {match: knot/**, backend: a}, {match: '**', backend: b}]\nadmin: {listen: '127.0.0.1:0', token_file: %s}\n",
		down.URL("timeout=500ms"), file))
	base := c.adminURL(t)
	plain := c.take(t, &lockpb.AcquireRequest{LockId: "jobs/plain", OwnerId: markup, Metadata: map[string]string{"<b>host</b>": "<script>alert(2)</script>"}})
	c.take(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "reader-1", Shared: true})
	c.take(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "reader-2", Shared: true})
	c.waits(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "<b>writer</b>", Priority: 7})
	c.take(t, &lockpb.AcquireRequest{LockId: "knot/1", OwnerId: "app-1"})
	c.take(t, &lockpb.AcquireRequest{LockId: "knot/2", OwnerId: "app-2"})
	c.waits(t, &lockpb.AcquireRequest{LockId: "knot/2", OwnerId: "app-1"})
	c.waits(t, &lockpb.AcquireRequest{LockId: "knot/1", OwnerId: "app-2"})

	cmd := testenv.Chromium(t, filepath.Join("testdata", "page.mjs"))
	cmd.Env = append(cmd.Env, "BASE="+base, "TOKEN="+token, "NEXT="+next, "LOCK=jobs/plain", "LATER=jobs/later", "DEADLOCK=knot/1")
	var printed strings.Builder
	cmd.Stderr = &printed
	out, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	looks := map[string]seen{}
	lines := bufio.NewScanner(out)
	lines.Buffer(nil, 1<<20)
	for lines.Scan() {
		var s seen
		if err := json.Unmarshal(lines.Bytes(), &s); err != nil {
			t.Errorf("%v in %q", err, lines.Text())
		}
		looks[s.Name] = s
		switch s.Name { // what comes now, the page must find by itself
		case "token":
			c.take(t, &lockpb.AcquireRequest{LockId: "jobs/later", OwnerId: "late"})
		case "link":
			replace(t, file, next+"\n")
		case "next":
			c.d.Kill()
		}
	}
	if err := cmd.Wait(); err != nil {
		t.Fatalf("the browser: %v\n%s\nthe last look: %+v", err, printed.String(), looks["failed"])
	}

	for _, name := range []string{"none", "wrong"} {
		if s := looks[name]; !s.Login || len(s.Backends)+len(s.Locks)+len(s.Deadlocks) > 0 || !strings.Contains(s.State, "token") {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, name := range []string{"token", "later", "deadlock", "narrow", "link"} {
		s := looks[name]
		// The controls only choose what is shown.
		if controls := []string{"look", "prefix", "contended"}; s.Login || s.Foreign > 0 || s.Wide || strings.Contains(s.Kept, token) || !slices.Equal(s.Controls, controls) || !strings.HasPrefix(s.State, "as of ") {
			t.Errorf("%s: %+v", name, s)
		}
		if r := row(s.Locks, "jobs/plain", markup, fmt.Sprint(plain.GetFencingToken()), "exclusive"); r == nil {
			t.Errorf("%s: the locks are %q", name, s.Locks)
		}
	}
	s := looks["deadlock"]
	t.Logf("%+v", s)
	if r := row(s.Backends, "a", "embedded", "yes"); r == nil {
		t.Errorf("the backends are %q", s.Backends)
	}
	if r := row(s.Backends, "b", "redis", "no"); r == nil {
		t.Errorf("the backends are %q", s.Backends)
	}
	all := looks["all"]
	if len(all.Wrong) > 0 || !slices.Equal(all.Refused, []int{401, 503}) {
		t.Errorf("the browser tells %q; refused with %v", all.Wrong, all.Refused)
	}
	for _, r := range all.Requests {
		if u, err := url.Parse(r.URL); err != nil || u.Scheme+"://"+u.Host+"/" != base || r.Method != "GET" || r.Type != "document" && r.Type != "fetch" {
			t.Errorf("it asked for %v", r)
		}
	}
}

// take acquires a lock for a minute.
func (c client) take(t *testing.T, r *lockpb.AcquireRequest) *lockpb.Lease {
	t.Helper()
	r.Ttl = seconds(60)
	l, err := c.Acquire(within(t), r)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// waits asks for a lock that is held, and returns when it stands in the queue. It
// waits until the test ends.
func (c client) waits(t *testing.T, r *lockpb.AcquireRequest) {
	t.Helper()
	r.Ttl, r.Wait = seconds(60), seconds(300)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan struct{})
	go func() {
		defer close(ended)
		_, _ = c.Acquire(ctx, r)
	}()
	t.Cleanup(func() { cancel(); <-ended })
	eventually(t, "it waits", func() bool { return len(c.lock(t, r.GetLockId()).GetWaiters()) > 0 })
}
