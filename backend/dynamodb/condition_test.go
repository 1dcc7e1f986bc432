package dynamodb

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// These tests hold the conditions of the writes; mutant_test.go flips them.

// counted is a driver whose requests are counted by operation.
func counted(t *testing.T, change ...func(*Options)) (*testenv.DynamoProxy, *Store) {
	t.Helper()
	e := testenv.StartDynamoT(t)
	p := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, p.Endpoint(), change...))
	if err := s.Ping(t.Context()); err != nil {
		t.Fatal(err)
	}
	p.Seen()
	return p, s
}

func seen(t *testing.T, p *testenv.DynamoProxy, what string, want ...string) {
	t.Helper()
	if got := p.Seen(); fmt.Sprint(got) != fmt.Sprint(want) {
		t.Errorf("%s took %v, want %v", what, got, want)
	}
}

// What an operation costs is part of what the documents say.
func TestConditionsOfTheShortWays(t *testing.T) {
	t.Parallel()
	var clock at // it stands: what was written stays the latest
	clock.pass(time.Hour)
	p, s := counted(t, func(o *Options) { o.Clock = &clock })
	r := request("a", "one")
	l := granted(t, s, r)
	seen(t, p, "a first acquire", "UpdateItem")
	l = renew(t, s, r, l)
	seen(t, p, "a renewal", "UpdateItem")
	if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: l.Token}, TTL: time.Minute}); err != nil {
		t.Error(err)
	}
	seen(t, p, "a renewal by the application", "UpdateItem")
	release(t, s, r, l)
	seen(t, p, "a release", "UpdateItem")
	r2 := request("a", "two")
	l2 := granted(t, s, r2)
	seen(t, p, "an acquire of an idle lock", "UpdateItem")
	refused(t, s, request("a", "three"))
	seen(t, p, "a refused try", "UpdateItem", "GetItem")
	waiting(t, s, request("a", "four"))
	seen(t, p, "a place", "UpdateItem", "GetItem", "UpdateItem", "PutItem")
	waiting(t, s, request("a", "four"))
	seen(t, p, "a poll", "GetItem")
	release(t, s, r2, l2)
	seen(t, p, "a release with a waiter", "UpdateItem")
	granted(t, s, request("a", "four", queued))
	s.chores.wg.Wait()
	seen(t, p, "a claim after a release here", "UpdateItem", "DeleteItem")
}

// An acquire at once meets, one by one, what forbids it.
func TestConditionOfAnAcquireAtOnce(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	at := func(r *driver.AcquireRequest) error {
		_, err := s.atOnce(t.Context(), r)
		return err
	}
	if err := s.ready(t.Context()); err != nil {
		t.Fatal(err)
	}
	refusedAt := func(what string, r *driver.AcquireRequest) {
		t.Helper()
		if err := at(r); !errors.Is(err, errRefused) {
			t.Errorf("%s: %v, want it refused", what, err)
		}
	}
	// held
	one := request("a", "one")
	l := granted(t, s, one)
	refusedAt("a held lock", request("a", "two"))
	// waited for, though free
	waiting(t, s, request("a", "waiter"))
	release(t, s, one, l)
	refusedAt("a lock with a waiter", request("a", "two"))
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "waiter"}); err != nil {
		t.Fatal(err)
	}
	// ended: the request, or the attempt alone
	refusedAt("a request that was released", request("a", "one"))
	refusedAt("a request that was left", request("a", "waiter"))
	attempt := request("a", "attempt")
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "attempt", Key: attempt.Key}); err != nil {
		t.Fatal(err)
	}
	refusedAt("an attempt that was left", attempt)
	other := request("a", "attempt", func(r *driver.AcquireRequest) { r.Key = driver.KeyOf("another") })
	if err := at(other); err != nil {
		t.Errorf("another attempt: %v", err)
	}
	// a token that would not rise
	high := request("b", "one", func(r *driver.AcquireRequest) { r.TokenFloor = driver.MaxClockToken })
	release(t, s, high, granted(t, s, high))
	refusedAt("a clock behind the last token", request("b", "two"))
	// a newer format
	newer := map[string]value{"k": text(s.recordKey("c")), "f": number(driver.Format + 1), "h": object(nil), "q": list(nil), "tok": number(1), "gone": list(nil)}
	put(t, s, newer)
	refusedAt("a newer format", request("c", "one"))
}

