package e2e

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/conformance/wrong"
	"github.com/locksidecar/locksidecar/internal/audit"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/events/auditlog"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// proof runs audit prove over files, and checks its exit code.
func proof(t *testing.T, code int, files ...string) (r *audit.Report, says string) {
	t.Helper()
	cmd := exec.CommandContext(within(t), testenv.Binary(t), append([]string{"audit", "prove", "-o", "json"}, files...)...)
	var out, errs testenv.Output
	cmd.Stdout, cmd.Stderr = &out, &errs
	if _ = cmd.Run(); cmd.ProcessState.ExitCode() != code {
		t.Fatalf("audit prove exited with %d, want %d:\n%s%s", cmd.ProcessState.ExitCode(), code, out.String(), errs.String())
	}
	r = &audit.Report{}
	if err := json.Unmarshal([]byte(out.String()), r); err != nil {
		t.Fatalf("%v: %s", err, out.String())
	}
	return r, errs.String()
}

// audited is a sidecar with an audit log, which can be killed and started again.
type audited struct {
	client
	d    *testenv.Process
	dir  string
	sock string
}

func (a *audited) start(t *testing.T) {
	t.Helper()
	a.d = testenv.Daemon(t, "serve", "--config", filepath.Join(a.dir, "config.yaml"), "--socket", a.sock)
	a.client = dial(t, a.d.Endpoint())
}

func auditFleet(t *testing.T, backend string, n int) (fleet []*audited) {
	t.Helper()
	for i := range n {
		a := &audited{dir: t.TempDir(), sock: socketPath(t)}
		replace(t, filepath.Join(a.dir, "config.yaml"), fmt.Sprintf(
			"backends: {main: {url: %q}}\nevents: {sidecar: web-%d, audit: {path: %s, max_bytes: 30000, keep: 1000}}\n", backend, i+1, filepath.Join(a.dir, "audit.jsonl")))
		a.start(t)
		fleet = append(fleet, a)
	}
	return fleet
}

// logs are the files of the fleet, rotated ones too.
func logs(t *testing.T, fleet []*audited) (files []string) {
	t.Helper()
	for _, a := range fleet {
		found, err := filepath.Glob(filepath.Join(a.dir, "audit.jsonl*"))
		if err != nil {
			t.Fatal(err)
		}
		files = append(files, found...)
	}
	return files
}

