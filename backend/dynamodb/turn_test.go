package dynamodb

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
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

// A crowd of readers that died together is more than one expression can name: the
// service allows 4 KB and 300 operators, which the emulator does not count.
func TestACrowdOfExpiredReadersIsPassedOver(t *testing.T) {
	t.Parallel()
	const crowd = 200
	var clock at
	clock.pass(time.Hour)
	e := testenv.StartDynamoT(t)
	p := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, p.Endpoint(), func(o *Options) { o.Clock = &clock }))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	readers := make(map[string]value)
	for i := range int64(crowd) {
		h := s.lease(request("a", fmt.Sprint("r", i), shared), i+1)
		readers[tokenName(h.token)] = h.encode()
	}
	put(t, s, map[string]value{
		"k": text(s.recordKey("a")), "f": number(driver.Format), "v": number(1), "tok": number(crowd), "seq": number(0),
		"h": object(readers), "q": list(nil), "gone": list(nil),
	})
	p.Meet(func(operation string, body []byte) testenv.DynamoFault {
		var in struct{ ConditionExpression, UpdateExpression string }
		if err := json.Unmarshal(body, &in); err != nil {
			t.Error(err)
		}
		if n := max(len(in.ConditionExpression), len(in.UpdateExpression)); n > 4<<10 {
			t.Errorf("%s has an expression of %d bytes", operation, n)
		}
		return testenv.DynamoPass
	})
	refused(t, s, request("a", "early"))
	clock.pass(time.Minute)
	res, err := s.Acquire(t.Context(), request("a", "writer"))
	if err != nil || res.Lease == nil {
		t.Fatalf("the writer: %+v, %v", res, err)
	}
	if len(res.Evicted) != crowd {
		t.Errorf("%d expiries were reported, want %d", len(res.Evicted), crowd)
	}
}

// An expiry that a call has written whose caller had left is told by the next one,
// and once.
func TestAnExpiryIsToldWhenItsCallerHasLeft(t *testing.T) {
	t.Parallel()
	var clock at
	clock.pass(time.Hour)
	e := testenv.StartDynamoT(t)
	p := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, p.Endpoint(), func(o *Options) { o.Clock = &clock }))
	acquire := func(ctx context.Context, lock string, _ int64) ([]driver.Ended, error) {
		res, err := s.Acquire(ctx, request(lock, "two"))
		if err != nil {
			return nil, err
		}
		return res.Evicted, nil
	}
	evict := func(ctx context.Context, lock string, token int64) ([]driver.Ended, error) {
		ended, err := s.Evict(ctx, &driver.EvictRequest{LockID: lock, Token: token, Cause: driver.CauseExpired})
		if err != nil {
			return nil, err
		}
		return []driver.Ended{*ended}, nil
	}
	for lock, call := range map[string]func(context.Context, string, int64) ([]driver.Ended, error){"acquire": acquire, "evict": evict} {
		l := granted(t, s, request(lock, "one"))
		clock.pass(time.Minute)
		ctx, cancel := context.WithCancel(t.Context())
		left := make(chan struct{})
		p.Meet(func(string, []byte) testenv.DynamoFault {
			cancel()
			<-left
			return testenv.DynamoPass
		})
		_, err := call(ctx, lock, l.Token)
		close(left)
		if !errors.Is(err, driver.ErrIndeterminate) {
			t.Fatalf("%s: %v, want its caller to have left", lock, err)
		}
		s.turns.running.Wait()
		p.Meet(nil)
		told, err := call(t.Context(), lock, l.Token)
		if err != nil || len(told) != 1 || told[0].Token != l.Token || told[0].Cause != driver.CauseExpired {
			t.Errorf("%s, repeated: %+v, %v; want the expiry of %d", lock, told, err, l.Token)
		}
		if told, _ = call(t.Context(), lock, l.Token); len(told) != 0 {
			t.Errorf("%s, a third time: %+v", lock, told)
		}
	}
}
