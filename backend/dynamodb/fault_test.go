package dynamodb

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"reflect"
	"sync"
	"testing"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// writing is a call that writes: what stands before it, and the call itself, which
// may be repeated.
type writing struct {
	name   string
	before func(t *testing.T, d driver.Driver, lock string) *driver.Lease
	call   func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error
}

func writings() []writing {
	hold := func(t *testing.T, d driver.Driver, lock string) *driver.Lease {
		return granted(t, d, request(lock, "one"))
	}
	acquire := func(name string, change ...func(*driver.AcquireRequest)) func(context.Context, driver.Driver, string, *driver.Lease) error {
		return func(ctx context.Context, d driver.Driver, lock string, _ *driver.Lease) error {
			_, err := d.Acquire(ctx, request(lock, name, change...))
			return err
		}
	}
	return []writing{
		{"first acquire", func(*testing.T, driver.Driver, string) *driver.Lease { return nil }, acquire("one")},
		{"acquire of an idle lock", func(t *testing.T, d driver.Driver, lock string) *driver.Lease {
			release(t, d, request(lock, "one"), hold(t, d, lock))
			return nil
		}, acquire("two")},
		{"second reader", func(t *testing.T, d driver.Driver, lock string) *driver.Lease {
			return granted(t, d, request(lock, "one", shared))
		}, acquire("two", shared)},
		{"place", hold, acquire("two", queued)},
		{"claim", func(t *testing.T, d driver.Driver, lock string) *driver.Lease {
			l := hold(t, d, lock)
			waiting(t, d, request(lock, "two"))
			release(t, d, request(lock, "one"), l)
			return nil
		}, acquire("two", queued)},
		{"re-entrance", hold, acquire("two", func(r *driver.AcquireRequest) {
			r.OwnerID, r.Key, r.Reentrant = "owner of one", driver.KeyOf("one"), true
		})},
		{"renewal", hold, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Renew(ctx, &driver.RenewRequest{LeaseRef: refOf(request(lock, "one"), l), TTL: time.Minute})
			return err
		}},
		{"release", hold, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: refOf(request(lock, "one"), l), RequestID: "one"})
			return err
		}},
		{"release of an unnamed hold", hold, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: refOf(request(lock, "one"), l)})
			return err
		}},
		{"release of one of two holds", func(t *testing.T, d driver.Driver, lock string) *driver.Lease {
			l := hold(t, d, lock)
			granted(t, d, request(lock, "two", func(r *driver.AcquireRequest) {
				r.OwnerID, r.Key, r.Reentrant = "owner of one", driver.KeyOf("one"), true
			}))
			return l
		}, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: refOf(request(lock, "one"), l), RequestID: "two"})
			return err
		}},
		{"leave of a grant", hold, func(ctx context.Context, d driver.Driver, lock string, _ *driver.Lease) error {
			return d.Leave(ctx, &driver.LeaveRequest{LockID: lock, RequestID: "one", Key: driver.KeyOf("one")})
		}},
		{"leave of nothing", func(*testing.T, driver.Driver, string) *driver.Lease { return nil }, func(ctx context.Context, d driver.Driver, lock string, _ *driver.Lease) error {
			return d.Leave(ctx, &driver.LeaveRequest{LockID: lock, RequestID: "one"})
		}},
		{"revocation", hold, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Revoke(ctx, &driver.EvictRequest{LockID: lock, Token: l.Token, Cause: driver.CauseForced})
			return err
		}},
		{"eviction", hold, func(ctx context.Context, d driver.Driver, lock string, l *driver.Lease) error {
			_, err := d.Evict(ctx, &driver.EvictRequest{LockID: lock, Token: l.Token, Cause: driver.CauseForced})
			if errors.Is(err, driver.ErrLost) {
				return nil // the repeat is told that it is gone
			}
			return err
		}},
	}
}

// once meets the first write of a lock with the fault.
func meetOnce(p *testenv.DynamoProxy, lock string, fault testenv.DynamoFault) (met func() bool) {
	var mu sync.Mutex
	done := false
	p.Meet(func(operation string, body []byte) testenv.DynamoFault {
		mu.Lock()
		defer mu.Unlock()
		if done || operation != "UpdateItem" || !bytes.Contains(body, []byte(":l:"+lock+`"`)) {
			return testenv.DynamoPass
		}
		done = true
		return fault
	})
	return func() bool {
		mu.Lock()
		defer mu.Unlock()
		return done
	}
}

// state is what a lock looks like apart from what differs with the time.
func state(l *driver.Lock) string {
	text := ""
	for _, h := range l.Holders {
		text += fmt.Sprintf("holder %s shared %v holds %d attach %d revoked %v highest %v; ", h.OwnerID, h.Shared, h.HoldCount, h.Attach, h.Revoked, h.Token == l.Token)
	}
	for _, w := range l.Waiters {
		text += fmt.Sprintf("waiter %s at %d; ", w.OwnerID, w.Position)
	}
	return text
}

