package redis

import (
	"errors"
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// patience bounds what a test waits for.
var patience = time.Minute

// until waits for a condition of the server, which sends no event for it.
func until(t testing.TB, what string, ok func() bool) {
	t.Helper()
	for deadline := time.Now().Add(patience); !ok(); time.Sleep(5 * time.Millisecond) {
		if time.Now().After(deadline) {
			t.Fatalf("no end of the wait until %s", what)
		}
	}
}

func request(lockID, name string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: lockID, OwnerID: "owner-" + name, RequestID: name, Key: driver.KeyOf(name), TTL: time.Minute, PlaceTTL: time.Minute,
	}
}

func shared(r *driver.AcquireRequest) *driver.AcquireRequest { r.Shared = true; return r }

func queued(r *driver.AcquireRequest) *driver.AcquireRequest { r.Enqueue = true; return r }

func granted(t testing.TB, d driver.Driver, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	res, err := d.Acquire(t.Context(), r)
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire %s: %+v (%v), want a lease", r.RequestID, res, err)
	}
	return res.Lease
}

func refOf(r *driver.AcquireRequest, l *driver.Lease) driver.LeaseRef {
	return driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: l.Token}
}

func release(t testing.TB, d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) {
	t.Helper()
	if _, err := d.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: r.RequestID}); err != nil {
		t.Fatalf("release %s: %v", r.RequestID, err)
	}
}

func holders(t testing.TB, d driver.Driver, lockID string) int {
	t.Helper()
	l, err := d.Inspect(t.Context(), lockID)
	if err != nil {
		t.Fatal(err)
	}
	return len(l.Holders)
}

func causeOf(err error) driver.Cause {
	if lost := (*driver.LostError)(nil); errors.As(err, &lost) {
		return lost.Cause
	}
	return ""
}

// A call that has no room for a report leaves the expired leases to one that
// has: an eviction of one reader, or a refusal, loses no other's expiry.
func TestEachExpiryIsReportedOnce(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	lives := shared(request("a", "lives"))
	lease := granted(t, s, lives)
	var dead []*driver.Lease
	for i := range 3 {
		r := shared(request("a", fmt.Sprint("dies", i)))
		r.TTL = time.Second
		dead = append(dead, granted(t, s, r))
	}
	until(t, "the readers are dead", func() bool { return holders(t, s, "a") == 1 })

	if _, err := s.Acquire(t.Context(), request("a", "writer")); !errors.Is(err, driver.ErrHeld) {
		t.Fatalf("a writer beside a reader: %v", err)
	}
	if _, err := s.Acquire(t.Context(), shared(request("a", "dies0"))); causeOf(err) != driver.CauseExpired {
		t.Errorf("repeating a request whose lease has expired: %v", err)
	}
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "dies0"}); err != nil {
		t.Error(err)
	}
	if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(lives, lease), TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	evict := func(l *driver.Lease, c driver.Cause) (*driver.Ended, error) {
		return s.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: c})
	}
	if _, err := evict(dead[0], driver.CauseForced); causeOf(err) != driver.CauseExpired {
		t.Errorf("forcing a lease that has expired: %v", err)
	}
	if e, err := evict(dead[0], driver.CauseExpired); err != nil || e.Token != dead[0].Token || e.OwnerID != "owner-dies0" || !e.Shared {
		t.Errorf("the first expiry: %+v (%v)", e, err)
	}
	if _, err := evict(dead[0], driver.CauseExpired); causeOf(err) != driver.CauseExpired {
		t.Errorf("the first expiry again: %v", err)
	}
	res, err := s.Acquire(t.Context(), shared(request("a", "reader")))
	if err != nil || len(res.Evicted) != 2 || res.Evicted[0].Token != dead[1].Token || res.Evicted[1].Token != dead[2].Token {
		t.Fatalf("the next grant reports %+v (%v), want the other two", res, err)
	}
	if res, err = s.Acquire(t.Context(), shared(request("a", "reader"))); err != nil || len(res.Evicted) != 0 {
		t.Errorf("the grant repeated reports %+v (%v)", res, err)
	}
	if _, err := s.Acquire(t.Context(), shared(request("a", "dies1"))); causeOf(err) != driver.CauseExpired {
		t.Errorf("repeating an evicted request: %v", err)
	}
}

