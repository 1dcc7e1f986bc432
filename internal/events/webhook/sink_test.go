package webhook

import (
	"context"
	"crypto/tls"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

type tally struct{ delivered, dropped, retried atomic.Uint64 }

func (c *tally) Delivered(n uint64) { c.delivered.Add(n) }
func (c *tally) Dropped(n uint64)   { c.dropped.Add(n) }
func (c *tally) Retried(n uint64)   { c.retried.Add(n) }

// consumer keeps what it is sent.
type consumer struct {
	mu     sync.Mutex
	got    []cloudEvent
	header []http.Header
	// answer decides the status; nil means 204.
	answer func(e *cloudEvent) int
}

func (c *consumer) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	raw, _ := io.ReadAll(r.Body)
	var e cloudEvent
	if err := json.Unmarshal(raw, &e); err != nil {
		http.Error(w, err.Error(), http.StatusBadRequest)
		return
	}
	status := http.StatusNoContent
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.answer != nil {
		status = c.answer(&e)
	}
	if status == http.StatusNoContent {
		c.got, c.header = append(c.got, e), append(c.header, r.Header.Clone())
	}
	w.WriteHeader(status)
}

func (c *consumer) all() []cloudEvent {
	c.mu.Lock()
	defer c.mu.Unlock()
	return append([]cloudEvent(nil), c.got...)
}

func event(lock string, token int) backend.Event {
	return backend.Event{Kind: backend.Acquired, LockID: lock, OwnerID: "owner", RequestID: fmt.Sprint("5ecret ", token), Token: int64(token), HoldCount: 1}
}

type running struct {
	*Sink
	t *testing.T
	l *events.Log
	tally
	stop, cut context.CancelFunc
	ended     chan struct{}
}

func start(t *testing.T, l *events.Log, o Options) *running {
	t.Helper()
	return startAfter(t, l, o, 0)
}

func startAfter(t *testing.T, l *events.Log, o Options, after uint64) *running {
	t.Helper()
	r := &running{t: t, l: l, ended: make(chan struct{})}
	o.Name, o.Sidecar, o.Counter = "jobs", "web-1", &r.tally
	var err error
	if r.Sink, err = New(o); err != nil {
		t.Fatal(err)
	}
	var ctx, last context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	last, r.cut = context.WithCancel(context.Background())
	go func() {
		defer close(r.ended)
		r.Run(ctx, last, l, after)
	}()
	t.Cleanup(func() { r.cut(); r.end() })
	return r
}

func (r *running) end() {
	r.stop()
	<-r.ended
}

