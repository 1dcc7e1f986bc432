package embedded

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// machine has a clock of its own, which goes on over the ends of a process.
type machine struct {
	*testing.T
	now  atomic.Int64
	boot string
	path string
	m    *Memory
}

func newMachine(t *testing.T) *machine {
	x := &machine{T: t, boot: "first", path: filepath.Join(t.TempDir(), "state", "locks.db")}
	x.now.Store(int64(time.Hour))
	x.start()
	return x
}

func (x *machine) start() *Driver {
	x.Helper()
	x.m = opened(x.T, Options{
		Path: x.path, Boot: x.boot, Clock: driver.ClockFunc(func() driver.Instant { return driver.Instant(x.now.Load()) }),
	})
	return x.m.Open()
}

// restart ends the process as SIGKILL does: what was answered is in the file, and
// nothing else is done.
func (x *machine) restart() *Driver {
	x.Helper()
	copied := filepath.Join(x.TempDir(), "locks.db")
	raw, err := os.ReadFile(x.path)
	if err != nil {
		x.Fatal(err)
	}
	if err := os.WriteFile(copied, raw, 0o600); err != nil {
		x.Fatal(err)
	}
	x.path = copied
	return x.start()
}

func (x *machine) pass(d time.Duration) { x.now.Add(int64(d)) }

func (x *machine) remaining(d driver.Driver, lock string) time.Duration {
	x.Helper()
	l := inspect(x, d, lock)
	if len(l.Holders) != 1 {
		return 0
	}
	return l.Holders[0].Remaining
}

func TestEverythingSurvivesARestart(t *testing.T) {
	x := newMachine(t)
	d := x.m.Open()
	r := request("held", "one")
	r.Reentrant, r.Metadata = true, map[string]string{"host": "web-1", "a": ""}
	l := granted(t, d, r)
	again := request("held", "again")
	again.OwnerID, again.Key, again.Reentrant = r.OwnerID, r.Key, true
	granted(t, d, again)
	if _, err := d.Adopt(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "held", Key: r.Key, Token: l.Token}, TTL: 30 * time.Second}); err != nil {
		t.Fatal(err)
	}
	for _, w := range []string{"w1", "w2", "w3"} {
		place := queued(request("held", w))
		place.Shared, place.Priority = w == "w2", map[string]int{"w3": 1}[w]
		if _, err := d.Acquire(t.Context(), place); err != nil {
			t.Fatal(err)
		}
	}
	shared := []*driver.AcquireRequest{request("shared", "r1"), request("shared", "r2")}
	for _, r := range shared {
		r.Shared = true
		granted(t, d, r)
	}
	if _, err := d.Revoke(t.Context(), &driver.EvictRequest{LockID: "shared", Token: inspect(t, d, "shared").Holders[0].Token}); err != nil {
		t.Fatal(err)
	}
	gone := request("idle", "gone")
	idle := granted(t, d, gone)
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(gone, idle)}); err != nil {
		t.Fatal(err)
	}
	if err := d.Leave(t.Context(), &driver.LeaveRequest{LockID: "left", RequestID: "left", Key: driver.KeyOf("left")}); err != nil {
		t.Fatal(err)
	}
	ids := []string{"held", "shared", "idle", "left"}
	var before []*driver.Lock
	for _, id := range ids {
		before = append(before, inspect(t, d, id))
	}
	d = x.restart()
	for i, id := range ids {
		if diff := cmp.Diff(before[i], inspect(t, d, id), cmp.Comparer(func(a, b time.Time) bool { return a.Sub(b).Abs() < patience })); diff != "" {
			t.Errorf("%s after the restart (-before +after):\n%s", id, diff)
		}
	}
	x.m.consistent(t)
	// The holder goes on with what it has: attach number, holds, order.
	if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute}); !errors.Is(err, driver.ErrLost) {
		t.Errorf("the attachment that was fenced before the restart: %v", err)
	}
	for _, hold := range []string{"one", "again"} {
		if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "held", Key: r.Key, Token: l.Token, Attach: 2}, RequestID: hold}); err != nil {
			t.Errorf("release of %s: %v", hold, err)
		}
	}
	next := granted(t, d, queued(func() *driver.AcquireRequest { w := request("held", "w3"); w.Priority = 1; return w }()))
	if next.Token <= l.Token {
		t.Errorf("token %d after %d", next.Token, l.Token)
	}
	// What ended before the restart stays ended, and a repeat is known.
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(gone, idle), RequestID: "gone"}); err != nil {
		t.Errorf("the repeated release: %v", err)
	}
	if _, err := d.Acquire(t.Context(), request("left", "left")); !errors.Is(err, driver.ErrLost) {
		t.Errorf("the acquire that was left: %v", err)
	}
	if l := granted(t, d, request("idle", "new")); l.Token <= idle.Token {
		t.Errorf("token %d after %d", l.Token, idle.Token)
	}
}

