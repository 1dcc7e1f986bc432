package audit

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
	"time"
)

// fleet writes logs as sidecars do, on one time line.
type fleet struct {
	now   time.Time
	logs  []*sidecar
	token int64
}

// sidecar is one log. Its wall clock is off by skew, its boot began at another
// moment.
type sidecar struct {
	f         *fleet
	name, run string
	boot      string
	skew      time.Duration
	since     time.Time
	seq       uint64
	lines     []string
}

func newFleet() *fleet {
	return &fleet{now: time.Date(2026, 11, 25, 12, 0, 0, 0, time.UTC), token: 1000}
}

func (f *fleet) sidecar(name, boot string, skew time.Duration) *sidecar {
	s := &sidecar{f: f, name: name, run: fmt.Sprintf("run-%s-%d", name, len(f.logs)), boot: boot, skew: skew, since: f.now.Add(-time.Duration(1+len(boot)) * time.Hour)}
	f.logs = append(f.logs, s)
	s.write(&Line{Type: TypeStarted, Boot: boot})
	return s
}

func (f *fleet) after(d time.Duration) { f.now = f.now.Add(d) }

func (s *sidecar) at(t time.Time) int64 { return int64(t.Sub(s.since)) }

func (s *sidecar) write(l *Line) {
	l.Time, l.At, l.Sidecar, l.Run = s.f.now.Add(s.skew), s.at(s.f.now), s.name, s.run
	if l.Type != TypeStarted && l.Type != TypeStopped {
		s.seq++
	}
	l.Seq = s.seq
	raw, err := json.Marshal(l)
	if err != nil {
		panic(err)
	}
	s.lines = append(s.lines, string(raw))
}

func (s *sidecar) stop() { s.write(&Line{Type: TypeStopped}) }

const trip = time.Millisecond

// acquired grants the next token, a millisecond after it was asked for.
func (s *sidecar) acquired(lock, owner string, change ...func(*Line)) int64 {
	s.f.token++
	one := 1
	l := &Line{Type: "acquired", LockID: lock, OwnerID: owner, Token: s.f.token, HoldCount: &one, Request: "r-" + owner, Backend: "main", Sent: s.at(s.f.now)}
	l.ValidUntil = s.at(s.f.now.Add(10 * time.Second))
	for _, c := range change {
		c(l)
	}
	s.f.after(trip)
	s.write(l)
	return l.Token
}

func (s *sidecar) queued(lock, owner string, ticket int64, priority int, change ...func(*Line)) {
	l := &Line{Type: "queued", LockID: lock, OwnerID: owner, Request: "r-" + owner, Ticket: ticket, Priority: priority, Backend: "main", Sent: s.at(s.f.now)}
	for _, c := range change {
		c(l)
	}
	s.f.after(trip)
	s.write(l)
}

func (s *sidecar) released(lock string, token int64) {
	none := 0
	l := &Line{Type: "released", LockID: lock, OwnerID: "somebody", Token: token, HoldCount: &none, Sent: s.at(s.f.now)}
	s.f.after(trip)
	s.write(l)
}

func (s *sidecar) tells(kind, lock string, token int64, change ...func(*Line)) {
	l := &Line{Type: kind, LockID: lock, Token: token}
	for _, c := range change {
		c(l)
	}
	s.write(l)
}

func ticket(n int64, priority int) func(*Line) {
	return func(l *Line) { l.Ticket, l.Priority = n, priority }
}

func shared(l *Line) { l.Shared = true }

// files are the logs, as they would be read.
func (f *fleet) files() (texts []string) {
	for _, s := range f.logs {
		texts = append(texts, strings.Join(s.lines, "\n")+"\n")
	}
	return texts
}

func prove(t testing.TB, texts []string, o Options) *Report {
	t.Helper()
	var sources []Source
	for i, text := range texts {
		sources = append(sources, Source{Name: fmt.Sprintf("log%d", i+1), Size: int64(len(text)), File: strings.NewReader(text)})
	}
	r, err := Prove(sources, o)
	if err != nil {
		t.Fatal(err)
	}
	return r
}

func wants(t *testing.T, r *Report, kind Kind, place string, words ...string) {
	t.Helper()
	if len(r.Violations) == 0 {
		t.Fatalf("no violation, want %s at %s: %+v", kind, place, r)
	}
	got := r.Violations[0].String()
	if !strings.HasPrefix(got, place+": "+string(kind)+": ") {
		t.Errorf("the first violation is %q, want %s at %s", got, kind, place)
	}
	for _, w := range words {
		if !strings.Contains(got, w) {
			t.Errorf("%q does not say %q", got, w)
		}
	}
}

func wantsNone(t *testing.T, r *Report) {
	t.Helper()
	for i := range r.Violations {
		t.Errorf("%s", r.Violations[i].String())
	}
}