func (r *running) until(what string, condition func() bool) {
	r.t.Helper()
	for end := time.Now().Add(60 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

func TestEventsAreCloudEvents(t *testing.T) {
	c := &consumer{}
	server := httptest.NewServer(c)
	defer server.Close()
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, []byte("t0ken\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL + "/locks?x=1", TokenFile: secret})
	l.Of("main").Happened(event("jobs/1", 7))
	l.Of("main").Happened(backend.Event{Kind: backend.Released, LockID: "jobs/1", Token: 7})
	r.end()
	got := c.all()
	if len(got) != 2 {
		t.Fatalf("got %+v", got)
	}
	e := got[0]
	if e.SpecVersion != "1.0" || e.Type != "dev.locksidecar.lock.granted" || e.Subject != "jobs/1" || e.Source != "/locksidecar/backends/main" ||
		e.ID == "" || e.Time.IsZero() || e.DataContentType != "application/json" || e.Sidecar != "web-1" || e.PartitionKey != "jobs/1" ||
		e.Data.Token != "7" || e.Data.Type != "acquired" || *e.Data.HoldCount != 1 {
		t.Errorf("%+v", e)
	}
	if got[1].Type != "dev.locksidecar.lock.released" || *got[1].Data.HoldCount != 0 || got[1].ID == e.ID {
		t.Errorf("%+v", got[1])
	}
	h := c.header[0]
	if h.Get("Content-Type") != "application/cloudevents+json; charset=utf-8" || h.Get("Authorization") != "Bearer t0ken" {
		t.Errorf("headers %v", h)
	}
	if raw := fmt.Sprintf("%+v", got); strings.Contains(raw, "5ecret") {
		t.Errorf("a request id is told: %s", raw)
	}
	if r.delivered.Load() != 2 || r.dropped.Load() != 0 || r.Done() != 2 {
		t.Errorf("delivered %d, dropped %d, done %d", r.delivered.Load(), r.dropped.Load(), r.Done())
	}
}

// A deadlock comes with its whole cycle.
func TestADeadlockHasItsCycle(t *testing.T) {
	c := &consumer{}
	server := httptest.NewServer(c)
	defer server.Close()
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL})
	l.Deadlock(&lockpb.Deadlock{Id: "0123", Waits: []*lockpb.Wait{
		{Backend: "main", LockId: "x", OwnerId: "a", Ticket: 3, WaitsFor: "b", FencingToken: 7}, {Backend: "main", LockId: "y", OwnerId: "b", Ticket: 4, WaitsFor: "a", FencingToken: 8},
	}})
	r.end()
	got := c.all()
	if len(got) != 1 {
		t.Fatalf("got %+v", got)
	}
	if d := got[0].Data; d.LockID != "x" || d.OwnerID != "a" || d.Token != "" || d.Ticket != "3" || d.Deadlock == nil || d.Deadlock.ID != "0123" ||
		len(d.Deadlock.Waits) != 2 || d.Deadlock.Waits[1].WaitsFor != "a" || d.Deadlock.Waits[1].Token != 8 {
		t.Errorf("%+v", d)
	}
}

// A consumer that fails now and then gets everything, that of each lock in order,
// and what it gets again has the same id.
func TestOrderOfALockIsKeptOverFailures(t *testing.T) {
	seen := map[string]int{}
	c := &consumer{}
	c.answer = func(e *cloudEvent) int {
		if seen[e.ID]++; seen[e.ID] == 1 && len(seen)%3 == 0 {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	}
	server := httptest.NewServer(c)
	defer server.Close()
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL, Parallel: 8})
	const locks, each = 10, 30
	for i := range each {
		for k := range locks {
			l.Happened(event(fmt.Sprint("lock/", k), 1+i))
		}
	}
	r.end()
	if r.delivered.Load() != locks*each || r.dropped.Load() != 0 || r.retried.Load() != locks*each/3 || r.Done() != locks*each {
		t.Errorf("delivered %d, dropped %d, retried %d, done %d", r.delivered.Load(), r.dropped.Load(), r.retried.Load(), r.Done())
	}
	last := map[string]int{}
	for _, e := range c.all() {
		var token int
		if _, err := fmt.Sscan(e.Data.Token, &token); err != nil || token != last[e.Subject]+1 {
			t.Fatalf("%s: the token %s after %d", e.Subject, e.Data.Token, last[e.Subject])
		}
		last[e.Subject] = token
	}
}

// A consumer that is down loses nothing that the log keeps; of the rest it is told
// how much that is, and the counters add up.
func TestAConsumerThatIsDownForAWhile(t *testing.T) {
	var down atomic.Bool
	down.Store(true)
	c := &consumer{answer: func(*cloudEvent) int {
		if down.Load() {
			return http.StatusBadGateway
		}
		return http.StatusNoContent
	}}
	server := httptest.NewServer(c)
	defer server.Close()
	const keep, n = 200, 2000
	l := events.New(keep)
	r := start(t, l, Options{URL: server.URL, Parallel: 2})
	l.Happened(event("lock/0", 1))
	r.until("it is tried again", func() bool { return r.retried.Load() > 0 })
	for i := 1; i < n; i++ {
		l.Happened(event(fmt.Sprint("lock/", i), 1+i))
	}
	down.Store(false)
	r.until("everything is delivered or counted", func() bool { return r.delivered.Load()+r.dropped.Load() == n })
	r.end()
	told, missed := map[string]bool{}, 0
	for _, e := range c.all() {
		if e.Type == TypeMissed {
			var m int
			if _, err := fmt.Sscan(e.Data.Missed, &m); err != nil {
				t.Fatal(err)
			}
			missed += m
			continue
		}
		told[e.ID] = true
	}
	if len(told)+missed != n || missed != int(r.dropped.Load()) || missed > n-keep || missed == 0 {
		t.Errorf("told %d, missed %d, counted %d", len(told), missed, r.dropped.Load())
	}
}

