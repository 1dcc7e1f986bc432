package embedded

import (
	"bytes"
	"cmp"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"path/filepath"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const patience = 20 * time.Second

// until waits for what no event tells.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no end of the wait until %s", what)
		}
	}
}

// opened is a memory on a file.
func opened(t testing.TB, o Options) *Memory {
	t.Helper()
	if o.Path == "" {
		o.Path = filepath.Join(t.TempDir(), "locks.db")
	}
	o.Timeout = cmp.Or(o.Timeout, time.Minute) // a disk may be slow
	m, err := NewMemory(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return m
}

func request(lock, name string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: lock, OwnerID: "owner of " + name, RequestID: name, Key: driver.KeyOf(name), TTL: time.Minute, PlaceTTL: time.Minute,
	}
}

func queued(r *driver.AcquireRequest) *driver.AcquireRequest { r.Enqueue = true; return r }

func granted(t testing.TB, d driver.Driver, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	res, err := d.Acquire(context.Background(), r)
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire %s: %+v, %v; want a lease", r.RequestID, res, err)
	}
	return res.Lease
}

func refOf(r *driver.AcquireRequest, l *driver.Lease) driver.LeaseRef {
	return driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: l.Token, Attach: l.Attach}
}

func inspect(t testing.TB, d driver.Driver, lock string) *driver.Lock {
	t.Helper()
	l, err := d.Inspect(context.Background(), lock)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

// gate is a disk that writes when it is told to.
type gate struct {
	m       *Memory
	entered chan map[string][]byte
	outcome chan error
	writes  atomic.Int64
	// open lets every write through from then on, at the latest when the test
	// ends.
	open func()
}

// gated lets the memory's writes wait for a word.
func gated(t testing.TB, m *Memory) *gate {
	free := make(chan struct{})
	g := &gate{m: m, entered: make(chan map[string][]byte), outcome: make(chan error), open: sync.OnceFunc(func() { close(free) })}
	t.Cleanup(g.open)
	write := m.disk.write
	m.disk.write = func(values map[string][]byte) error {
		g.writes.Add(1)
		select {
		case g.entered <- values:
		case <-free:
		}
		select {
		case err := <-g.outcome:
			if err != nil {
				return err
			}
		case <-free:
		}
		return write(values)
	}
	return g
}

// waiting is how many locks are in the next transaction.
func (g *gate) waiting() int {
	g.m.disk.mu.Lock()
	defer g.m.disk.mu.Unlock()
	return len(g.m.disk.next.entries)
}

// acquires starts an acquire and returns where its outcome comes.
func acquires(d driver.Driver, r *driver.AcquireRequest) <-chan error {
	out := make(chan error, 1)
	go func() {
		_, err := d.Acquire(context.Background(), r)
		out <- err
	}()
	return out
}

var errFull = errors.New("no space left")

func TestNothingIsToldBeforeItIsWritten(t *testing.T) {
	m := opened(t, Options{})
	g := gated(t, m)
	d := m.Open()
	first := d.acquire(request("a", "first"))
	<-g.entered
	second := d.acquire(request("a", "second"))
	repeat := d.acquire(request("a", "first"))
	if l := inspect(t, d, "a"); len(l.Holders) != 0 || l.Token != 0 {
		t.Errorf("a reader is shown %+v before it is written", l)
	}
	if page, err := d.List(t.Context(), &driver.ListRequest{PageSize: 10}); err != nil || len(page.Locks) != 0 {
		t.Errorf("a listing shows %+v, %v before it is written", page, err)
	}
	ended, cancel := context.WithCancel(t.Context())
	cancel()
	for name, a := range map[string]answer[*driver.AcquireResult]{"the grant": first, "the refusal by it": second, "its repeat": repeat} {
		if res, err := a.wait(ended); !errors.Is(err, driver.ErrIndeterminate) {
			t.Errorf("%s was answered before it was written: %+v, %v", name, res, err)
		}
	}
	g.outcome <- nil
	g.open()
	if _, err := first.wait(t.Context()); err != nil {
		t.Error(err)
	}
	if _, err := second.wait(t.Context()); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("the second: %v, want it held", err)
	}
	if _, err := repeat.wait(t.Context()); err != nil {
		t.Errorf("the repeat: %v", err)
	}
	if l := inspect(t, d, "a"); len(l.Holders) != 1 {
		t.Errorf("the lock is %+v", l)
	}
}

