package auditlog

import (
	"bufio"
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/audit"
	"github.com/locksidecar/locksidecar/internal/events"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// tally counts as metrics do.
type tally struct{ delivered, dropped, retried atomic.Uint64 }

func (c *tally) Delivered(n uint64) { c.delivered.Add(n) }
func (c *tally) Dropped(n uint64)   { c.dropped.Add(n) }
func (c *tally) Retried(n uint64)   { c.retried.Add(n) }

func acquired(i int) backend.Event {
	return backend.Event{
		Kind: backend.Acquired, LockID: fmt.Sprint("lock/", i), OwnerID: "owner", RequestID: fmt.Sprint("5ecret ", i), Token: int64(i), HoldCount: 1,
		TTL: 15 * time.Second, Sent: time.Now(), ExpiresAt: time.Now(), Priority: 3, Ticket: 9, ValidUntil: 1 << 62, Attach: 1,
	}
}

// running is a sink at work.
type running struct {
	*Sink
	l    *events.Log
	t    *testing.T
	path string
	tally
	stop, cut context.CancelFunc
	ended     chan struct{}
}

func start(t *testing.T, l *events.Log, path string, maxBytes int64, keep int) *running {
	t.Helper()
	r := &running{l: l, t: t, path: path, ended: make(chan struct{})}
	var err error
	if r.Sink, err = Open(Options{Path: path, MaxBytes: maxBytes, Keep: keep, Sidecar: "web-1", Counter: &r.tally}); err != nil {
		t.Fatal(err)
	}
	var ctx, last context.Context
	ctx, r.stop = context.WithCancel(context.Background())
	last, r.cut = context.WithCancel(context.Background())
	after := l.Last()
	go func() {
		defer close(r.ended)
		r.Run(ctx, last, l, after)
	}()
	t.Cleanup(r.end)
	return r
}

func (r *running) end() {
	r.stop()
	select {
	case <-r.ended:
	case <-time.After(30 * time.Second):
		r.t.Error("the sink does not end")
		r.cut()
	}
}

// wait waits until so many lines of events were written.
func (r *running) wait(n uint64) {
	r.t.Helper()
	r.until(fmt.Sprint(n, " events are written"), func() bool { return r.delivered.Load() >= n })
}

func (r *running) until(what string, condition func() bool) {
	r.t.Helper()
	for end := time.Now().Add(30 * time.Second); !condition(); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			r.t.Fatalf("waited in vain: %s", what)
		}
	}
}

// lines are those of a file.
func lines(t *testing.T, path string) (all []audit.Line) {
	t.Helper()
	f, err := os.Open(path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = f.Close() }()
	for in := bufio.NewScanner(f); in.Scan(); {
		var l audit.Line
		if err := json.Unmarshal(in.Bytes(), &l); err != nil {
			t.Fatalf("%v: %s", err, in.Text())
		}
		all = append(all, l)
	}
	return all
}

// prove reads the files as the command does.
func prove(t *testing.T, paths ...string) *audit.Report {
	t.Helper()
	var sources []audit.Source
	for _, path := range paths {
		raw, err := os.ReadFile(path)
		if err != nil {
			t.Fatal(err)
		}
		if len(raw) == 0 { // moved away before its first line
			continue
		}
		sources = append(sources, audit.Source{Name: path, Size: int64(len(raw)), File: bytes.NewReader(raw)})
	}
	r, err := audit.Prove(sources, audit.Options{})
	if err != nil {
		t.Fatal(err)
	}
	for i := range r.Violations {
		t.Error(r.Violations[i].String())
	}
	return r
}