// The hold that was released first is not how the lease ended.
func TestTheLatestEndNamesTheCause(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	for n := range 20 { // the order of a hash is the server's
		lock := fmt.Sprint("a", n)
		first, second := request(lock, "first"), request(lock, "second")
		l := granted(t, s, first)
		second.OwnerID, second.Key, second.Reentrant = first.OwnerID, first.Key, true
		granted(t, s, second)
		release(t, s, first, l)
		if _, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: lock, Token: l.Token, Cause: driver.CauseForced}); err != nil {
			t.Fatal(err)
		}
		if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(first, l), TTL: time.Minute}); causeOf(err) != driver.CauseForced {
			t.Fatalf("renewing a forced lease: %v", err)
		}
		if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(first, l), RequestID: "second"}); causeOf(err) != driver.CauseForced {
			t.Fatalf("releasing a forced lease: %v", err)
		}
		if _, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: lock, Token: l.Token, Cause: driver.CauseForced}); causeOf(err) != driver.CauseForced {
			t.Fatalf("forcing it again: %v", err)
		}
	}
}

// Lua hands at most some 8,000 values to one command.
func TestThousandsOfHoldsEnd(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	r := request("a", "first")
	l := granted(t, s, r)
	key := s.shardPrefix(shardOf("a")) + "l:a"
	blob := server.Must(t, "HGET", key, "h").(string)
	var more strings.Builder
	for i := range 20_000 {
		more.WriteString("hold-" + strconv.Itoa(i) + holdSeparator)
	}
	server.Must(t, "HSET", key, "h", strings.TrimSuffix(blob, recordSeparator)+more.String()+recordSeparator)
	if h, err := s.Inspect(t.Context(), "a"); err != nil || len(h.Holders) != 1 || h.Holders[0].HoldCount != 20_001 {
		t.Fatalf("%+v (%v)", h, err)
	}
	if _, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced}); err != nil {
		t.Fatal(err)
	}
	if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute}); causeOf(err) != driver.CauseForced {
		t.Errorf("renewing: %v", err)
	}
	for _, old := range []string{"hold-19999", "hold-19984"} {
		q := request("a", old)
		if _, err := s.Acquire(t.Context(), q); causeOf(err) != driver.CauseForced {
			t.Errorf("repeating %s: %v", old, err)
		}
	}
}

func TestThousandsOfEndsAreTrimmed(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	p := s.shardPrefix(shardOf("a"))
	args := []any{"HSET", p + "l:a"}
	for i := range 20_000 {
		args = append(args, fmt.Sprintf("%032d", i), fmt.Sprintf("%016d%016d%024dx", 1, 1, 0))
	}
	server.Must(t, args...)
	// The short script of a release trims every eighth time or so.
	for i := range 400 {
		r := request("a", fmt.Sprint("r", i))
		release(t, s, r, granted(t, s, r))
	}
	if n := server.Must(t, "HLEN", p+"l:a").(int64); n > 250 {
		t.Errorf("%d ends are kept", n)
	}
	for i := 399; i >= 384; i-- {
		if _, err := s.Acquire(t.Context(), request("a", fmt.Sprint("r", i))); causeOf(err) != driver.CauseReleased {
			t.Fatalf("the end of request %d was forgotten: %v", i, err)
		}
	}
}

func TestThousandsOfWaiters(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	holder := request("a", "holder")
	l := granted(t, s, holder)
	const n = 10_000
	answers := make(chan error, n)
	for i := range n {
		s.AcquireAsync(t.Context(), queued(shared(request("a", fmt.Sprint("w", i)))), func(_ *driver.AcquireResult, err error) { answers <- err })
	}
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	hints := make(chan driver.Hint, 2*n)
	watching := make(chan struct{})
	begun := sync.OnceFunc(func() { close(watching) })
	go func() {
		_ = s.Watch(t.Context(), func(h driver.Hint) {
			if h.Kind == driver.HintResync {
				begun()
			} else {
				hints <- h
			}
		})
	}()
	<-watching
	release(t, s, holder, l)
	for range n { // each reader at the head is hinted at
		if h := <-hints; h.Kind != driver.HintGrantable {
			t.Fatalf("hint %+v", h)
		}
	}
	last := granted(t, s, queued(shared(request("a", fmt.Sprint("w", n-1))))) // all before it are readers
	if res, err := s.Acquire(t.Context(), queued(request("a", "writer"))); err != nil || res.Position != n {
		t.Fatalf("a writer after them: %+v (%v)", res, err)
	}
	// They all die at once, and one step passes over them.
	server.Must(t, "ZUNIONSTORE", s.shardPrefix(shardOf("a"))+"d:a", 1, s.shardPrefix(shardOf("a"))+"d:a", "WEIGHTS", 0)
	reader := shared(request("a", fmt.Sprint("w", n-1)))
	release(t, s, reader, last)
	granted(t, s, request("a", "next"))
	if lock, err := s.Inspect(t.Context(), "a"); err != nil || len(lock.Waiters) != 0 || len(lock.Holders) != 1 {
		t.Errorf("%d waiters are left (%v)", len(lock.Waiters), err)
	}
}