// A fleet on one Redis, with holders and a sidecar that are killed, waiters of all
// priorities, readers, forced releases: its logs prove that nobody overlapped. A
// doctored copy proves the opposite.
func TestAuditProvesAChaosRun(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	fleet := auditFleet(t, redis.URL(), 3)
	ctx, end := context.WithCancel(within(t))
	var clients sync.RWMutex // a sidecar's client changes when it is started again
	some := func() client {
		clients.RLock()
		defer clients.RUnlock()
		return fleet[rand.IntN(len(fleet))].client
	}
	var working sync.WaitGroup
	for w := range 12 {
		working.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				lock := fmt.Sprint("chaos/", rand.IntN(5))
				c := some()
				l, err := c.Acquire(ctx, &lockpb.AcquireRequest{
					LockId: lock, OwnerId: fmt.Sprintf("worker %d.%d", w, i), Ttl: seconds(1), Wait: seconds(float64(rand.IntN(4))), Priority: uint32(rand.IntN(10)),
					Shared: rand.IntN(4) == 0,
				})
				if err != nil {
					continue // held, or its sidecar was killed
				}
				switch rand.IntN(30) {
				case 0: // forgotten: it expires
				case 1:
					_, _ = some().ForceRelease(ctx, &lockpb.ForceReleaseRequest{LockId: lock, FencingToken: l.GetFencingToken(), Reason: "chaos", Immediate: true})
				case 2:
					_, _ = some().ForceRelease(ctx, &lockpb.ForceReleaseRequest{LockId: lock, FencingToken: l.GetFencingToken(), Reason: "chaos"})
				default:
					_, _ = c.Release(ctx, &lockpb.ReleaseRequest{LockId: lock, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
				}
			}
		})
	}
	last := int64(0)
	for round := range 5 {
		holder := worker(t, fleet[round%2].d.Endpoint(), "chaos", "1s", "sleep 60")
		// Once the one before has expired. On a busy machine it may have given up
		// again before anybody looks: that it was granted can be seen still.
		eventually(t, "the holder was granted the lock", func() bool {
			token := some().lock(t, "jobs/chaos").GetFencingToken()
			granted := token > last
			last = max(last, token)
			return granted
		})
		if err := holder.Process.Kill(); err != nil {
			t.Fatal(err)
		}
		_ = holder.Wait() // killed: its error says so
		if round == 1 || round == 2 {
			fleet[2].d.Kill()
			clients.Lock()
			tear(t, filepath.Join(fleet[2].dir, "audit.jsonl"))
			fleet[2].start(t)
			clients.Unlock()
		}
	}
	eventually(t, "the last holder's lock expires", func() bool { return len(some().lock(t, "jobs/chaos").GetHolders()) == 0 })
	end()
	working.Wait()
	for _, a := range fleet {
		if err := a.d.Stop(); err != nil {
			t.Fatal(err)
		}
	}
	files := logs(t, fleet)
	r, _ := proof(t, 0, files...)
	t.Logf("%d files: %d lines of %d runs, %d grants of %d locks, %d handovers, %d from the queue, %d unproven, %d overridden, torn %v",
		len(files), r.Lines, r.Runs, r.Grants, r.Locks, r.Handovers, r.Queued, r.Unproven, r.Overridden, r.Torn)
	if r.Runs != 5 || len(r.Open) != 2 || len(r.Torn) != 2 || len(r.Sidecars) != 3 || r.Handovers < 20 || r.Queued == 0 || r.Unordered > r.Queued/4 {
		t.Errorf("%+v", r)
	}
	for _, f := range files {
		if raw, err := os.ReadFile(f); err != nil || strings.Contains(string(raw), "lease_id") {
			t.Errorf("%s: %v, or it shows a lease id", f, err)
		}
	}

	// A line removed between a grant and its successor, wherever that is.
	victim, number := releaseLine(t, files)
	doctor(t, files, victim, func(lines []string) []string { return slices.Delete(lines, number, number+1) }, func(files []string) {
		r, says := proof(t, 1, files...)
		if !slices.ContainsFunc(r.Violations, func(v audit.Violation) bool { return v.Kind == audit.KindGap && strings.Contains(v.Text, "is missing") }) {
			t.Errorf("%s; %v", says, r.Violations)
		}
	})
	// Fencing off: the token of a grant is the one before it.
	victim, number = grantLine(t, files)
	doctor(t, files, victim, func(lines []string) []string {
		var l audit.Line
		if err := json.Unmarshal([]byte(lines[number]), &l); err != nil {
			t.Fatal(err)
		}
		lower := slices.Clone(lines)
		for i := range lower { // all that this sidecar says of the lease
			lower[i] = strings.ReplaceAll(lower[i], fmt.Sprintf(`"fencing_token":"%d"`, l.Token), `"fencing_token":"1"`)
		}
		return lower
	}, func(files []string) {
		r, says := proof(t, 1, files...)
		if !slices.ContainsFunc(r.Violations, func(v audit.Violation) bool { return v.Kind == audit.KindToken }) {
			t.Errorf("%s; %v", says, r.Violations)
		}
	})
}

// tear leaves a part of a line at a log's end, as a kill in the middle of a write
// does now and then.
func tear(t *testing.T, file string) {
	t.Helper()
	f, err := os.OpenFile(file, os.O_WRONLY|os.O_APPEND, 0)
	if err != nil {
		t.Fatal(err)
	}
	_, err = f.WriteString(`{"time":"2026-11-25T12:00:00Z","type":"acq`)
	if err = errors.Join(err, f.Close()); err != nil {
		t.Fatal(err)
	}
}

// doctor changes one file of a copy of the logs.
func doctor(t *testing.T, files []string, victim string, change func([]string) []string, then func([]string)) {
	t.Helper()
	raw, err := os.ReadFile(victim)
	if err != nil {
		t.Fatal(err)
	}
	doctored := filepath.Join(t.TempDir(), "doctored.jsonl")
	if err := os.WriteFile(doctored, []byte(strings.Join(change(strings.SplitAfter(string(raw), "\n")), "")), 0o600); err != nil {
		t.Fatal(err)
	}
	copied := slices.Clone(files)
	copied[slices.Index(files, victim)] = doctored
	then(copied)
}