func TestEachEventHasItsLineWithoutSecrets(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 0, 0)
	l.Of("main").Happened(acquired(1))
	l.Of("main").Happened(backend.Event{Kind: backend.Released, LockID: "lock/1", OwnerID: "owner", RequestID: "5ecret 1", Token: 1, Sent: time.Now()})
	l.Of("main").Happened(backend.Event{Kind: backend.Revoked, LockID: "lock/1", Token: 1, Reason: "a\nb\x1b[0m", By: "uid=0"})
	r.end()
	got := lines(t, path)
	if len(got) != 5 || got[0].Type != audit.TypeStarted || got[0].Run != l.Run() || got[4].Type != audit.TypeStopped || got[4].Seq != 3 {
		t.Fatalf("%+v", got)
	}
	a := got[1]
	if a.Type != "acquired" || a.Seq != 1 || a.Backend != "main" || a.LockID != "lock/1" || a.Token != 1 || *a.HoldCount != 1 || a.TTL != "15s" ||
		a.Ticket != 9 || a.Priority != 3 || a.ValidUntil != 1<<62 || a.Sidecar != "web-1" || a.Request == "" || a.ExpiresAt == nil || a.ID == "" {
		t.Errorf("%+v", a)
	}
	if took := a.At - a.Sent; took < 0 || took > int64(time.Minute) {
		t.Errorf("it took %d ns", took)
	}
	if got[2].Request != a.Request || *got[2].HoldCount != 0 || got[3].By != "uid=0" || got[3].Reason != "a\nb\x1b[0m" {
		t.Errorf("%+v, %+v", got[2], got[3])
	}
	raw, err := os.ReadFile(path)
	if err != nil || strings.Contains(string(raw), "5ecret") || strings.Count(string(raw), "\n") != 5 {
		t.Errorf("%v: %s", err, raw)
	}
	if info, err := os.Stat(path); err != nil || info.Mode().Perm() != 0o600 {
		t.Errorf("%v, %v", info.Mode(), err)
	}
}

// A deadlock has its whole cycle in the line of the victim, and the proof takes it.
func TestADeadlockHasItsCycle(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 0, 0)
	l.Of("main").Happened(acquired(7))
	l.Deadlock(&lockpb.Deadlock{Id: "0123", Victim: 1, Waits: []*lockpb.Wait{
		{Backend: "main", LockId: "x", OwnerId: "a", Ticket: 3, WaitsFor: "b", FencingToken: 7}, {Backend: "main", LockId: "lock/7", OwnerId: "b", Ticket: 4, WaitsFor: "a", FencingToken: 8},
	}})
	r.end()
	got := lines(t, path)
	if d := got[2]; d.Type != events.TypeDeadlock || d.LockID != "lock/7" || d.OwnerID != "b" || d.Token != 0 || d.Ticket != 4 || d.Deadlock == nil ||
		len(d.Deadlock.Waits) != 2 || d.Deadlock.Waits[0].WaitsFor != "b" || d.Deadlock.Waits[0].Ticket != 3 || d.Deadlock.Victim != 1 {
		t.Errorf("%+v", d)
	}
	raw, err := os.ReadFile(path)
	if err != nil || !strings.Contains(string(raw), `"waits_for":"a","fencing_token":"8"`) {
		t.Errorf("%v: %s", err, raw)
	}
	if rep := prove(t, path); rep.Grants != 1 {
		t.Errorf("%+v", rep)
	}
}

// Whatever rotates the file, every line is in one of the pieces, once.
func TestRotationLosesNoLine(t *testing.T) {
	dir := t.TempDir()
	path := filepath.Join(dir, "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 20_000, 1000)
	const n = 8000
	var writing sync.WaitGroup
	for w := range 4 {
		writing.Go(func() {
			for i := range n / 4 {
				l.Happened(acquired(w*n + i))
				if i%500 == 0 && w == 0 { // another program's rotation
					if err := os.Rename(path, filepath.Join(dir, fmt.Sprint("moved.", i))); err == nil {
						r.Reopen()
					}
				}
				if i%64 == 0 { // not faster than it is written
					time.Sleep(100 * time.Microsecond)
				}
			}
		})
	}
	writing.Wait()
	r.end()
	if r.dropped.Load() != 0 || r.delivered.Load() != n {
		t.Fatalf("delivered %d, dropped %d", r.delivered.Load(), r.dropped.Load())
	}
	paths, err := filepath.Glob(filepath.Join(dir, "*"))
	if err != nil || len(paths) < 20 {
		t.Fatalf("%d pieces, %v", len(paths), err)
	}
	if rep := prove(t, paths...); rep.Lines != n+2 || len(rep.Open) != 0 {
		t.Errorf("%d lines, open %v", rep.Lines, rep.Open)
	}
	for _, p := range paths {
		if info, err := os.Stat(p); err != nil || info.Size() > 100_000 {
			t.Errorf("%s: %v", p, info.Size())
		}
	}
}

func TestTheOldestPiecesAreReplaced(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 1, 2) // a piece for each write
	for i := range 5 {
		l.Happened(acquired(i))
		r.wait(uint64(i + 1))
	}
	r.end()
	var seqs []uint64
	for _, p := range []string{path + ".2", path + ".1", path} {
		for _, line := range lines(t, p) {
			seqs = append(seqs, line.Seq)
		}
	}
	if !slices.Equal(seqs, []uint64{4, 5, 5}) {
		t.Errorf("the pieces have %v", seqs)
	}
	if _, err := os.Stat(path + ".3"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a third piece: %v", err)
	}
}

