package e2e

import (
	"bufio"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"net/url"
	"path/filepath"
	"regexp"
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

var held = regexp.MustCompile(`^[0-9]+ s$`)

var remaining = regexp.MustCompile(`^[1-6]?[0-9](\.[0-9])? s$`)

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
	t.Parallel()
	const token, next, markup = "a token of 20 letters", "another token of 25 letters", "<img src=x onerror=alert(1)>"
	cmd := testenv.Chromium(t, filepath.Join("testdata", "page.mjs"))
	file := filepath.Join(t.TempDir(), "token")
	replace(t, file, token+"\n")
	down := testenv.StartRedisT(t)
	down.Kill()
	c := configure(t, fmt.Sprintf("backends:\n  a: {url: 'embedded:'}\n  b: {url: '%s'}\nroutes: [{match: jobs/**, backend: a}, {match: knot/**, backend: a}, {match: '**', backend: b}]\nadmin: {listen: '127.0.0.1:0', token_file: %s}\n",
		down.URL("timeout=500ms"), file))
	base := c.adminURL(t)
	plain := c.holds(t, &lockpb.AcquireRequest{LockId: "jobs/plain", OwnerId: markup, Metadata: map[string]string{"<b>host</b>": "<script>alert(2)</script>"}})
	c.holds(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "reader-1", Shared: true})
	c.holds(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "reader-2", Shared: true})
	c.waits(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "<b>writer</b>", Priority: 7})
	c.waits(t, &lockpb.AcquireRequest{LockId: "jobs/shared", OwnerId: "last", Shared: true})
	c.holds(t, &lockpb.AcquireRequest{LockId: "knot/1", OwnerId: "app-1"})
	c.holds(t, &lockpb.AcquireRequest{LockId: "knot/2", OwnerId: "app-2"})
	c.waits(t, &lockpb.AcquireRequest{LockId: "knot/2", OwnerId: "app-1"})
	c.waits(t, &lockpb.AcquireRequest{LockId: "knot/1", OwnerId: "app-2"})

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
			c.holds(t, &lockpb.AcquireRequest{LockId: "jobs/later", OwnerId: "late"})
		case "link":
			replace(t, file, next+"\n")
		case "next":
			c.d.Kill()
		}
	}
	if err := errors.Join(lines.Err(), cmd.Wait()); err != nil {
		t.Fatalf("the browser: %v\n%s\nthe last look: %+v", err, printed.String(), looks["failed"])
	}

	for name, state := range map[string]string{"none": "a token is needed", "wrong": "the token is not right", "replaced": "the token is not right"} {
		s, ok := looks[name]
		if controls := []string{"token", "enter"}; !ok || !s.Login || s.State != state || len(s.Backends)+len(s.Locks)+len(s.Deadlocks) > 0 || !slices.Equal(s.Controls, controls) {
			t.Errorf("%s: %+v", name, s)
		}
	}
	for _, name := range []string{"token", "later", "deadlock", "narrow", "link", "next", "gone"} {
		s := looks[name]
		// The controls only choose what is shown.
		if controls := []string{"look", "prefix", "contended"}; s.Login || s.Foreign > 0 || s.Wide || !slices.Equal(s.Controls, controls) {
			t.Errorf("%s: %+v", name, s)
		}
		if gone := strings.HasPrefix(s.State, "the sidecar does not answer, this is as of "); gone != (name == "gone") || !gone && !strings.HasPrefix(s.State, "as of ") {
			t.Errorf("%s: the state is %q", name, s.State)
		}
		if strings.Contains(s.Kept, token) || strings.Contains(s.Kept, next) || s.Kept == "" {
			t.Errorf("%s: the browser keeps %q", name, s.Kept)
		}
		if r := row(s.Backends, "a", "embedded", "yes", "closed"); r == nil {
			t.Errorf("%s: the backends are %q", name, s.Backends)
		}
		if r := row(s.Backends, "b", "redis", "no"); r == nil || s.Unread != "b cannot be read" {
			t.Errorf("%s: the backends are %q, and of the locks it says %q", name, s.Backends, s.Unread)
		}
		if r := row(s.Locks, "jobs/plain", markup, fmt.Sprint(plain.GetFencingToken()), "exclusive"); len(r) != 9 || !held.MatchString(r[4]) || !remaining.MatchString(r[5]) || r[6] != "<b>host</b>=<script>alert(2)</script>" || r[7] != "" || r[8] != "a" {
			t.Errorf("%s: the locks are %q", name, s.Locks)
		}
		if r := row(s.Locks, "jobs/shared", "reader-1"); len(r) != 9 || r[3] != "shared" || r[7] != "1. <b>writer</b> (exclusive, priority 7, ticket 1)\n2. last (shared, priority 0, ticket 2)" || row(s.Locks, "jobs/shared", "reader-2") == nil {
			t.Errorf("%s: the locks are %q", name, s.Locks)
		}
		if r := row(s.Locks, "jobs/later", "late"); (r != nil) != (name != "token") {
			t.Errorf("%s: the locks are %q", name, s.Locks)
		}
	}
	if s := looks["deadlock"]; len(s.Deadlocks) != 2 || !strings.Contains(s.Looked, "3 contended locks, without b") || !strings.HasSuffix(s.Deadlocks[0][1]+s.Deadlocks[1][1], " (victim)") {
		t.Errorf("the deadlocks are %q: %s", s.Deadlocks, s.Looked)
	}
	if s := looks["contended"]; len(s.Locks) != 4 || row(s.Locks, "knot/1", "app-1") == nil {
		t.Errorf("the contended locks are %q", s.Locks)
	}
	all := looks["all"]
	if len(all.Wrong) > 0 || !slices.Equal(all.Refused, []int{401}) {
		t.Errorf("the browser tells %q; refused with %v", all.Wrong, all.Refused)
	}
	for _, r := range all.Requests {
		if u, err := url.Parse(r.URL); err != nil || u.Scheme+"://"+u.Host+"/" != base || r.Method != "GET" || r.Type != "document" && r.Type != "fetch" {
			t.Errorf("it asked for %v", r)
		}
	}
}

// holds takes a lock that the sidecar renews until the test ends.
func (c client) holds(t *testing.T, r *lockpb.AcquireRequest) *lockpb.Lease {
	t.Helper()
	r.Ttl = seconds(60)
	ctx, cancel := context.WithCancel(t.Context())
	t.Cleanup(cancel)
	s, err := c.Hold(ctx)
	if err != nil {
		t.Fatal(err)
	}
	if err := s.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: r}}); err != nil {
		t.Fatal(err)
	}
	e, err := s.Recv()
	if err != nil || e.GetGranted() == nil {
		t.Fatalf("%s: %v, %v", r.GetLockId(), e, err)
	}
	return e.GetGranted()
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
	eventually(t, "it waits", func() bool {
		return slices.ContainsFunc(c.lock(t, r.GetLockId()).GetWaiters(), func(w *lockpb.Waiter) bool { return w.GetOwnerId() == r.GetOwnerId() })
	})
}