// releaseLine is a line that ends a lease, with lines of its run on both sides.
func releaseLine(t *testing.T, files []string) (file string, number int) {
	t.Helper()
	return someLine(t, files, func(l *audit.Line) bool {
		return l.Type == events.TypeReleased && strings.HasPrefix(l.LockID, "chaos/")
	})
}

// grantLine is a line of a lock that was granted before.
func grantLine(t *testing.T, files []string) (file string, number int) {
	t.Helper()
	first := map[string]int64{}
	return someLine(t, files, func(l *audit.Line) bool {
		if l.Type != events.TypeAcquired || !strings.HasPrefix(l.LockID, "chaos/") {
			return false
		}
		if first[l.LockID] == 0 {
			first[l.LockID] = l.Token
		}
		return l.Token > first[l.LockID]
	})
}

func someLine(t *testing.T, files []string, is func(*audit.Line) bool) (file string, number int) {
	t.Helper()
	for _, f := range files {
		raw, err := os.ReadFile(f)
		if err != nil {
			t.Fatal(err)
		}
		lines := strings.Split(string(raw), "\n")
		for i := 3; i < len(lines)-3; i++ {
			var l, next audit.Line
			if json.Unmarshal([]byte(lines[i]), &l) == nil && json.Unmarshal([]byte(lines[i+1]), &next) == nil && next.Run == l.Run && is(&l) {
				return f, i
			}
		}
	}
	t.Fatal("no line of the logs is such a one")
	return "", 0
}

// The logs of sidecars over drivers that break a guarantee do not prove it.
func TestAuditFindsWhatAWrongDriverDoes(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		kind audit.Kind
		play func(t *testing.T, one, two *backend.Store)
	}{
		"token reused after a release": {audit.KindToken, func(t *testing.T, one, two *backend.Store) {
			for _, s := range []*backend.Store{one, two} {
				giveBack(t, s, lease(t, s, "x", 10*time.Second))
			}
		}},
		"lease expires early": {audit.KindOverlap, func(t *testing.T, one, two *backend.Store) {
			lease(t, one, "x", 6*time.Second) // its application may rely on it for twice as long
			lease(t, two, "x", 6*time.Second)
		}},
		"newcomers barge": {audit.KindOrder, func(t *testing.T, one, two *backend.Store) {
			ctx := within(t)
			for !overtake(t, one, two, 0) { // the waiter may have been faster
				if ctx.Err() != nil {
					t.Fatal("nobody was overtaken")
				}
			}
		}},
		"": {"", func(t *testing.T, one, two *backend.Store) {
			giveBack(t, one, lease(t, one, "x", 10*time.Second))
			lease(t, two, "x", time.Second)
			lease(t, one, "x", time.Second)
			overtake(t, one, two, 0)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			m, err := embedded.NewMemory(embedded.Options{MinTTL: 100 * time.Millisecond})
			if err != nil {
				t.Fatal(err)
			}
			wrap := func(d driver.Driver) driver.Driver { return d }
			for _, w := range wrong.Drivers() {
				if w.Name == name {
					wrap = w.Wrap()
				}
			}
			if i := slices.IndexFunc(wrong.Drivers(), func(w wrong.Driver) bool { return w.Name == name }); i < 0 && name != "" {
				t.Fatalf("there is no wrong driver %q", name)
			}
			var stores []*backend.Store
			var files []string
			var writing sync.WaitGroup
			ctx, stop := context.WithCancel(context.Background())
			for i := range 2 {
				log, path := events.New(0), filepath.Join(t.TempDir(), "audit.jsonl")
				sink, err := auditlog.Open(auditlog.Options{Path: path, Sidecar: fmt.Sprint("web-", i+1), Counter: uncounted{}})
				if err != nil {
					t.Fatal(err)
				}
				writing.Go(func() { sink.Run(ctx, context.Background(), log, 0) })
				stores = append(stores, backend.New(wrap(m.Open()), backend.Options{MinTTL: 100 * time.Millisecond, Observer: diarist{log}}))
				files = append(files, path)
			}
			c.play(t, stores[0], stores[1])
			for _, s := range stores {
				if err := s.Close(); err != nil {
					t.Error(err)
				}
			}
			stop()
			writing.Wait()
			code := 1
			if name == "" {
				code = 0
			}
			r, says := proof(t, code, files...)
			if name != "" && r.Violations[0].Kind != c.kind {
				t.Errorf("want %s first: %s", c.kind, says)
			}
			t.Log(says)
		})
	}
}