// Fewer pieces are kept: those beyond go at once, and nothing else.
func TestPiecesBeyondWhatIsKeptGo(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 1, 6)
	for i := range 6 {
		l.Happened(acquired(i))
		r.wait(uint64(i + 1))
	}
	dated := path + ".20261125" // somebody else's
	if err := os.WriteFile(dated, nil, 0o600); err != nil {
		t.Fatal(err)
	}
	r.Limit(1, 2)
	there := func(n int) bool { _, err := os.Stat(piece(path, n)); return err == nil }
	r.until("the pieces are gone", func() bool { return !there(3) && !there(4) && !there(5) && !there(6) })
	if !there(1) || !there(2) || !there(20261125) {
		t.Error("others are gone, too")
	}
	// What was left by an earlier process goes with the next rotation.
	if err := os.WriteFile(piece(path, 3), nil, 0o600); err != nil {
		t.Fatal(err)
	}
	l.Happened(acquired(7))
	r.wait(7)
	r.end()
	if there(3) || !there(20261125) {
		t.Error("a rotation leaves a piece beyond those that are kept")
	}
}

// A write hangs: whoever changes the file's limits, or has it opened anew, does not
// wait for it, and gets what was asked for afterwards.
func TestAWriteThatHangsKeepsNobodyElse(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(0)
	r := start(t, l, path, 0, 6)
	l.Happened(acquired(1))
	r.wait(1)
	name := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(name, 0o600); err != nil {
		t.Fatal(err)
	}
	fifo, err := os.OpenFile(name, os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	if err := fifo.SetWriteDeadline(time.Now().Add(50 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	if _, err := fifo.Write(make([]byte, 4<<20)); !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Fatalf("the pipe takes everything: %v", err)
	}
	if err := fifo.SetWriteDeadline(time.Time{}); err != nil {
		t.Fatal(err)
	}
	r.file.mu.Lock()
	_ = r.file.f.Close()
	r.file.f = fifo
	r.file.mu.Unlock()
	l.Happened(acquired(2))
	r.until("the write hangs", func() bool {
		free := r.file.mu.TryLock()
		if free {
			r.file.mu.Unlock()
		}
		return !free
	})
	asked := make(chan struct{})
	go func() {
		defer close(asked)
		for range 100 {
			r.Limit(4711, 3)
			r.Reopen()
		}
	}()
	select {
	case <-asked:
	case <-time.After(30 * time.Second):
		t.Error("who asks waits for the write")
	}
	go func() { _, _ = io.Copy(io.Discard, fifo) }() // until it is closed
	r.until("the limits are in force", func() bool {
		r.file.mu.Lock()
		defer r.file.mu.Unlock()
		return r.file.maxBytes == 4711 && r.file.keep == 3 && r.file.f != fifo
	})
	<-asked
}

// A log that cannot even begin counts what it does not get.
func TestALogThatCannotBeginCountsWhatItDrops(t *testing.T) {
	var c tally
	s, err := Open(Options{Path: filepath.Join(t.TempDir(), "audit.jsonl"), Counter: &c})
	if err != nil {
		t.Fatal(err)
	}
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	_ = s.file.f.Close()
	s.file.f = full
	l := events.New(0)
	for i := range 5 {
		l.Happened(acquired(i))
	}
	ended, cut := context.WithCancel(context.Background())
	cut()
	s.Run(ended, ended, l, 2)
	if c.dropped.Load() != 3 || c.delivered.Load() != 0 {
		t.Errorf("dropped %d, delivered %d", c.dropped.Load(), c.delivered.Load())
	}
}

// What a killed process left is closed off, and the next life's lines follow.
func TestATornLineIsClosedOff(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	one := start(t, events.New(0), path, 0, 0)
	one.l.Happened(acquired(1))
	one.wait(1)
	one.end()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	cut := strings.LastIndex(strings.TrimSuffix(string(raw), "\n"), "\n") - 10 // inside the event's line
	if err := os.WriteFile(path, raw[:cut], 0o600); err != nil {
		t.Fatal(err)
	}
	two := start(t, events.New(0), path, 0, 0)
	two.l.Happened(acquired(2))
	two.wait(1)
	two.end()
	if rep := prove(t, path); len(rep.Torn) != 1 || rep.Runs != 2 || len(rep.Open) != 1 || rep.Grants != 1 {
		t.Errorf("%+v", rep)
	}
}

// A disk that takes nothing for a while costs what the log of events does not
// keep, and the gap is counted and has its line.
func TestADiskThatIsFullForAWhile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	l := events.New(100)
	r := start(t, l, path, 0, 0)
	l.Happened(acquired(1))
	r.wait(1)
	r.file.mu.Lock()
	whole := r.file.f
	full, err := os.OpenFile("/dev/full", os.O_RDWR, 0)
	if err != nil {
		t.Fatal(err)
	}
	r.file.f = full
	r.file.mu.Unlock()
	l.Happened(acquired(2))
	for end := time.Now().Add(30 * time.Second); r.retried.Load() == 0; time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			t.Fatal("nothing is tried again")
		}
	}
	for i := range 250 {
		l.Happened(acquired(3 + i))
	}
	r.file.mu.Lock()
	r.file.f = whole
	r.file.mu.Unlock()
	_ = full.Close()
	r.end()
	if r.delivered.Load()+r.dropped.Load() != 252 || r.dropped.Load() != 150 {
		t.Errorf("delivered %d, dropped %d", r.delivered.Load(), r.dropped.Load())
	}
	var gaps []uint64
	for _, line := range lines(t, path) {
		if line.Type == events.TypeMissed {
			gaps = append(gaps, line.Missed, line.Seq)
		}
	}
	if !slices.Equal(gaps, []uint64{150, 152}) {
		t.Errorf("gaps %v", gaps)
	}
}