// A renewal meets, one by one, what forbids it; the release likewise.
func TestConditionsOfRenewalAndRelease(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	r := request("a", "one")
	l := granted(t, s, r)
	raise := func(what string, change func(*driver.RenewRequest), ttl time.Duration, beat int64, want error) {
		t.Helper()
		req := &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: ttl}
		change(req)
		if _, err := s.raise(t.Context(), req, ttl, beat, false); !errors.Is(err, want) {
			t.Errorf("%s: %v, want %v", what, err, want)
		}
	}
	same := func(*driver.RenewRequest) {}
	beat := s.beat(0)
	raise("a renewal", same, time.Minute, beat, nil)
	raise("the same again", same, time.Minute, beat, errRefused)
	raise("an older one", same, time.Minute, beat-1, errRefused)
	raise("a shorter one", same, time.Minute-time.Second, s.beat(0), errRefused)
	raise("another key", func(q *driver.RenewRequest) { q.Key = driver.KeyOf("x") }, time.Minute, s.beat(0), errRefused)
	raise("another token", func(q *driver.RenewRequest) { q.Token++ }, time.Minute, s.beat(0), errRefused)
	raise("another attachment", func(q *driver.RenewRequest) { q.Attach = 7 }, time.Minute, s.beat(0), errRefused)
	raise("no attachment", func(q *driver.RenewRequest) { q.Attach = 0 }, time.Minute, s.beat(0), nil)
	// A shorter one by the front door keeps the longer time.
	short, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Second})
	if err != nil || short.TTL != time.Minute {
		t.Errorf("a shorter renewal: %+v, %v", short, err)
	}

	free := func(what string, change func(*driver.ReleaseRequest), want error) {
		t.Helper()
		req := &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "one"}
		change(req)
		if _, err := s.releaseAtOnce(t.Context(), req); !errors.Is(err, want) {
			t.Errorf("release, %s: %v, want %v", what, err, want)
		}
	}
	free("another key", func(q *driver.ReleaseRequest) { q.Key = driver.KeyOf("x") }, errRefused)
	free("another hold", func(q *driver.ReleaseRequest) { q.RequestID = "two" }, errRefused)
	free("another attachment", func(q *driver.ReleaseRequest) { q.Attach = 7 }, errRefused)
	further := request("a", "two", func(q *driver.AcquireRequest) { q.OwnerID, q.Key, q.Reentrant = r.OwnerID, r.Key, true })
	granted(t, s, further)
	free("one of two holds", func(*driver.ReleaseRequest) {}, errRefused)
	if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "two"}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Revoke(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced}); err != nil {
		t.Fatal(err)
	}
	raise("a revoked lease", same, time.Minute, s.beat(0), errRefused)
	free("the last hold", func(*driver.ReleaseRequest) {}, nil)
	free("again", func(*driver.ReleaseRequest) {}, errRefused)
}

// The ends of one lock stay few, and the latest sixteen at least are remembered.
func TestConditionOfTheEnds(t *testing.T) {
	t.Parallel()
	e, s := started(t)
	type done struct {
		r *driver.AcquireRequest
		l *driver.Lease
	}
	var all []done
	for i := range 3 * many / 2 {
		r := request("a", fmt.Sprint("r", i))
		l := granted(t, s, r)
		release(t, s, r, l)
		all = append(all, done{r, l})
		if i > 16 {
			d := all[len(all)-driver.RememberedEnds]
			if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(d.r, d.l), RequestID: d.r.RequestID}); err != nil {
				t.Fatalf("release %d, repeated after fifteen others: %v", i, err)
			}
		}
		for _, item := range e.MustItems(t, table1) {
			if n := len((&reader{}).texts(item, "gone")); n > many+2 {
				t.Fatalf("%d texts in gone", n)
			}
		}
	}
}

// Whoever read the record before it was changed does not overwrite that.
func TestConditionOfTheVersion(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	direct := open(t, options(e, e.Endpoint()))
	granted(t, direct, request("a", "holder", shared))
	granted(t, direct, request("new", "holder", shared))
	p := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, p.Endpoint()))
	for _, lock := range []string{"a", "fresh"} {
		between := false
		p.Meet(func(operation string, _ []byte) testenv.DynamoFault {
			if operation == "UpdateItem" && !between {
				between = true
				if lock == "fresh" {
					if err := direct.Leave(t.Context(), &driver.LeaveRequest{LockID: lock, RequestID: "late"}); err != nil {
						t.Error(err)
					}
				} else {
					waiting(t, direct, request(lock, "writer"))
				}
			}
			return testenv.DynamoPass
		})
		if lock == "fresh" {
			if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: lock, RequestID: "left"}); err != nil {
				t.Error(err)
			}
			p.Meet(nil)
			for _, name := range []string{"late", "left"} {
				_, err := s.Acquire(t.Context(), request(lock, name))
				lost(t, err, driver.CauseReleased)
			}
			continue
		}
		refused(t, s, request(lock, "reader", shared)) // the writer was first
		if l := inspect(t, direct, lock); len(l.Holders) != 1 || len(l.Waiters) != 1 {
			t.Errorf("the lock is %+v", l)
		}
	}
}

