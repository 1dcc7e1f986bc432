package embedded_test

import (
	"errors"
	"fmt"
	"sync"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// store is a memory in a bubble of testing/synctest, whose time moves only when
// everything in it waits.
type store struct {
	*testing.T
	m *embedded.Memory
	d *embedded.Driver
	n int
}

// in runs f on a new memory in a bubble.
func in(t *testing.T, o embedded.Options, f func(s *store)) {
	t.Helper()
	synctest.Test(t, func(t *testing.T) {
		o.Clock = driver.ProcessClock
		m, err := embedded.NewMemory(o)
		if err != nil {
			t.Fatal(err)
		}
		f(&store{T: t, m: m, d: m.Open()})
	})
}

// request is a new acquire of the lock "a" for 10 s.
func (s *store) request(owner string, change ...func(*driver.AcquireRequest)) *driver.AcquireRequest {
	s.n++
	id := fmt.Sprintf("%s-%d", owner, s.n)
	r := &driver.AcquireRequest{LockID: "a", OwnerID: owner, RequestID: id, Key: driver.KeyOf(id), TTL: 10 * time.Second, PlaceTTL: time.Minute}
	for _, f := range change {
		f(r)
	}
	return r
}

func shared(r *driver.AcquireRequest) { r.Shared = true }

func lock(id string) func(*driver.AcquireRequest) {
	return func(r *driver.AcquireRequest) { r.LockID = id }
}

func priority(p int) func(*driver.AcquireRequest) {
	return func(r *driver.AcquireRequest) { r.Priority = p }
}

func placeTTL(d time.Duration) func(*driver.AcquireRequest) {
	return func(r *driver.AcquireRequest) { r.PlaceTTL = d }
}

// acquire wants a grant.
func (s *store) acquire(r *driver.AcquireRequest) *driver.Lease {
	s.Helper()
	res, err := s.d.Acquire(s.Context(), r)
	if err != nil || res.Lease == nil {
		s.Fatalf("acquire by %s: %+v, %v; want a grant", r.OwnerID, res, err)
	}
	return res.Lease
}

// queue wants a place at the position.
func (s *store) queue(r *driver.AcquireRequest, position int) *driver.AcquireResult {
	s.Helper()
	r.Enqueue = true
	res, err := s.d.Acquire(s.Context(), r)
	if err != nil || res.Lease != nil || res.Position != position {
		s.Fatalf("queueing %s: %+v, %v; want the place %d", r.OwnerID, res, err, position)
	}
	return res
}

// refused wants the acquire held.
func (s *store) refused(r *driver.AcquireRequest) *driver.HeldError {
	s.Helper()
	res, err := s.d.Acquire(s.Context(), r)
	var held *driver.HeldError
	if !errors.As(err, &held) {
		s.Fatalf("acquire by %s: %+v, %v; want it refused", r.OwnerID, res, err)
	}
	return held
}

// lost wants the cause.
func (s *store) lost(err error, cause driver.Cause) {
	s.Helper()
	var l *driver.LostError
	if !errors.As(err, &l) || l.Cause != cause {
		s.Errorf("error %v, want the lease lost: %s", err, cause)
	}
}

func ref(l *driver.Lease, r *driver.AcquireRequest) driver.LeaseRef {
	return driver.LeaseRef{LockID: l.LockID, Key: r.Key, Token: l.Token, Attach: l.Attach}
}

func (s *store) release(l *driver.Lease, r *driver.AcquireRequest) error {
	_, err := s.d.Release(s.Context(), &driver.ReleaseRequest{LeaseRef: ref(l, r), RequestID: r.RequestID})
	return err
}

func (s *store) mustRelease(l *driver.Lease, r *driver.AcquireRequest) {
	s.Helper()
	if err := s.release(l, r); err != nil {
		s.Fatalf("release by %s: %v", r.OwnerID, err)
	}
}

func (s *store) inspect(id string) *driver.Lock {
	s.Helper()
	l, err := s.d.Inspect(s.Context(), id)
	if err != nil {
		s.Fatal(err)
	}
	return l
}

// hints collects what one driver is told.
type hints struct {
	mu  sync.Mutex
	all []driver.Hint
}

// watch starts a watch and returns once it stands; it ends with the test.
func (s *store) watch(d *embedded.Driver) *hints {
	h := &hints{}
	go func() {
		_ = d.Watch(s.Context(), func(hint driver.Hint) {
			h.mu.Lock()
			defer h.mu.Unlock()
			h.all = append(h.all, hint)
		})
	}()
	synctest.Wait()
	return h
}

func (h *hints) take() []driver.Hint {
	h.mu.Lock()
	defer h.mu.Unlock()
	all := h.all
	h.all = nil
	return all
}

func (s *store) collect() {
	s.Helper()
	if err := s.m.Collect(); err != nil {
		s.Fatal(err)
	}
}

func (s *store) wipe() {
	s.Helper()
	if err := s.m.Wipe(); err != nil {
		s.Fatal(err)
	}
}