func TestAFileHasOneWriter(t *testing.T) {
	path := filepath.Join(t.TempDir(), "audit.jsonl")
	start(t, events.New(0), path, 0, 0)
	if s, err := Open(Options{Path: path}); err == nil || !strings.Contains(err.Error(), "another process writes") {
		t.Errorf("opened a second time: %v, %v", s, err)
	}
	for _, wrong := range []string{t.TempDir(), "/nowhere/audit.jsonl", "/dev/full"} {
		if s, err := Open(Options{Path: wrong}); err == nil {
			t.Errorf("opened %s: %v", wrong, s)
		}
	}
	fifo := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(fifo, 0o600); err != nil {
		t.Fatal(err)
	}
	if s, err := Open(Options{Path: fifo}); err == nil {
		t.Errorf("opened a pipe: %v", s)
	}
}

func BenchmarkLines(b *testing.B) {
	l := events.New(1 << 16)
	var c tally
	s, err := Open(Options{Path: filepath.Join(b.TempDir(), "audit.jsonl"), Sidecar: "web-1", Counter: &c})
	if err != nil {
		b.Fatal(err)
	}
	ctx, stop := context.WithCancel(context.Background())
	ended := make(chan struct{})
	go func() { defer close(ended); s.Run(ctx, context.Background(), l, 0) }()
	b.ReportAllocs()
	for i := range b.N {
		l.Happened(acquired(i))
		for l.Last()-c.delivered.Load() > 1<<15 {
			time.Sleep(10 * time.Microsecond)
		}
	}
	stop()
	<-ended
}
