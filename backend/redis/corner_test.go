package redis

import (
	"errors"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// The short scripts of the common cases refuse what the general text refuses.
func TestANewerFormatIsRefusedInTheCommonCases(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	held, free := request("held", "r"), request("free", "r")
	l := granted(t, s, held)
	release(t, s, free, granted(t, s, free))
	for _, lock := range []string{"held", "free"} {
		server.Must(t, "HSET", s.shardPrefix(shardOf(lock))+"l:"+lock, "f", "2")
	}
	if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(held, l), RequestID: "r"}); !errors.Is(err, driver.ErrFormat) {
		t.Errorf("a release: %v", err)
	}
	if _, err := s.Acquire(t.Context(), request("free", "next")); !errors.Is(err, driver.ErrFormat) {
		t.Errorf("an acquire: %v", err)
	}
}

func TestALeaseThatExpiredUnseenIsLostToItsKeyOnly(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	r := request("a", "r")
	r.TTL = time.Millisecond
	ref := refOf(r, granted(t, s, r))
	until(t, "it has expired", func() bool { return holders(t, s, "a") == 0 })
	lost := func(what string, err error, cause driver.Cause) {
		t.Helper()
		var l *driver.LostError
		if !errors.As(err, &l) || l.Cause != cause {
			t.Errorf("%s: %v, want lost: %s", what, err, cause)
		}
	}
	_, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: ref, RequestID: "r"})
	lost("release", err, driver.CauseExpired)
	_, err = s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute})
	lost("renewal", err, driver.CauseExpired)
	other := ref
	other.Key = driver.KeyOf("another")
	_, err = s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: other, TTL: time.Minute})
	lost("renewal with another key", err, driver.CauseUnknown)
	other = ref
	other.Token--
	_, err = s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: other, TTL: time.Minute})
	lost("renewal with another token", err, driver.CauseUnknown)
}

func TestAReleaseTellsTheMode(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	for _, mode := range []bool{false, true} {
		r := request("a", "r")
		r.RequestID, r.Shared = map[bool]string{false: "exclusive", true: "shared"}[mode], mode
		l := granted(t, s, r)
		res, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: r.RequestID})
		if err != nil || res.Shared != mode || res.OwnerID != r.OwnerID {
			t.Errorf("%s: %+v, %v", r.RequestID, res, err)
		}
	}
}

// A queue whose record the server lost still stands before a newcomer.
func TestAQueueWithoutItsRecordIsNotOvertaken(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	granted(t, s, request("a", "holder"))
	if _, err := s.Acquire(t.Context(), queued(request("a", "waiter"))); err != nil {
		t.Fatal(err)
	}
	server.Must(t, "DEL", s.shardPrefix(shardOf("a"))+"l:a")
	if _, err := s.Acquire(t.Context(), request("a", "newcomer")); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("a newcomer: %v", err)
	}
	granted(t, s, queued(request("a", "waiter")))
}

// Whoever stands behind a place that will be dead soon asks soon after.
func TestWhoeverStandsBehindADyingPlaceAsksSoon(t *testing.T) {
	s := openPolling(t, testenv.StartRedisT(t), 40*time.Second)
	granted(t, s, request("a", "holder"))
	dying := queued(request("a", "dying"))
	dying.PlaceTTL = 10 * time.Second
	if res, err := s.Acquire(t.Context(), dying); err != nil || res.RetryAfter > dying.PlaceTTL/2 {
		t.Errorf("the first: %+v, %v", res, err)
	}
	if res, err := s.Acquire(t.Context(), queued(request("a", "next"))); err != nil || res.RetryAfter > s.o.Poll/4+time.Millisecond {
		t.Errorf("the next: %+v, %v, want it to ask within %v", res, err, s.o.Poll/4)
	}
}

// An end that is due is taken by one, and then for a while by nobody.
func TestAnEndIsTakenOnce(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	e := driver.Ended{LockID: "a", OwnerID: "o", Token: 7, Cause: driver.CauseExpired}
	member := endMember(e)
	taken := func() (n int) {
		c := s.again(t.Context(), e, member, func() { n++ })
		s.run(t.Context(), []*call{c}, 1)
		return n
	}
	if n := taken(); n != 0 {
		t.Error("an end that is not there was taken")
	}
	server.Must(t, "ZADD", s.shardPrefix(shardOf("a"))+"i", 1, member)
	if first, second := taken(), taken(); first != 1 || second != 0 {
		t.Errorf("it was taken %d times, then %d times", first, second)
	}
}