// A place is that of the latest attempt, and lasts as long as that asked for,
// also after a restart.
func TestAPlaceIsThatOfItsLatestAttempt(t *testing.T) {
	x := newMachine(t)
	d := x.m.Open()
	granted(t, d, request("a", "holder"))
	for _, key := range []string{"first", "second"} {
		place := queued(request("a", "place"))
		place.Key, place.PlaceTTL = driver.KeyOf(key), map[string]time.Duration{"first": time.Minute, "second": 3 * time.Second}[key]
		if _, err := d.Acquire(t.Context(), place); err != nil {
			t.Fatal(err)
		}
	}
	x.pass(2 * time.Second)
	d = x.restart()
	if err := d.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "place", Key: driver.KeyOf("first")}); err != nil {
		t.Fatal(err)
	}
	if w := inspect(t, d, "a").Waiters; len(w) != 1 || w[0].Remaining != 3*time.Second {
		t.Errorf("the waiters are %+v, want the place with 3s from the restart", w)
	}
	if err := d.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "place", Key: driver.KeyOf("second")}); err != nil {
		t.Fatal(err)
	}
	if w := inspect(t, x.restart(), "a").Waiters; len(w) != 0 {
		t.Errorf("left are %+v", w)
	}
}

// While the machine is up the process may be down as long as it likes: leases
// count on.
func TestLeasesCountOnWhileTheProcessIsDown(t *testing.T) {
	x := newMachine(t)
	d := x.m.Open()
	r := request("a", "one")
	l := granted(t, d, r)
	x.pass(20 * time.Second)
	d = x.restart()
	if left := x.remaining(d, "a"); left != 40*time.Second {
		t.Errorf("%v are left of a minute after 20s", left)
	}
	x.pass(40 * time.Second)
	d = x.restart()
	ended, err := d.Sweep(t.Context())
	if err != nil || len(ended) != 1 || ended[0].Token != l.Token || ended[0].Cause != driver.CauseExpired {
		t.Errorf("the sweep after the restart found %+v, %v", ended, err)
	}
	granted(t, d, request("a", "two"))
}

// Over a reboot nobody knows how long the machine was off: a lease has what it
// had when it was last written.
func TestNoLeaseEndsEarlyOverAReboot(t *testing.T) {
	for name, reboot := range map[string]func(x *machine){
		"another boot":              func(x *machine) { x.boot = "second"; x.now.Store(int64(time.Second)) },
		"a clock far ahead":         func(x *machine) { x.boot = "second"; x.now.Store(int64(1000 * time.Hour)) },
		"a boot that is not known":  func(x *machine) { x.boot = ""; x.now.Store(int64(1000 * time.Hour)) },
		"a snapshot of the machine": func(x *machine) { x.now.Store(int64(time.Second)) },
	} {
		t.Run(name, func(t *testing.T) {
			x := newMachine(t)
			d := x.m.Open()
			r := request("a", "one")
			l := granted(t, d, r)
			x.pass(30 * time.Second)
			if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: 5 * time.Second}); err != nil {
				t.Fatal(err) // 30 s are left, although the TTL is less now
			}
			for range 2 { // nor over two
				reboot(x)
				d = x.restart()
				if left := x.remaining(d, "a"); left != 30*time.Second {
					t.Errorf("%v are left, want 30s", left)
				}
				x.boot += "+"
				x.pass(10 * time.Second)
			}
			if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: 5 * time.Second}); err != nil {
				t.Errorf("renewal after the reboots: %v", err)
			}
			x.pass(31 * time.Second)
			if next := granted(t, d, request("a", "two")); next.Token <= l.Token {
				t.Errorf("token %d after %d", next.Token, l.Token)
			}
		})
	}
}

