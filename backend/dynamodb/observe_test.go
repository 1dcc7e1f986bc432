package dynamodb

import (
	"errors"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// sidecars are drivers on one emulator, each with a clock that the test sets.
func sidecars(t *testing.T, n int) (e *testenv.Dynamo, all []*Store, clocks []*at) {
	t.Helper()
	e = testenv.StartDynamoT(t)
	for i := range n {
		clock := &at{}
		clock.now.Store(int64(i+1) * int64(time.Hour)) // they have nothing in common
		clocks = append(clocks, clock)
		all = append(all, open(t, options(e, e.Endpoint(), func(o *Options) { o.Clock = clock })))
	}
	return e, all, clocks
}

// A lease of another sidecar ends for whoever has seen it unchanged for its time,
// counted from when it was first seen, and not a moment before.
func TestALeaseIsSeenToExpire(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 3)
	first := granted(t, s[0], request("a", "one"))
	clocks[1].pass(time.Hour) // before it looks: proves nothing
	waiting(t, s[1], request("a", "two"))
	clocks[1].pass(time.Minute - 1)
	waiting(t, s[1], request("a", "two"))
	if l := inspect(t, s[1], "a"); len(l.Holders) != 1 || l.Holders[0].Remaining != 1 && l.Holders[0].Remaining != time.Microsecond {
		t.Errorf("holders %+v, want one that has next to nothing left", l.Holders)
	}
	clocks[1].pass(1)
	res, err := s[1].Acquire(t.Context(), request("a", "two", queued))
	if err != nil || res.Lease == nil || res.Lease.Token <= first.Token {
		t.Fatalf("after the lease's time: %+v, %v", res, err)
	}
	if len(res.Evicted) != 1 || res.Evicted[0].Token != first.Token || res.Evicted[0].Cause != driver.CauseExpired {
		t.Errorf("evicted %+v", res.Evicted)
	}
	_, err = s[0].Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(request("a", "one"), first), TTL: time.Minute})
	lost(t, err, driver.CauseExpired)
	if held := refused(t, s[2], request("a", "three")); held.Holder == nil || held.Holder.Token != res.Lease.Token {
		t.Errorf("refused by %+v", held)
	}
}

// A renewal between two looks starts the observation anew, whatever else changes.
func TestARenewalIsSeen(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 3)
	r := request("a", "one")
	l := granted(t, s[0], r)
	waiting(t, s[1], request("a", "two"))
	clocks[1].pass(40 * time.Second)
	renew(t, s[0], r, l)
	waiting(t, s[1], request("a", "two"))
	clocks[1].pass(40 * time.Second) // 80 s after the first look
	waiting(t, s[2], request("a", "three"))
	waiting(t, s[1], request("a", "two"))
	clocks[1].pass(20 * time.Second)
	granted(t, s[1], request("a", "two", queued))
}

// Enqueues and other readers' renewals do not keep a dead reader alive.
func TestOthersChangesDoNotProlong(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 2)
	dead := granted(t, s[0], request("a", "dead", shared))
	r := request("a", "living", shared)
	living := granted(t, s[0], r)
	waiting(t, s[1], request("a", "writer"))
	for i := range 6 {
		clocks[1].pass(10 * time.Second)
		renew(t, s[0], r, living)
		res, err := s[1].Acquire(t.Context(), request("a", "writer", queued))
		if err != nil || res.Lease != nil {
			t.Fatalf("while a reader lives: %+v, %v", res, err)
		}
		if ended := len(res.Evicted) == 1 && res.Evicted[0].Token == dead.Token; ended != (i == 5) {
			t.Errorf("after %d0 s evicted %+v", i+1, res.Evicted)
		}
	}
	release(t, s[0], r, living)
	granted(t, s[1], request("a", "writer", queued))
}

// Of several observers one evicts, and none that has looked for less than the time.
func TestOneOfManyObserversEvicts(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 5)
	l := granted(t, s[0], request("a", "one"))
	for i := range 4 {
		waiting(t, s[i+1], request("a", string(rune('a'+i))))
	}
	for _, c := range clocks[1:] {
		c.pass(time.Minute)
	}
	ends := make(chan int, 4)
	for i := range 4 {
		go func() {
			_, err := s[i+1].Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseExpired})
			if err != nil && !errors.Is(err, driver.ErrLost) {
				t.Errorf("evict: %v", err)
			}
			if err == nil {
				ends <- 1
			} else {
				ends <- 0
			}
		}()
	}
	won := 0
	for range 4 {
		won += <-ends
	}
	if won != 1 {
		t.Errorf("%d observers evicted the lease", won)
	}
}

