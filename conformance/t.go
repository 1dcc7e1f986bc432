package conformance

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// patience bounds each wait for something that must come.
	patience = 45 * time.Second
	// answering bounds the answer to an attempt of a waiter, which is to be told where it
	// stands, not kept until it is granted.
	answering = 30 * time.Second
	// lasting is the TTL of a lease that is not to expire while the case runs,
	// however slow the machine is.
	lasting = 55 * time.Second
)

// grace is by how much more than is declared what the store lets happen may be late:
// a busy machine is not the driver's.
func (t *T) grace() time.Duration {
	if t.h.Slow {
		return 10 * time.Second
	}
	return 2 * time.Second
}

// times is how often something is done that n times are enough of: ten times as often
// in the heavy variant.
func (t *T) times(n int) int {
	if t.o.Long {
		return 10 * n
	}
	return n
}

// enough wants that of what a case repeats until its time is over a tenth was done:
// less proves too little.
func (t *T) enough(done, of int) {
	if 10*done < of {
		t.Errorf("only %d of %d repetitions were done in the time of a case: the machine or the store is too slow to judge it", done, of)
	}
}

// T is what a case works with: drivers on the store, ids that no other case
// uses, and a way to fail.
type T struct {
	ctx    context.Context
	h      Harness
	o      Options
	caps   driver.Capabilities
	prefix string
	seed   uint64
	serial atomic.Int64
	// D is the case's first driver.
	D driver.Driver

	mu      sync.Mutex
	failure []string
	opened  []driver.Driver
	last    []func()                    // run before the drivers are closed, the latest first
	grants  map[string]map[int64]string // lock -> token -> request id
	locks   map[string]bool
}

// abort ends a case by panicking with it.
type abort struct{}

// Errorf records a failure.
func (t *T) Errorf(format string, args ...any) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.failure = append(t.failure, where()+fmt.Sprintf(format, args...))
}

// where is the line of the case's own code that is under way, not that of what it
// calls.
func where() string {
	callers := make([]uintptr, 16)
	frames := runtime.CallersFrames(callers[:runtime.Callers(3, callers)])
	for {
		frame, more := frames.Next()
		if strings.Contains(frame.Function, "Cases.func") {
			return fmt.Sprintf("%s:%d: ", filepath.Base(frame.File), frame.Line)
		}
		if !more {
			return ""
		}
	}
}

// Fatalf records a failure and ends the case.
func (t *T) Fatalf(format string, args ...any) {
	t.Errorf(format, args...)
	panic(abort{})
}