// An expiry that no log has got before the process was killed is told after it.
func TestAnEndIsToldAgainUntilItWasTold(t *testing.T) {
	x := newMachine(t)
	d := x.m.Open()
	r := request("a", "one")
	l := granted(t, d, r)
	x.pass(2 * time.Minute)
	res, err := d.Acquire(t.Context(), request("a", "two"))
	if err != nil || len(res.Evicted) != 1 {
		t.Fatalf("%+v, %v; want the expiry reported", res, err)
	}
	sweeps := func(when string, want int) (ended []driver.Ended) {
		t.Helper()
		ended, err := d.Sweep(t.Context())
		if err != nil || len(ended) != want {
			t.Errorf("%s the sweep reports %+v, %v; want %d", when, ended, err, want)
		}
		return ended
	}
	sweeps("at once", 0)
	d = x.restart()
	sweeps("after the restart", 1)
	sweeps("right after that", 0)
	x.pass(retell)
	ended := sweeps("when nobody told it", 1)
	if err := d.Told(t.Context(), ended); err != nil {
		t.Fatal(err)
	}
	x.pass(retell)
	sweeps("once it was told", 0)
	if _, err := d.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: res.Lease.Token, Cause: driver.CauseForced}); err != nil {
		t.Fatal(err)
	}
	d = x.restart()
	if ended := sweeps("after a forced end and a restart", 1); len(ended) == 1 && ended[0].Cause != driver.CauseForced {
		t.Errorf("reported %+v after token %d", ended, l.Token)
	}
}

func TestCollectedRecordsLeaveTheFile(t *testing.T) {
	x := newMachine(t)
	ahead := time.Duration(0)
	x.m = opened(t, Options{Path: filepath.Join(t.TempDir(), "locks.db"), Now: func() time.Time { return time.Now().Add(ahead) }})
	d := x.m.Open()
	r := request("a", "one")
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, granted(t, d, r))}); err != nil {
		t.Fatal(err)
	}
	granted(t, d, request("b", "stays"))
	ahead = 25 * time.Hour
	if err := x.m.Collect(); err != nil {
		t.Fatal(err)
	}
	x.m.consistent(t)
	x.path = x.m.o.Path
	if l := inspect(t, x.restart(), "a"); l.Token != 0 {
		t.Errorf("the record is %+v after its collection", l)
	}
}

func TestPrefixesAreApart(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks.db")
	for _, prefix := range []string{"one", "two", ""} {
		m, err := NewMemory(Options{Path: path, Prefix: prefix})
		if err != nil {
			t.Fatal(err)
		}
		granted(t, m.Open(), request("a", "r"+prefix))
		if err := m.Close(); err != nil {
			t.Fatal(err)
		}
	}
	if l := inspect(t, opened(t, Options{Path: path, Prefix: "two"}).Open(), "a"); len(l.Holders) != 1 || l.Holders[0].OwnerID != "owner of rtwo" {
		t.Errorf("the lock of the second prefix is %+v", l)
	}
}

func TestTheFileIsItsOwners(t *testing.T) {
	x := newMachine(t)
	for path, want := range map[string]os.FileMode{x.path: 0o600, filepath.Dir(x.path): 0o750 | os.ModeDir} {
		info, err := os.Stat(path)
		if err != nil {
			t.Fatal(err)
		}
		if info.Mode()&^want != 0 { // the umask may take more away
			t.Errorf("%s has the mode %v, want %v", path, info.Mode(), want)
		}
	}
	if left, err := os.ReadDir(filepath.Dir(x.path)); err != nil || len(left) != 1 {
		t.Errorf("beside the file there is %v, %v", left, err)
	}
	_, err := NewMemory(Options{Path: x.path, Timeout: 50 * time.Millisecond})
	if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), x.path) || !strings.Contains(err.Error(), "stop that one") {
		t.Errorf("a second opener: %v", err)
	}
	if _, err := NewMemory(Options{Path: "locks.db"}); !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("a relative path: %v", err)
	}
	if _, err := NewMemory(Options{Path: filepath.Dir(x.path)}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("a directory: %v", err)
	}
}

// Drivers that share the memory of a URL close the file with the last one.
func TestTheLastDriverClosesTheFile(t *testing.T) {
	path := filepath.Join(t.TempDir(), "locks.db")
	first, err := New(Options{Path: path})
	if err != nil {
		t.Fatal(err)
	}
	second := first.Another()
	l := granted(t, first, request("a", "one"))
	if err := first.Close(); err != nil {
		t.Fatal(err)
	}
	if got := granted(t, second, request("a", "one")); got.Token != l.Token {
		t.Errorf("the other driver has %+v", got)
	}
	if err := errors.Join(second.Close(), second.Close()); err != nil {
		t.Fatal(err)
	}
	d := opened(t, Options{Path: path, Timeout: time.Millisecond}).Open()
	if got := granted(t, d, request("a", "one")); got.Token != l.Token {
		t.Errorf("after the restart it is %+v", got)
	}
	if c := d.Capabilities(); c.Durability != driver.DurabilityDisk {
		t.Errorf("it declares %+v", c)
	}
}