// The heartbeat of a sidecar that beats again is not cleared away.
func TestConditionOfADeadHeartbeat(t *testing.T) {
	t.Parallel()
	e, s := started(t)
	granted(t, s, request("a", "holder"))
	waiting(t, s, request("a", "waiter"))
	name := beatName{"a", s.id}
	has := func() bool {
		for _, item := range e.MustItems(t, table1) {
			if (&reader{}).text(item, "k") == s.beatKey(name) {
				return true
			}
		}
		return false
	}
	other := open(t, options(e, e.Endpoint()))
	other.beats.read(name, 1, time.Minute, 0) // what it saw long ago
	other.bury(name)
	other.chores.wg.Wait()
	if !has() {
		t.Error("a heartbeat that goes on was cleared away")
	}
	o, _ := s.beats.known(name)
	other.beats.read(name, o.beat, time.Minute, 0)
	other.bury(name)
	other.chores.wg.Wait()
	if has() {
		t.Error("a heartbeat that stood still was left")
	}
}

// A listing has what is held or waited for, by its prefix.
func TestConditionOfAListing(t *testing.T) {
	t.Parallel()
	_, s := started(t)
	granted(t, s, request("x/held", "one"))
	granted(t, s, request("y/held", "one"))
	idle := request("x/idle", "one")
	release(t, s, idle, granted(t, s, idle))
	holder := request("x/waited", "holder")
	l := granted(t, s, holder)
	waiting(t, s, request("x/waited", "waiter"))
	release(t, s, holder, l)
	page, err := s.List(t.Context(), &driver.ListRequest{Prefix: "x/", PageSize: 10})
	if err != nil {
		t.Fatal(err)
	}
	found := make(map[string]bool)
	for _, l := range page.Locks {
		found[l.LockID] = true
	}
	if len(found) != 2 || !found["x/held"] || !found["x/waited"] {
		t.Errorf("listed %v", found)
	}
}

// A place that is given up in a write that others were before is given up in the
// next one: not forgotten here and left in the store.
func TestAPlaceIsGivenUpInTheEnd(t *testing.T) {
	t.Parallel()
	e := testenv.StartDynamoT(t)
	direct := open(t, options(e, e.Endpoint()))
	p := testenv.StartDynamoProxy(t, e)
	s := open(t, options(e, p.Endpoint()))
	granted(t, s, request("a", "holder"))
	waiting(t, s, request("a", "waiter"))
	between := false
	p.Meet(func(operation string, _ []byte) testenv.DynamoFault {
		if operation == "UpdateItem" && !between {
			between = true
			waiting(t, direct, request("a", "other"))
		}
		return testenv.DynamoPass
	})
	refused(t, s, request("a", "waiter")) // the last try
	if l := inspect(t, direct, "a"); !between || len(l.Waiters) != 1 || l.Waiters[0].RequestID != "other" {
		t.Errorf("waiters %+v, want the other one alone", l.Waiters)
	}
}

// An attachment that was fenced ends nothing, also where its release is decided on
// what this driver wrote before it was fenced.
func TestAFencedAttachmentReleasesNothing(t *testing.T) {
	t.Parallel()
	e, s := started(t)
	other := open(t, options(e, e.Endpoint()))
	r := request("a", "first")
	granted(t, s, r)
	granted(t, s, request("a", "second", func(q *driver.AcquireRequest) { q.OwnerID, q.Key, q.Reentrant = r.OwnerID, r.Key, true }))
	l := granted(t, s, r)
	if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "second"}); err != nil {
		t.Fatal(err)
	}
	adopted := driver.LeaseRef{LockID: "a", Key: r.Key, Token: l.Token}
	if _, err := other.Adopt(t.Context(), &driver.RenewRequest{LeaseRef: adopted, TTL: r.TTL}); err != nil {
		t.Fatal(err)
	}
	_, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "first"})
	lost(t, err, driver.CauseReattached)
	if lock := inspect(t, other, "a"); len(lock.Holders) != 1 {
		t.Errorf("the lock is %+v, want it held by whoever adopted it", lock)
	}
}