// Open opens one more driver on the store.
func (t *T) Open() driver.Driver {
	d, err := t.h.Open(t.ctx)
	if err != nil {
		t.Fatalf("open: %v", err)
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.opened = append(t.opened, d)
	return d
}

// cleanup has f run when the case has ended, before its drivers are closed.
func (t *T) cleanup(f func()) {
	t.mu.Lock()
	defer t.mu.Unlock()
	t.last = append(t.last, f)
}

// Lock is an id of the case's own.
func (t *T) Lock(name string) string {
	id := t.prefix + "/" + name
	t.mu.Lock()
	defer t.mu.Unlock()
	t.locks[id] = true
	return id
}

// can says whether a need is met on this way to the store, for a case that asks
// less where it is not.
func (t *T) can(n Need) bool { return t.h.lacking(Case{Needs: []Need{n}}, t.caps) == "" }

func (t *T) unique(what string) string {
	return fmt.Sprintf("%s-%s-%d", what, t.prefix[strings.LastIndex(t.prefix, "/")+1:], t.serial.Add(1))
}

// TTL is the lease time of what is to expire.
func (t *T) TTL() time.Duration { return t.h.TTL }

func (t *T) now() driver.Instant { return t.h.Clock.Now() }

// each runs f n times at once, and ends the case if one of them ended it.
func (t *T) each(n int, f func(i int)) {
	var wg sync.WaitGroup
	var failed atomic.Bool
	for i := range n {
		wg.Go(func() {
			defer func() {
				if p := recover(); p != nil {
					failed.Store(true)
					if _, aborted := p.(abort); !aborted {
						t.Errorf("panic: %v", p)
					}
				}
			}()
			f(i)
		})
	}
	wg.Wait()
	if failed.Load() {
		panic(abort{})
	}
}

// option changes a request.
type option func(*driver.AcquireRequest)

func shared(r *driver.AcquireRequest)  { r.Shared = true }
func enqueue(r *driver.AcquireRequest) { r.Enqueue = true }
func ttl(d time.Duration) option       { return func(r *driver.AcquireRequest) { r.TTL = d } }

// brief makes a lease that is to expire.
func (t *T) brief(r *driver.AcquireRequest) { r.TTL = t.h.TTL }

func priority(p int) option           { return func(r *driver.AcquireRequest) { r.Priority = p } }
func floor(token int64) option        { return func(r *driver.AcquireRequest) { r.TokenFloor = token } }
func placeTTL(d time.Duration) option { return func(r *driver.AcquireRequest) { r.PlaceTTL = d } }

// Request is a new acquire by the owner.
func (t *T) Request(lock, owner string, o ...option) *driver.AcquireRequest {
	id := t.unique("request")
	r := &driver.AcquireRequest{
		LockID: lock, OwnerID: owner, RequestID: id, Key: driver.KeyOf(id), TTL: lasting, PlaceTTL: lasting,
	}
	for _, f := range o {
		f(r)
	}
	return r
}

// grant is a lease with what proves it.
type grant struct {
	*driver.Lease
	req *driver.AcquireRequest
}

func (g *grant) ref() driver.LeaseRef {
	return driver.LeaseRef{LockID: g.LockID, Key: g.req.Key, Token: g.Token, Attach: g.Attach}
}

// attempt sends a request once and keeps account of its grant: no two requests
// share a token.
func (t *T) attempt(d driver.Driver, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := d.Acquire(t.ctx, r)
	if err == nil && res.Lease != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		if t.grants[r.LockID] == nil {
			t.grants[r.LockID] = make(map[int64]string)
		}
		holder := res.Lease.Holds[0]
		if other, ok := t.grants[r.LockID][res.Lease.Token]; ok && other != holder {
			t.failure = append(t.failure, fmt.Sprintf("token %d of %q was granted twice", res.Lease.Token, r.LockID))
		}
		t.grants[r.LockID][res.Lease.Token] = holder
	}
	return res, err
}

// Must acquires at once.
func (t *T) Must(d driver.Driver, r *driver.AcquireRequest) *grant {
	res, err := t.attempt(d, r)
	if err != nil {
		t.Fatalf("acquire by %s: %v, want a grant", r.OwnerID, err)
	}
	if res.Lease == nil {
		t.Fatalf("acquire by %s was queued at %d, want a grant", r.OwnerID, res.Position)
	}
	return &grant{res.Lease, r}
}

// Queue takes a place that is not granted.
func (t *T) Queue(d driver.Driver, r *driver.AcquireRequest) *driver.AcquireResult {
	r.Enqueue = true
	res, err := t.attempt(d, r)
	if err != nil {
		t.Fatalf("queueing %s: %v", r.OwnerID, err)
	}
	if res.Lease != nil {
		t.Fatalf("%s was granted, want a place in the queue", r.OwnerID)
	}
	return res
}

// Await repeats an acquire, as a sidecar does, until it is granted.
func (t *T) Await(d driver.Driver, r *driver.AcquireRequest) *grant {
	g, _ := t.awaited(d, r)
	return g
}