// A write that fails takes back everything that was built on it, and only that.
func TestAFailedWriteIsTakenBack(t *testing.T) {
	m := opened(t, Options{})
	d := m.Open()
	kept := granted(t, d, request("kept", "kept"))
	g := gated(t, m)
	first := acquires(d, request("a", "first"))
	<-g.entered
	place := acquires(d, queued(request("a", "place")))
	until(t, "the place waits", func() bool { return g.waiting() == 1 })
	other := acquires(d, request("b", "other"))
	until(t, "the other lock waits", func() bool { return g.waiting() == 2 })
	g.outcome <- errFull
	g.open()
	if err := <-first; !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "no space") {
		t.Errorf("the failed one: %v", err)
	}
	if err := <-place; !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("what was built on it: %v", err)
	}
	if err := <-other; err != nil {
		t.Errorf("what has nothing to do with it: %v", err)
	}
	if l := inspect(t, d, "a"); len(l.Holders)+len(l.Waiters) != 0 || l.Token != 0 {
		t.Errorf("left of it is %+v", l)
	}
	if l := inspect(t, d, "kept"); len(l.Holders) != 1 || l.Holders[0].Token != kept.Token {
		t.Errorf("the lease of before is %+v", l)
	}
	granted(t, d, request("a", "place"))
}

func TestAFailedWriteKeepsWhatTheFileDoesNot(t *testing.T) {
	m := opened(t, Options{})
	d, other := m.Open(), m.Open()
	holder, place := request("a", "holder"), queued(request("a", "place"))
	l := granted(t, d, holder)
	if _, err := other.Acquire(t.Context(), place); err != nil {
		t.Fatal(err)
	}
	g := gated(t, m)
	released := make(chan error, 1)
	go func() {
		_, err := d.Release(context.Background(), &driver.ReleaseRequest{LeaseRef: refOf(holder, l), RequestID: "holder"})
		released <- err
	}()
	<-g.entered
	g.outcome <- errFull
	if err := <-released; !errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("release: %v", err)
	}
	hints := make(chan driver.Hint, 10)
	ctx, stop := context.WithCancel(t.Context())
	defer stop()
	watching := make(chan struct{})
	go func() {
		defer close(watching)
		_ = other.Watch(ctx, func(h driver.Hint) { hints <- h })
	}()
	until(t, "the watch stands", func() bool { other.mu.Lock(); defer other.mu.Unlock(); return other.sink != nil })
	g.open()
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(holder, l), RequestID: "holder"}); err != nil {
		t.Fatalf("the repeated release: %v", err)
	}
	select {
	case h := <-hints:
		if h.Kind != driver.HintGrantable || h.RequestID != "place" {
			t.Errorf("hint %+v", h)
		}
	case <-time.After(patience):
		t.Error("the waiter is not told any more")
	}
	stop()
	<-watching
}

// What comes while the disk is busy shares one transaction.
func TestConcurrentChangesShareATransaction(t *testing.T) {
	m := opened(t, Options{})
	g := gated(t, m)
	d := m.Open()
	outcomes := []<-chan error{acquires(d, request("first", "first"))}
	<-g.entered
	const n = 50
	for i := range n {
		outcomes = append(outcomes, acquires(d, request(fmt.Sprint("lock/", i), fmt.Sprint("r", i))))
	}
	until(t, "all wait", func() bool { return g.waiting() == n })
	g.outcome <- nil
	if together := <-g.entered; len(together) != n {
		t.Errorf("the second transaction has %d locks, want %d", len(together), n)
	}
	g.outcome <- nil
	for _, o := range outcomes {
		if err := <-o; err != nil {
			t.Error(err)
		}
	}
	if w := g.writes.Load(); w != 2 {
		t.Errorf("%d transactions, want 2", w)
	}
	g.open()
}