// A server that evicts keys, or an operator, may take away any part of a queue.
// No part that is left may keep the living out for ever, or let them barge.
func TestAQueueThatLostAPartIsRepaired(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	for n, loss := range [][]string{
		{"DEL", "q"}, {"DEL", "w"}, {"DEL", "d"}, {"ZREM", "q", "dead"}, {"HDEL", "w", "dead"}, {"ZREM", "d", "dead"},
		{"ZREM", "q", "lives"}, {"HDEL", "w", "lives"}, {"ZREM", "d", "lives"}, {"DEL", "l"}, {"DEL", "i"}, {"DEL", "e"},
	} {
		lock := fmt.Sprint("a", n)
		p := s.shardPrefix(shardOf(lock))
		holder := request(lock, "holder")
		l := granted(t, s, holder)
		for _, name := range []string{"dead", "lives", "third"} {
			if res, err := s.Acquire(t.Context(), queued(request(lock, name))); err != nil || res.Lease != nil {
				t.Fatalf("%v: %+v (%v)", loss, res, err)
			}
		}
		key := p + loss[1] + ":" + lock
		if loss[1] == "i" {
			key = p + "i"
		}
		args := []any{loss[0], key}
		for _, field := range loss[2:] {
			args = append(args, field)
		}
		server.Must(t, args...)
		if _, err := s.Inspect(t.Context(), lock); err != nil {
			t.Errorf("%v: inspect: %v", loss, err)
		}
		if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(holder, l), RequestID: "holder"}); err != nil && causeOf(err) != driver.CauseUnknown {
			t.Fatalf("%v: release: %v", loss, err)
		}
		if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: lock, RequestID: "dead"}); err != nil {
			t.Fatalf("%v: leave: %v", loss, err)
		}
		waiting := []string{"lives", "third"}
		for attempts := 0; len(waiting) > 0; attempts++ {
			if attempts == 10 {
				t.Fatalf("%v: %v are not served", loss, waiting)
			}
			var next *driver.AcquireRequest
			var lease *driver.Lease
			for _, name := range waiting {
				r := queued(request(lock, name))
				res, err := s.Acquire(t.Context(), r)
				if err != nil {
					t.Fatalf("%v: acquire: %v", loss, err)
				}
				if res.Lease != nil {
					if next != nil {
						t.Fatalf("%v: two were granted", loss)
					}
					next, lease = r, res.Lease
				}
			}
			if next != nil {
				waiting = slices.DeleteFunc(waiting, func(name string) bool { return name == next.RequestID })
				release(t, s, next, lease)
			}
		}
		for _, kind := range []string{"q:", "w:", "d:"} {
			if n := server.Must(t, "EXISTS", p+kind+lock).(int64); n != 0 {
				t.Errorf("%v: %s is left behind", loss, kind)
			}
		}
	}
}

// What is left in the queue's other keys must not make the queue look shorter.
func TestDeadPlacesWithoutAQueueDoNotLetBarge(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	holder := request("a", "holder")
	l := granted(t, s, holder)
	if _, err := s.Acquire(t.Context(), queued(request("a", "lives"))); err != nil {
		t.Fatal(err)
	}
	server.Must(t, "ZADD", s.shardPrefix(shardOf("a"))+"d:a", 1, "dead")
	release(t, s, holder, l)
	server.Must(t, "ZADD", s.shardPrefix(shardOf("a"))+"d:a", 1, "dead")
	if res, err := s.Acquire(t.Context(), request("a", "newcomer")); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("a newcomer barged past a living waiter: %+v (%v)", res, err)
	}
}

func TestTheIndexForgetsTheDead(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	index := s.shardPrefix(shardOf("a")) + "i"
	server.Must(t, "ZADD", index, time.Now().Add(-3*time.Hour).UnixMicro(), "dead", time.Now().Add(-time.Hour).UnixMicro(), "recent")
	for n := 0; server.Must(t, "ZCARD", index).(int64) > 1; n++ {
		if n == 2000 {
			t.Fatal("2,000 acquires have not forgotten a lock that ran out 3 hours ago")
		}
		r := request("a", fmt.Sprint(n))
		release(t, s, r, granted(t, s, r))
	}
	if members := server.Must(t, "ZRANGE", index, 0, -1); !slices.Equal(members.([]any), []any{"recent"}) {
		t.Errorf("the index is %v", members)
	}
}

func TestRetryComesBeforeThePlaceEnds(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	granted(t, s, request("a", "holder"))
	r := queued(request("a", "w"))
	r.PlaceTTL = 400 * time.Millisecond
	if res, err := s.Acquire(t.Context(), r); err != nil || res.RetryAfter > r.PlaceTTL/2 || res.RetryAfter <= 0 {
		t.Errorf("retry after %+v (%v) for a place of %v", res, err, r.PlaceTTL)
	}
}