// awaited is Await, and tells when the last attempt that was not granted was sent:
// that one was the driver's to grant, whatever held the suite up after it. It is 0 if
// the first one was granted.
func (t *T) awaited(d driver.Driver, r *driver.AcquireRequest) (g *grant, refused driver.Instant) {
	r.Enqueue = true
	deadline := t.now().Add(patience)
	for {
		sent := t.now()
		res, err := t.attempt(d, r)
		if err != nil {
			t.Fatalf("waiting acquire by %s: %v", r.OwnerID, err)
		}
		if took := t.now().Sub(sent); took > answering {
			t.Fatalf("an attempt by %s was answered after %v", r.OwnerID, took)
		}
		if res.Lease != nil {
			return &grant{res.Lease, r}, refused
		}
		refused = sent
		if t.now() > deadline {
			t.Fatalf("%s was not granted within %v", r.OwnerID, patience)
		}
		t.pause(min(res.RetryAfter, 20*time.Millisecond))
	}
}

// Refused acquires and wants a HeldError.
func (t *T) Refused(d driver.Driver, r *driver.AcquireRequest) *driver.HeldError {
	res, err := t.attempt(d, r)
	var held *driver.HeldError
	if !errors.As(err, &held) {
		t.Fatalf("acquire by %s: %+v, %v; want it refused as held", r.OwnerID, res, err)
	}
	return held
}

// Release gives a lease back.
func (t *T) Release(d driver.Driver, g *grant) {
	if _, err := d.Release(t.ctx, &driver.ReleaseRequest{LeaseRef: g.ref(), RequestID: g.req.RequestID}); err != nil {
		t.Fatalf("release by %s: %v", g.OwnerID, err)
	}
}

// Renew prolongs a lease.
func (t *T) Renew(d driver.Driver, g *grant) (*driver.Lease, error) {
	return d.Renew(t.ctx, &driver.RenewRequest{LeaseRef: g.ref(), TTL: g.req.TTL})
}

// Inspect reads a lock.
func (t *T) Inspect(d driver.Driver, lock string) *driver.Lock {
	l, err := d.Inspect(t.ctx, lock)
	if err != nil {
		t.Fatalf("inspect: %v", err)
	}
	return l
}

// Listed are the locks of all pages of a listing: one may be short, or empty, and
// have a next one.
func (t *T) Listed(d driver.Driver, req driver.ListRequest) (all []driver.Lock) {
	for {
		page, err := d.List(t.ctx, &req)
		if err != nil {
			t.Fatalf("list: %v", err)
		}
		if len(page.Locks) > req.PageSize {
			t.Errorf("a page of %d locks, asked for %d", len(page.Locks), req.PageSize)
		}
		all = append(all, page.Locks...)
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			return all
		}
	}
}

// Lost wants an error with the cause.
func (t *T) Lost(err error, cause driver.Cause) {
	var lost *driver.LostError
	if !errors.As(err, &lost) || lost.Cause != cause {
		t.Errorf("error %v, want the lease lost: %s", err, cause)
	}
}

// pause lets a time pass that belongs to what is tested: a TTL, a place's
// deadline, the interval of a poll.
func (t *T) pause(d time.Duration) {
	timer := time.NewTimer(d)
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-t.ctx.Done():
		t.Fatalf("the case ran out of time")
	}
}

// unlessLate runs f with a time that f must keep up with; while f says that this
// machine was too slow for it, once more with twice the time.
func (t *T) unlessLate(f func(d time.Duration) (late bool)) {
	for d := max(t.h.TTL, time.Second); f(d); d *= 2 {
		if d > 8*time.Second {
			t.Fatalf("this machine is too slow for the case: it does not keep up with %v", d)
		}
	}
}

// expire waits until a lease that is not renewed has expired. It counts from now,
// not from the send of the request: the store may have decided later than that,
// by however long a connection took. The lateness counts twice: that a lease ends
// within it once is a case of its own.
func (t *T) expire(g *grant) {
	t.pause(g.Remaining + 2*t.caps.Lateness + 50*time.Millisecond + t.h.TTL/20)
}
