package dynamodb

import (
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// inOneTurn has calls at a lock, which come one after the other, decided together.
func inOneTurn(t *testing.T, s *Store, lock string, calls ...func()) {
	t.Helper()
	s.turns.mu.Lock()
	if s.turns.waiting == nil {
		s.turns.waiting = make(map[string][]*visit)
	}
	s.turns.waiting[lock] = []*visit{} // as if a turn were under way
	s.turns.mu.Unlock()
	come := func() int {
		s.turns.mu.Lock()
		defer s.turns.mu.Unlock()
		return len(s.turns.waiting[lock])
	}
	var all sync.WaitGroup
	for i, call := range calls {
		all.Go(call)
		for end := time.Now().Add(patience); come() <= i; time.Sleep(time.Millisecond) {
			if time.Now().After(end) {
				t.Fatalf("call %d does not come to the turn", i)
			}
		}
	}
	s.take(lock)
	all.Wait()
}

// The two holds of a lease are released in one turn: the first changes the lease,
// the second ends it.
func TestBothHoldsAreReleasedInOneTurn(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	r := request("a", "one")
	l := granted(t, s, r)
	granted(t, s, request("a", "two", func(q *driver.AcquireRequest) { q.OwnerID, q.Key, q.Reentrant = r.OwnerID, r.Key, true }))
	hold := func(name string) func() {
		return func() {
			if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: name}); err != nil {
				t.Errorf("release of hold %s: %v", name, err)
			}
		}
	}
	inOneTurn(t, s, "a", hold("one"), hold("two"))
	if lock := inspect(t, s, "a"); len(lock.Holders) != 0 {
		t.Errorf("the lock is %+v, want it free", lock)
	}
}

// What is granted and left in one turn is not written.
func TestAGrantIsLeftInItsTurn(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	r := request("a", "before")
	release(t, s, r, granted(t, s, r))
	inOneTurn(t, s, "a", func() { granted(t, s, request("a", "one")) }, func() {
		if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "one"}); err != nil {
			t.Error(err)
		}
	})
	if lock := inspect(t, s, "a"); len(lock.Holders) != 0 {
		t.Errorf("the lock is %+v, want it free", lock)
	}
}