// What is not taken for long is given up, and what comes after it goes on.
func TestAnEventIsGivenUp(t *testing.T) {
	c := &consumer{answer: func(e *cloudEvent) int {
		if e.Subject == "poison" {
			return http.StatusServiceUnavailable
		}
		return http.StatusNoContent
	}}
	server := httptest.NewServer(c)
	defer server.Close()
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL, Parallel: 1, GiveUp: 200 * time.Millisecond})
	l.Happened(event("poison", 1))
	l.Happened(event("lock", 2))
	r.end()
	if r.retried.Load() == 0 {
		t.Error("it was not tried again")
	}
	if r.delivered.Load() != 1 || r.dropped.Load() != 1 || len(c.all()) != 1 {
		t.Errorf("delivered %d, dropped %d", r.delivered.Load(), r.dropped.Load())
	}
}

// An event that the consumer refuses for good keeps no other one waiting.
func TestAnEventThatIsRefusedIsDroppedAtOnce(t *testing.T) {
	for _, status := range []int{http.StatusBadRequest, http.StatusGone, http.StatusRequestEntityTooLarge, http.StatusUnsupportedMediaType, http.StatusUnprocessableEntity} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			c := &consumer{answer: func(e *cloudEvent) int {
				if e.Subject == "poison" {
					return status
				}
				return http.StatusNoContent
			}}
			server := httptest.NewServer(c)
			defer server.Close()
			l := events.New(0)
			r := start(t, l, Options{URL: server.URL, Parallel: 1})
			const n = 2 * laneSize // more than wait for one
			for i := range n {
				l.Happened(event("poison", 1+i))
				l.Happened(event("lock", 1+i))
			}
			r.until("what is not refused is delivered", func() bool { return r.delivered.Load() == n })
			r.end()
			if r.dropped.Load() != n || r.retried.Load() != 0 || r.Done() != 2*n {
				t.Errorf("dropped %d, retried %d, done %d", r.dropped.Load(), r.retried.Load(), r.Done())
			}
		})
	}
}

// What an operator may mend, and what passes, is no refusal of the event.
func TestWhatMayBeMendedIsTriedAgain(t *testing.T) {
	for _, status := range []int{
		http.StatusUnauthorized, http.StatusForbidden, http.StatusNotFound, http.StatusMethodNotAllowed, http.StatusProxyAuthRequired, http.StatusRequestTimeout,
		http.StatusConflict, http.StatusTooEarly, http.StatusTooManyRequests, http.StatusMovedPermanently, http.StatusInternalServerError,
	} {
		t.Run(http.StatusText(status), func(t *testing.T) {
			tries := 0
			c := &consumer{answer: func(*cloudEvent) int {
				if tries++; tries == 1 {
					return status
				}
				return http.StatusNoContent
			}}
			server := httptest.NewServer(c)
			defer server.Close()
			l := events.New(0)
			r := start(t, l, Options{URL: server.URL})
			l.Happened(event("lock", 1))
			r.until("it is delivered", func() bool { return r.delivered.Load() == 1 })
			if r.dropped.Load() != 0 || r.retried.Load() != 1 {
				t.Errorf("dropped %d, retried %d", r.dropped.Load(), r.retried.Load())
			}
		})
	}
}