// A disk that hangs keeps nobody longer than asked for, and loses nothing.
func TestAHangingDiskIsNotWaitedForForEver(t *testing.T) {
	m := opened(t, Options{})
	g := gated(t, m)
	d := m.Open()
	ctx, cancel := context.WithCancel(t.Context())
	out := make(chan error, 1)
	go func() {
		_, err := d.Acquire(ctx, request("a", "r"))
		out <- err
	}()
	<-g.entered
	cancel()
	if err := <-out; !errors.Is(err, driver.ErrIndeterminate) || !errors.Is(err, context.Canceled) {
		t.Errorf("the cancelled call: %v", err)
	}
	g.outcome <- nil
	g.open()
	if l := granted(t, d, request("a", "r")); len(l.Holds) != 1 {
		t.Errorf("the repeat is %+v", l)
	}
	m.o.Timeout = time.Millisecond
	slow := gated(t, m)
	if _, err := d.Acquire(t.Context(), request("b", "r")); !errors.Is(err, driver.ErrIndeterminate) {
		t.Errorf("a disk that does not answer: %v", err)
	}
	<-slow.entered
	slow.outcome <- nil
	slow.open()
}

func TestAnUncertainWriteEndsTheWriting(t *testing.T) {
	m := opened(t, Options{})
	d := m.Open()
	r := request("a", "before")
	granted(t, d, r)
	g := gated(t, m)
	torn := acquires(d, request("b", "torn"))
	<-g.entered
	g.outcome <- fmt.Errorf("%w: input/output error", errUncertain)
	if err := <-torn; !errors.Is(err, driver.ErrIndeterminate) || errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("the uncertain one: %v", err)
	}
	if _, err := d.Acquire(t.Context(), request("c", "later")); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "restart the daemon") {
		t.Errorf("a later one: %v", err)
	}
	if err := d.Ping(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
}

// A disk that is full refuses what does not fit, and goes on with what does.
func TestAFullDisk(t *testing.T) {
	o := Options{Path: filepath.Join(t.TempDir(), "locks.db"), maxSize: 1 << 17}
	m := opened(t, o)
	d := m.Open()
	var held []*driver.AcquireRequest
	leases := map[string]*driver.Lease{}
	for i := 0; ; i++ {
		r := request(fmt.Sprint("lock/", i), fmt.Sprint("r", i))
		r.Metadata = map[string]string{"what": strings.Repeat("x", 4000)}
		res, err := d.Acquire(t.Context(), r)
		if err != nil {
			if !errors.Is(err, driver.ErrUnavailable) {
				t.Fatalf("a full disk: %v", err)
			}
			if l := inspect(t, d, r.LockID); len(l.Holders) != 0 || l.Token != 0 {
				t.Errorf("left of the refused acquire is %+v", l)
			}
			break
		}
		if i > 1000 {
			t.Fatal("the file never got full")
		}
		held, leases[r.RequestID] = append(held, r), res.Lease
	}
	if len(held) < 3 {
		t.Fatalf("%d leases fit", len(held))
	}
	m.consistent(t)
	if err := m.Close(); err != nil {
		t.Fatal(err)
	}
	o.maxSize = 0
	d = opened(t, o).Open()
	for _, r := range held {
		if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, leases[r.RequestID]), TTL: time.Minute}); err != nil {
			t.Errorf("%s, acknowledged before the disk was full: %v", r.LockID, err)
		}
	}
}