// Whatever happens to the one write of a call: its error says what is certain, and
// the repeat, by the same driver or by another, makes it what it would have been.
func TestEachWriteIsLostThrottledBrokenAndDoubled(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	direct := open(t, options(e, e.Endpoint()))
	for _, w := range writings() {
		t.Run(w.name, func(t *testing.T) {
			lock := "right/" + w.name
			lock = string(bytes.ReplaceAll([]byte(lock), []byte(" "), []byte("-")))
			l := w.before(t, direct, lock)
			if err := w.call(t.Context(), direct, lock, l); err != nil {
				t.Fatal(err)
			}
			want := state(inspect(t, direct, lock))
			for fault, outcome := range map[testenv.DynamoFault]error{
				testenv.DynamoDropReply: driver.ErrIndeterminate, testenv.DynamoDropRequest: driver.ErrIndeterminate,
				testenv.DynamoBreak: driver.ErrIndeterminate, testenv.DynamoThrottle: ErrThrottled, testenv.DynamoTwice: nil,
			} {
				for _, again := range []string{"same", "other"} {
					proxy := testenv.StartDynamoProxy(t, e)
					s := open(t, options(e, proxy.Endpoint()))
					lock := fmt.Sprintf("%s/%d/%s", lock, fault, again)
					l := w.before(t, s, lock)
					met := meetOnce(proxy, lock, fault)
					err := w.call(t.Context(), s, lock, l)
					if !met() {
						t.Fatalf("fault %d: the call wrote nothing", fault)
					}
					if outcome == nil && err != nil || outcome != nil && !errors.Is(err, outcome) {
						t.Errorf("fault %d: error %v, want %v", fault, err, outcome)
					}
					if errors.Is(err, driver.ErrIndeterminate) && errors.Is(err, driver.ErrUnavailable) {
						t.Errorf("fault %d: %v says that it is not done, too", fault, err)
					}
					repeat := driver.Driver(s)
					if again == "other" {
						repeat = direct
					}
					if err := w.call(t.Context(), repeat, lock, l); err != nil {
						t.Errorf("fault %d, repeated by the %s: %v", fault, again, err)
					}
					if got := state(inspect(t, direct, lock)); got != want {
						t.Errorf("fault %d, repeated by the %s:\n got %s\nwant %s", fault, again, got, want)
					}
				}
			}
		})
	}
}

// A write whose reply was lost and that is repeated much later, when the lease has
// ended, takes nothing.
func TestALateCopyTakesNothing(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	direct := open(t, options(e, e.Endpoint()))
	proxy := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, proxy.Endpoint()))
	if err := s.Ping(t.Context()); err != nil { // the table is known
		t.Fatal(err)
	}
	var kept []byte
	proxy.Meet(func(operation string, body []byte) testenv.DynamoFault {
		if operation == "UpdateItem" && kept == nil {
			kept = bytes.Clone(body)
			return testenv.DynamoDropRequest
		}
		return testenv.DynamoPass
	})
	r := request("a", "one")
	if _, err := s.Acquire(t.Context(), r); !errors.Is(err, driver.ErrIndeterminate) {
		t.Fatalf("a lost request: %v", err)
	}
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "one", Key: r.Key}); err != nil {
		t.Fatal(err)
	}
	// Now the network delivers it.
	if status := e.Deliver(t, "UpdateItem", kept); status != 400 {
		t.Errorf("the late copy was answered %d, want it refused", status)
	}
	if l := inspect(t, direct, "a"); len(l.Holders) != 0 {
		t.Errorf("the late copy took %+v", l.Holders)
	}
	_, err := s.Acquire(t.Context(), r)
	lost(t, err, driver.CauseReleased)
	granted(t, s, request("a", "two"))
}

// A renewal that comes late, after a newer one, is without effect.
func TestALateRenewalMovesNothing(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	proxy := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, proxy.Endpoint()))
	r := request("a", "one")
	l := granted(t, s, r)
	var kept []byte
	proxy.Meet(func(operation string, body []byte) testenv.DynamoFault {
		if operation == "UpdateItem" && kept == nil {
			kept = bytes.Clone(body)
		}
		return testenv.DynamoPass
	})
	renew(t, s, r, l)
	renew(t, s, r, l)
	before := e.MustItems(t, table1)
	if status := e.Deliver(t, "UpdateItem", kept); status != 400 {
		t.Errorf("the late copy was answered %d, want it refused", status)
	}
	if after := e.MustItems(t, table1); !reflect.DeepEqual(before, after) {
		t.Errorf("the late copy changed\n%v to\n%v", before, after)
	}
}

// Two renewals of one lease under way together both succeed.
func TestTwoRenewalsTogether(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	r := request("a", "one")
	l := granted(t, s, r)
	for range 20 {
		errs := make(chan error, 4)
		for range 4 {
			go func() {
				_, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
				errs <- err
			}()
		}
		for range 4 {
			if err := <-errs; err != nil {
				t.Fatalf("one of two renewals: %v", err)
			}
		}
	}
}