func TestTTLIsRoundedUpToWholeMicroseconds(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	r := request("a", "r")
	r.TTL = time.Second + time.Nanosecond
	if l := granted(t, s, r); l.TTL != time.Second+time.Microsecond {
		t.Errorf("granted %v for %v", l.TTL, r.TTL)
	}
	if l := granted(t, s, r); l.TTL != time.Second+time.Microsecond {
		t.Errorf("the repeat says %v for %v", l.TTL, r.TTL)
	}
}

func TestTokensAreExactNear2To52(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	want := driver.MaxClockToken - 3
	for i := range 6 {
		r := shared(request("a", fmt.Sprint("r", i)))
		if i == 0 {
			r.TokenFloor = want
		}
		l := granted(t, s, r)
		if again := granted(t, s, r); l.Token != want || again.Token != want {
			t.Fatalf("tokens %d and %d, want %d", l.Token, again.Token, want)
		}
		renewed, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
		if err != nil || renewed.Token != want {
			t.Fatalf("renewed to %+v (%v), want token %d", renewed, err, want)
		}
		lock, err := s.Inspect(t.Context(), "a")
		if err != nil || lock.Token != want || lock.Holders[i].Token != want {
			t.Fatalf("inspected %+v (%v), want token %d", lock, err, want)
		}
		if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: want + 100}, TTL: time.Minute}); !errors.Is(err, driver.ErrStaleToken) {
			t.Fatalf("a token beyond: %v", err)
		}
		want++
	}
	for i := range 6 {
		r := shared(request("a", fmt.Sprint("r", i)))
		if i < 5 {
			release(t, s, r, granted(t, s, r))
			continue
		}
		e, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: want - 1, Cause: driver.CauseForced})
		if err != nil || e.Token != want-1 {
			t.Fatalf("evicted %+v (%v)", e, err)
		}
	}
	if stored := server.Must(t, "HGET", s.shardPrefix(shardOf("a"))+"l:a", "t"); stored != strconv.FormatInt(want-1, 10) {
		t.Errorf("the stored token is %v", stored)
	}
	if l := granted(t, s, request("a", "next")); l.Token != want {
		t.Errorf("the next token is %d, want %d", l.Token, want)
	}
}

// hostile ids choose no slot and meet no other id.
var hostile = []string{
	"a", "A", "a/b", "a:b", "a/b:c", "{a}", "{a}b", "}{", "{}", "{", "}", "x}:l:a", "l:a", "i", "{fff}:l:a", "%61", "%2F", "a%00", "a.b", "a@b=c+d~e",
	"q:a", "...", "a-", strings.Repeat("{", 255), strings.Repeat("n", 255), strings.Repeat("n", 254),
}

func TestKeysOfALockShareASlotAndIdsNeverMeet(t *testing.T) {
	server := testenv.StartRedisT(t)
	cluster := testenv.StartRedisT(t, "--cluster-enabled", "yes")
	s := openOn(t, server, "pre:fix")
	for _, id := range hostile {
		before := server.Must(t, "KEYS", "*").([]any)
		lost := request(id, "lost")
		release(t, s, lost, granted(t, s, lost))
		l := granted(t, s, request(id, "holder"))
		if res, err := s.Acquire(t.Context(), queued(request(id, "waiter"))); err != nil || res.Position != 1 {
			t.Fatalf("%q: %+v (%v)", id, res, err)
		}
		if lock, err := s.Inspect(t.Context(), id); err != nil || lock.Token != l.Token || len(lock.Waiters) != 1 {
			t.Errorf("%q: %+v (%v)", id, lock, err)
		}
		slots := make(map[any]bool)
		made := 0
		for _, key := range server.Must(t, "KEYS", "*").([]any) {
			if name := key.(string); !slices.Contains(before, key) && !strings.HasSuffix(name, "}:z") && name != "pre:fix:store" {
				slots[cluster.Must(t, "CLUSTER", "KEYSLOT", key)] = true
				made++
			}
		}
		if made < 5 || made > 6 || len(slots) != 1 {
			t.Errorf("%q: %d keys in the slots %v", id, made, slices.Collect(maps.Keys(slots)))
		}
	}
	page, err := s.List(t.Context(), &driver.ListRequest{PageSize: 1000})
	if err != nil {
		t.Fatal(err)
	}
	var listed []string
	for _, l := range page.Locks {
		listed = append(listed, l.LockID)
	}
	slices.Sort(listed)
	want := slices.Sorted(slices.Values(hostile))
	if !slices.Equal(listed, want) {
		t.Errorf("listed %q, want %q", listed, want)
	}
}