// consistent compares memory and file while nobody calls.
func (m *Memory) consistent(t testing.TB) {
	t.Helper()
	onDisk := make(map[string]bool)
	_, err := m.file.read(func(id string, raw []byte) error {
		onDisk[id] = true
		s := m.shard(id)
		s.mu.Lock()
		defer s.mu.Unlock()
		r := s.locks[id]
		if r == nil {
			t.Errorf("the file has %q, the memory has not", id)
			return nil
		}
		saved, _, err := decode(id, raw, 0)
		if err != nil {
			return err
		}
		saved.keepUntil = r.keepUntil // a call that changed nothing prolongs it in memory only
		if len(s.unwritten) != 0 || !bytes.Equal(saved.encode(0), r.encode(0)) {
			t.Errorf("%q differs: the file has %q, the memory %q; %d unwritten", id, saved.encode(0), r.encode(0), len(s.unwritten))
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
	for i := range m.shards {
		s := &m.shards[i]
		s.mu.Lock()
		for id := range s.locks {
			if !onDisk[id] {
				t.Errorf("the memory has %q, the file has not", id)
			}
		}
		s.mu.Unlock()
	}
}

// Concurrent calls on few locks and a disk that often fails: whatever is answered
// is true, and in the end memory and file are the same.
func TestAFailingDiskUnderLoad(t *testing.T) {
	for _, failing := range []int{0, 30} {
		t.Run(fmt.Sprintf("%d of 100 writes fail", failing), func(t *testing.T) {
			m := opened(t, Options{MinTTL: time.Millisecond})
			write := m.disk.write
			m.disk.write = func(values map[string][]byte) error {
				if rand.IntN(100) < failing {
					return errFull
				}
				return write(values)
			}
			var inside [3]atomic.Int64
			var wg sync.WaitGroup
			for worker := range 12 {
				wg.Go(func() {
					d := m.Open()
					for n := range 60 {
						cycle(t, d, &inside[n%3], int64(worker+1), n)
					}
				})
			}
			wg.Wait()
			m.consistent(t)
		})
	}
}

// certain repeats a call until the disk takes it. Each refusal is certain.
func certain(t testing.TB, call func() error) error {
	for {
		err := call()
		if !errors.Is(err, driver.ErrUnavailable) {
			if errors.Is(err, driver.ErrIndeterminate) {
				t.Errorf("a refused write left the outcome open: %v", err)
			}
			return err
		}
	}
}

// cycle acquires, renews and releases, or waits and gives up.
func cycle(t testing.TB, d *Driver, inside *atomic.Int64, worker int64, n int) {
	ctx := context.Background()
	r := request(fmt.Sprint("lock/", n%3), fmt.Sprintf("%d-%d", worker, n))
	r.Enqueue, r.Shared, r.PlaceTTL = n%2 == 0, false, 30*time.Millisecond
	var res *driver.AcquireResult
	err := certain(t, func() (err error) { res, err = d.Acquire(ctx, r); return err })
	if err != nil || res.Lease == nil {
		if err != nil && !errors.Is(err, driver.ErrHeld) && !errors.Is(err, driver.ErrLost) {
			t.Errorf("acquire: %v", err)
		}
		if n%4 == 0 {
			if err := certain(t, func() error { return d.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: r.RequestID}) }); err != nil {
				t.Errorf("leave: %v", err)
			}
		}
		return
	}
	if !inside.CompareAndSwap(0, worker) {
		t.Errorf("%s was granted while worker %d is inside", r.LockID, inside.Load())
	}
	ref := refOf(r, res.Lease)
	renew := func() (err error) {
		_, err = d.Renew(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
		return err
	}
	if err := certain(t, renew); err != nil {
		t.Errorf("renew: %v", err)
	}
	for {
		inside.CompareAndSwap(worker, 0)
		_, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref, RequestID: r.RequestID})
		if err == nil {
			return
		}
		// It is certainly not released: nobody else can be inside.
		if !errors.Is(err, driver.ErrUnavailable) || !inside.CompareAndSwap(0, worker) {
			t.Errorf("release: %v, inside is %d", err, inside.Load())
			return
		}
	}
}