// A throttled table makes acquires pause; renewals and releases go on meanwhile.
func TestRenewalsPassAThrottledTable(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	proxy := testenv.StartDynamoProxy(t, e)
	var clock at
	clock.pass(time.Hour)
	s := open(t, options(e, proxy.Endpoint(), func(o *Options) { o.Clock = &clock }))
	r := request("a", "one")
	l := granted(t, s, r)
	proxy.Meet(func(operation string, body []byte) testenv.DynamoFault {
		if operation == "GetItem" || bytes.Contains(body, []byte("attribute_not_exists")) {
			return testenv.DynamoThrottle
		}
		return testenv.DynamoPass
	})
	for range 8 {
		clock.pass(lastPause)
		_, err := s.Acquire(t.Context(), request("b", "two"))
		if !errors.Is(err, ErrThrottled) || !errors.Is(err, driver.ErrUnavailable) || !errors.Is(err, driver.ErrLimit) || errors.Is(err, driver.ErrIndeterminate) {
			t.Fatalf("a throttled table: %v", err)
		}
	}
	proxy.Seen()
	ctx, cancel := context.WithTimeout(t.Context(), 10*time.Millisecond)
	defer cancel()
	if _, err := s.Acquire(ctx, request("b", "two")); !errors.Is(err, ErrThrottled) {
		t.Errorf("an acquire right after: %v, want it kept back", err)
	}
	if seen := proxy.Seen(); len(seen) != 0 {
		t.Errorf("it sent %v", seen)
	}
	renew(t, s, r, l)
	release(t, s, r, l)
	proxy.Meet(nil)
	clock.pass(lastPause)
	granted(t, s, request("b", "two"))
}

// The pauses of acquires grow for as long as none is answered, whatever renewals do.
func TestRenewalsDoNotEndThePauses(t *testing.T) {
	t.Parallel()
	var clock at
	clock.pass(time.Hour)
	e := testenv.StartDynamoT(t)
	proxy := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, proxy.Endpoint(), func(o *Options) { o.Clock = &clock }))
	r := request("a", "one")
	l := granted(t, s, r)
	pause := func() time.Duration {
		s.brake.mu.Lock()
		defer s.brake.mu.Unlock()
		return s.brake.pause
	}
	for want := firstPause; ; want = min(2*want, lastPause) {
		proxy.Meet(func(string, []byte) testenv.DynamoFault { return testenv.DynamoThrottle })
		if _, err := s.Acquire(t.Context(), request("b", "two")); !errors.Is(err, ErrThrottled) {
			t.Fatalf("a throttled table: %v", err)
		}
		proxy.Meet(nil)
		l = renew(t, s, r, l)
		if got := pause(); got != want {
			t.Fatalf("acquires pause for %v, want %v", got, want)
		}
		clock.pass(lastPause)
		if want == lastPause {
			break
		}
	}
	refused(t, s, request("a", "two"))
	if got := pause(); got != 0 {
		t.Errorf("acquires pause for %v after one was answered", got)
	}
}

// An item that is deleted by hand: the holder learns it at its next renewal, the
// waiter gets in, and tokens rise.
func TestAnItemDeletedByHand(t *testing.T) {
	t.Parallel()
	e, s := started(t)
	r := request("a", "one")
	l := granted(t, s, r)
	waiter := request("a", "two")
	waiting(t, s, waiter)
	if _, err := e.Client().DeleteItem(t.Context(), &sdk.DeleteItemInput{TableName: &s.o.Table, Key: map[string]value{"k": text(s.recordKey("a"))}}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
	lost(t, err, driver.CauseUnknown)
	_, err = s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "one"})
	lost(t, err, driver.CauseUnknown)
	next := granted(t, s, waiter)
	if next.Token <= l.Token {
		t.Errorf("token %d after %d", next.Token, l.Token)
	}
	s.chores.wg.Wait()
	if items := e.MustItems(t, table1); len(items) != 1 {
		t.Errorf("%d items, want the record alone", len(items))
	}
}

// A call whose caller has left goes on, and what it answers is nobody's: the race
// detector watches over that.
func TestACallGoesOnWithoutItsCaller(t *testing.T) {
	t.Parallel()
	p, s := counted(t)
	for i := range 20 {
		ctx, cancel := context.WithCancel(t.Context())
		p.Meet(func(string, []byte) testenv.DynamoFault {
			cancel()
			return testenv.DynamoPass
		})
		r := request(fmt.Sprint("a", i), "one")
		if _, err := s.Acquire(ctx, r); err != nil && !errors.Is(err, driver.ErrIndeterminate) {
			t.Errorf("acquire: %v, want a lease or an unknown outcome", err)
		}
		s.turns.running.Wait() // and nothing before it that would order the two
		p.Meet(nil)
		granted(t, s, r) // the same, repeated
	}
}