// What was renewed while it was about to be evicted stays.
func TestAnEvictionMeetsARenewal(t *testing.T) {
	t.Parallel()
	e, s, clocks := sidecars(t, 1)
	proxy := testenv.StartDynamoProxy(t, e)
	clock := &at{}
	slow := open(t, options(e, proxy.Endpoint(), func(o *Options) { o.Clock = clock }))
	r := request("a", "one")
	l := granted(t, s[0], r)
	waiting(t, slow, request("a", "two"))
	clock.pass(time.Minute)
	renewed := false
	proxy.Meet(func(operation string, _ []byte) testenv.DynamoFault {
		if operation == "UpdateItem" && !renewed { // the eviction, after its read
			renewed = true
			renew(t, s[0], r, l)
		}
		return testenv.DynamoPass
	})
	waiting(t, slow, request("a", "two"))
	if !renewed {
		t.Error("nothing was to be evicted")
	}
	if got := tokens(inspect(t, s[0], "a")); len(got) != 1 || got[0] != l.Token {
		t.Errorf("holders %v, want the renewed lease", got)
	}
	_ = clocks
}

// Two sidecars' waiters: when one falls silent its places are dropped after their
// time, however many, and its heartbeat with them; while it polls they stand.
func TestASilentSidecarLosesItsPlaces(t *testing.T) {
	t.Parallel()
	e, s, clocks := sidecars(t, 3)
	holder := request("a", "holder")
	l := granted(t, s[0], holder)
	for _, name := range []string{"w1", "w2", "w3"} {
		waiting(t, s[1], request("a", name))
	}
	mine := request("a", "mine")
	if res := waiting(t, s[2], mine); res.Position != 4 {
		t.Fatalf("the last one stands at %d", res.Position)
	}
	poll := func(d time.Duration) {
		t.Helper()
		for _, c := range clocks {
			c.pass(d)
		}
		l = renew(t, s[0], holder, l)
	}
	for range 4 { // two minutes
		poll(30 * time.Second)
		waiting(t, s[1], request("a", "w1"))
		waiting(t, s[1], request("a", "w2"))
		waiting(t, s[1], request("a", "w3"))
		if res := waiting(t, s[2], mine); res.Position != 4 {
			t.Fatalf("while they poll, the last one stands at %d", res.Position)
		}
	}
	position := 0
	for range 4 {
		poll(30 * time.Second)
		position = waiting(t, s[2], mine).Position
	}
	if position != 1 {
		t.Errorf("two minutes after they fell silent, the last one stands at %d", position)
	}
	release(t, s[0], holder, l)
	granted(t, s[2], mine)
	s[2].chores.wg.Wait()
	for _, item := range e.MustItems(t, table1) {
		if key := (&reader{}).text(item, "k"); key != s[0].recordKey("a") {
			t.Errorf("the item %s is left", key)
		}
	}
}

// A place of one's own that ran out is dropped by its sidecar's other waiter, while
// the heartbeat of both goes on.
func TestADeadPlaceBesideALivingOne(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 2)
	holder := request("a", "holder")
	l := granted(t, s[0], holder)
	waiting(t, s[1], request("a", "dead"))
	living := request("a", "living")
	for range 3 {
		if res := waiting(t, s[1], living); res.Position != 2 {
			t.Fatalf("position %d", res.Position)
		}
		clocks[1].pass(20 * time.Second)
		l = renew(t, s[0], holder, l)
	}
	if res := waiting(t, s[1], living); res.Position != 1 {
		t.Errorf("position %d behind a dead place", res.Position)
	}
	release(t, s[0], holder, l)
	granted(t, s[1], living)
}

// A repeat that only finds the lease, on a sidecar that knows nothing of it, proves
// it anew: otherwise it would count from later than its observers.
func TestARepeatElsewhereMovesTheHeartbeat(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 3)
	r := request("a", "one")
	l := granted(t, s[0], r)
	waiting(t, s[2], request("a", "observer"))
	clocks[1].pass(30 * time.Second)
	clocks[2].pass(30 * time.Second)
	again := granted(t, s[1], r)
	if again.Token != l.Token || again.Attach != l.Attach || len(again.Holds) != 1 {
		t.Errorf("repeated %+v, want %+v", again, l)
	}
	waiting(t, s[2], request("a", "observer"))
	clocks[2].pass(time.Minute - 1)
	waiting(t, s[2], request("a", "observer"))
	// The one who was told of it repeats without a write, and from the same moment.
	clocks[1].pass(10 * time.Second)
	if third := granted(t, s[1], r); third.Origin != again.Origin || third.Remaining != again.Remaining {
		t.Errorf("the second repeat counts from %v for %v, the first from %v for %v", third.Origin, third.Remaining, again.Origin, again.Remaining)
	}
}

// A repeat under another secret takes the lease over, with the time that is left of
// it.
func TestARepeatUnderAnotherKeyProlongsNothing(t *testing.T) {
	t.Parallel()
	_, s, clocks := sidecars(t, 1)
	r := request("a", "one")
	l := granted(t, s[0], r)
	clocks[0].pass(30 * time.Second)
	other := *r
	other.Key = driver.KeyOf("another")
	again := granted(t, s[0], &other)
	if again.Token != l.Token || again.Attach != l.Attach+1 || again.Origin != l.Origin || again.Remaining != l.Remaining {
		t.Errorf("taken over %+v, was %+v", again, l)
	}
	_, err := s[0].Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
	if !errors.Is(err, driver.ErrNotOwner) {
		t.Errorf("the older secret: %v", err)
	}
	clocks[0].pass(30 * time.Second)
	granted(t, s[0], request("a", "two"))
}