// The end of the process does not wait for ever, and counts what is left.
func TestTheEndIsBounded(t *testing.T) {
	hang := make(chan struct{})
	server := httptest.NewServer(http.HandlerFunc(func(http.ResponseWriter, *http.Request) { <-hang }))
	defer server.Close()
	defer close(hang)
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL, Timeout: time.Hour})
	for i := range 500 {
		l.Happened(event(fmt.Sprint(i), 1+i))
	}
	r.stop()
	r.cut()
	<-r.ended
	if r.delivered.Load() != 0 || r.dropped.Load() != 500 {
		t.Errorf("delivered %d, dropped %d", r.delivered.Load(), r.dropped.Load())
	}
}

// A sink that takes over goes on after what was delivered, and nothing counts as
// dropped.
func TestASinkTakesOver(t *testing.T) {
	var down atomic.Bool
	c := &consumer{answer: func(*cloudEvent) int {
		if down.Load() {
			return http.StatusBadGateway
		}
		return http.StatusNoContent
	}}
	server := httptest.NewServer(c)
	defer server.Close()
	l := events.New(0)
	old := start(t, l, Options{URL: server.URL, Parallel: 2})
	l.Happened(event("lock/1", 1))
	old.until("the first is delivered", func() bool { return old.delivered.Load() == 1 })
	down.Store(true)
	for i := range 100 {
		l.Happened(event(fmt.Sprint("lock/", i), 2+i))
	}
	old.until("it is tried again", func() bool { return old.retried.Load() > 0 })
	old.HandOver()
	old.cut()
	old.end()
	down.Store(false)
	if old.dropped.Load() != 0 || old.Done() != 1 {
		t.Errorf("dropped %d, done %d", old.dropped.Load(), old.Done())
	}
	next := startAfter(t, l, Options{URL: server.URL}, old.Done())
	next.until("all are delivered", func() bool { return next.delivered.Load() == 100 })
	// One that was under way when the old sink was cut may have come twice.
	distinct := map[string]bool{}
	for _, e := range c.all() {
		distinct[e.ID] = true
	}
	if len(distinct) != 101 {
		t.Errorf("the consumer has %d events", len(distinct))
	}
}

func TestTLSFromFiles(t *testing.T) {
	authority := testenv.NewAuthority(t)
	of, own := authority.Server(t), authority.Client(t, "web-1")
	pair, err := tls.LoadX509KeyPair(of.CertFile, of.KeyFile)
	if err != nil {
		t.Fatal(err)
	}
	c := &consumer{}
	server := httptest.NewUnstartedServer(c)
	server.TLS = &tls.Config{Certificates: []tls.Certificate{pair}, ClientCAs: authority.Trust(), ClientAuth: tls.RequireAndVerifyClientCert}
	server.StartTLS()
	defer server.Close()
	l := events.New(0)
	r := start(t, l, Options{URL: server.URL, CAFile: authority.CertFile, CertFile: own.CertFile, KeyFile: own.KeyFile})
	l.Happened(event("lock", 1))
	r.end()
	if len(c.all()) != 1 {
		t.Errorf("got %+v, dropped %d", c.all(), r.dropped.Load())
	}
}

func TestOptionsThatAreRefused(t *testing.T) {
	secret := filepath.Join(t.TempDir(), "token")
	if err := os.WriteFile(secret, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	for want, o := range map[string]Options{
		"want a URL":            {URL: "ftp://host"},
		"credentials":           {URL: "https://me:hunter2@host"},
		"needs an https URL":    {URL: "http://host", TokenFile: secret},
		"want one line":         {URL: "https://host", TokenFile: secret},
		"ca_file":               {URL: "https://host", CAFile: "/nowhere"},
		"has no certificate":    {URL: "https://host", CAFile: secret},
		"go together":           {URL: "https://host", CertFile: secret},
		"cert_file and key_fil": {URL: "https://host", CertFile: secret, KeyFile: secret},
	} {
		_, err := New(o)
		if err == nil || !strings.Contains(err.Error(), want) || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("%+v: %v, want %q", o, err, want)
		}
	}
}