type uncounted struct{}

func (uncounted) Delivered(uint64) {}
func (uncounted) Dropped(uint64)   {}
func (uncounted) Retried(uint64)   {}

func lease(t *testing.T, s *backend.Store, id string, ttl time.Duration) *backend.Lease {
	t.Helper()
	l, err := s.Acquire(within(t), &backend.AcquireRequest{LockID: id, TTL: ttl, Wait: backend.Forever})
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func giveBack(t *testing.T, s *backend.Store, l *backend.Lease) {
	t.Helper()
	if _, err := s.Release(within(t), &backend.ReleaseRequest{LeaseRef: l.Ref(false), RequestID: l.RequestID}); err != nil {
		t.Fatal(err)
	}
}

// overtake has one store's acquire wait, and another's come when the lock is free:
// a try, which a right driver refuses. It says whether that was granted.
func overtake(t *testing.T, one, two *backend.Store, wait time.Duration) (overtook bool) {
	t.Helper()
	holder := lease(t, one, "queue", 10*time.Second)
	queued := make(chan struct{})
	var once sync.Once
	granted := make(chan *backend.Lease, 1)
	go func() {
		l, err := one.Acquire(within(t), &backend.AcquireRequest{
			LockID: "queue", TTL: 10 * time.Second, Wait: backend.Forever, OnQueued: func(int, int) { once.Do(func() { close(queued) }) },
		})
		if err != nil {
			t.Error(err)
		}
		granted <- l
	}()
	<-queued
	giveBack(t, one, holder)
	if l, err := two.Acquire(within(t), &backend.AcquireRequest{LockID: "queue", TTL: 10 * time.Second, Wait: wait}); err == nil {
		giveBack(t, two, l)
		overtook = true
	}
	if l := <-granted; l != nil {
		giveBack(t, one, l)
	}
	return overtook
}

// The log follows its file: moved away by another program, and SIGHUP.
func TestAuditLogIsOpenedAnew(t *testing.T) {
	a := auditFleet(t, "embedded:", 1)[0]
	path := filepath.Join(a.dir, "audit.jsonl")
	has := func(file, lock string) func() bool {
		return func() bool {
			raw, _ := os.ReadFile(file)
			return strings.Contains(string(raw), `"lock_id":"`+lock+`"`)
		}
	}
	hold(t, a.client, "before")
	eventually(t, "the event has its line", has(path, "before"))
	moved := path + "-moved" // the glob of the fleet's logs finds it, too
	if err := os.Rename(path, moved); err != nil {
		t.Fatal(err)
	}
	if err := syscall.Kill(a.d.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the file is there again", func() bool { _, err := os.Stat(path); return err == nil })
	hold(t, a.client, "after")
	eventually(t, "the event has its line", has(path, "after"))
	if err := a.d.Stop(); err != nil {
		t.Fatal(err)
	}
	if r, _ := proof(t, 0, moved, path); r.Grants != 2 || len(r.Open) != 0 {
		t.Errorf("%+v", r)
	}
	// A second sidecar on the file does not start.
	a.start(t)
	second := exec.CommandContext(within(t), testenv.Binary(t), "serve", "--config", filepath.Join(a.dir, "config.yaml"), "--socket", socketPath(t))
	out, _ := second.CombinedOutput()
	if second.ProcessState.ExitCode() != 64 || !strings.Contains(string(out), "another process writes") {
		t.Errorf("a second sidecar exited with %d: %s", second.ProcessState.ExitCode(), out)
	}
}
