package embedded_test

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestLeaseExpiresAtItsTTLAndNotBefore(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		r := s.request("one")
		l := s.acquire(r)
		if l.Remaining != 10*time.Second || l.TTL != 10*time.Second {
			s.Errorf("a lease of 10s has %v of %v left", l.Remaining, l.TTL)
		}
		time.Sleep(10*time.Second - 1)
		if held := s.refused(s.request("two")); held.Holder.Remaining != 1 {
			s.Errorf("a nanosecond before its end %v remain", held.Holder.Remaining)
		}
		time.Sleep(time.Nanosecond)
		if l := s.inspect("a"); len(l.Holders) != 0 {
			s.Errorf("at its end the lease is shown: %+v", l.Holders)
		}
		_, err := s.d.Renew(s.Context(), &driver.RenewRequest{LeaseRef: ref(l, r), TTL: r.TTL})
		s.lost(err, driver.CauseExpired)
		s.lost(s.release(l, r), driver.CauseExpired)
		res, err := s.d.Acquire(s.Context(), s.request("two"))
		if err != nil || res.Lease == nil || len(res.Evicted) != 1 || res.Evicted[0].Token != l.Token || res.Evicted[0].Cause != driver.CauseExpired {
			s.Errorf("the next one was answered %+v, %v; want a grant that reports the expiry", res, err)
		}
	})
}

func TestRenewalCountsFromNowAndNeverShortens(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		r := s.request("one")
		l := s.acquire(r)
		time.Sleep(4 * time.Second)
		for _, c := range []struct{ ttl, want time.Duration }{{10 * time.Second, 10 * time.Second}, {2 * time.Second, 10 * time.Second}, {30 * time.Second, 30 * time.Second}, {time.Millisecond, 30 * time.Second}} {
			renewed, err := s.d.Renew(s.Context(), &driver.RenewRequest{LeaseRef: ref(l, r), TTL: c.ttl})
			if err != nil || renewed.Remaining != c.want || renewed.Token != l.Token {
				s.Errorf("renewed for %v: %+v, %v; want %v left", c.ttl, renewed, err, c.want)
			}
			if renewed.TTL < time.Second {
				s.Errorf("a TTL of %v is below the smallest", renewed.TTL)
			}
		}
	})
}

func TestPlacesRunOutAtTheirDeadlineAndNotBefore(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		holder := s.request("holder", func(r *driver.AcquireRequest) { r.TTL = time.Minute })
		s.acquire(holder)
		first, second := s.request("first", placeTTL(3*time.Second)), s.request("second")
		s.queue(first, 1)
		s.queue(second, 2)
		time.Sleep(3*time.Second - 1)
		s.queue(second, 2)
		time.Sleep(time.Nanosecond)
		if l := s.inspect("a"); len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "second" {
			s.Errorf("waiters %+v, want the second alone", l.Waiters)
		}
		s.queue(second, 1)
		s.queue(first, 2) // it returns behind
		// A repeat with a shorter place is the new deadline.
		second.PlaceTTL = time.Second
		s.queue(second, 1)
		time.Sleep(time.Second)
		s.queue(first, 1)
	})
}

func TestRetryAfterComesInTime(t *testing.T) {
	in(t, embedded.Options{Poll: 2 * time.Second}, func(s *store) {
		s.acquire(s.request("holder"))
		if res := s.queue(s.request("first"), 1); res.RetryAfter != 2*time.Second {
			s.Errorf("repeat after %v, want the poll interval", res.RetryAfter)
		}
		if res := s.queue(s.request("brief", placeTTL(time.Second)), 2); res.RetryAfter != time.Second/2 {
			s.Errorf("repeat after %v, want half the place's time", res.RetryAfter)
		}
		time.Sleep(9500 * time.Millisecond)
		if res := s.queue(s.request("late"), 2); res.RetryAfter != 500*time.Millisecond {
			s.Errorf("repeat after %v, want the holder's expiry", res.RetryAfter)
		}
	})
}

func TestIdleRecordsAreCollectedAfterTheirRetention(t *testing.T) {
	in(t, embedded.Options{Retention: time.Hour}, func(s *store) {
		cycle := func() int64 {
			r := s.request("one")
			l := s.acquire(r)
			s.mustRelease(l, r)
			return l.Token
		}
		first := cycle()
		time.Sleep(time.Hour - 1)
		s.collect()
		if got := s.inspect("a").Token; got != first {
			s.Fatalf("the record has the token %d before its retention has passed, want %d", got, first)
		}
		time.Sleep(time.Nanosecond)
		s.collect()
		if got := s.inspect("a").Token; got != 0 {
			s.Fatalf("the record has the token %d after its retention", got)
		}
		if second := cycle(); second <= first {
			s.Errorf("token %d after %d", second, first)
		}
		// Other calls collect too, a few records each.
		for i := range 2000 {
			r := s.request("one", lock(fmt.Sprint("idle ", i)))
			s.mustRelease(s.acquire(r), r)
		}
		time.Sleep(time.Hour)
		for i := range 4000 {
			r := s.request("one", lock(fmt.Sprint("busy ", i)))
			s.acquire(r)
		}
		left := 0
		for i := range 2000 {
			if s.inspect(fmt.Sprint("idle ", i)).Token != 0 {
				left++
			}
		}
		if left != 0 {
			s.Errorf("%d of 2000 idle records are left after 4000 calls", left)
		}
	})
}

func TestHeldAndAwaitedRecordsAreNotCollected(t *testing.T) {
	in(t, embedded.Options{Retention: time.Second}, func(s *store) {
		holder := s.request("holder")
		l := s.acquire(holder)
		waiter := s.request("waiter")
		s.queue(waiter, 1)
		time.Sleep(5 * time.Second)
		s.collect()
		s.queue(waiter, 1)
		s.mustRelease(l, holder)
		time.Sleep(5 * time.Second)
		s.collect()
		if got := s.acquire(waiter); got.Token <= l.Token {
			s.Errorf("token %d after %d", got.Token, l.Token)
		}
	})
}

// What a call writes into an idle record is kept for the whole retention, also
// when the record itself was due.
func TestTombstoneInADueRecordIsKept(t *testing.T) {
	in(t, embedded.Options{Retention: time.Hour}, func(s *store) {
		r := s.request("one")
		s.mustRelease(s.acquire(r), r)
		time.Sleep(2 * time.Hour)
		late := s.request("late")
		if err := s.d.Leave(s.Context(), &driver.LeaveRequest{LockID: "a", RequestID: late.RequestID}); err != nil {
			s.Fatal(err)
		}
		time.Sleep(59 * time.Minute)
		s.collect()
		_, err := s.d.Acquire(s.Context(), late)
		s.lost(err, driver.CauseReleased)
	})
}

func TestTokensFollowTheClockAndNeverFall(t *testing.T) {
	ahead := time.Duration(0)
	in(t, embedded.Options{Retention: time.Hour, Now: func() time.Time { return time.Now().Add(ahead) }}, func(s *store) {
		cycle := func() int64 {
			r := s.request("one")
			l := s.acquire(r)
			s.mustRelease(l, r)
			return l.Token
		}
		if token, clock := cycle(), time.Now().UnixMicro(); token != clock {
			s.Errorf("token %d, the clock says %d", token, clock)
		}
		ahead = 3 * time.Hour
		last := cycle()
		ahead = -3 * time.Hour
		for range 3 {
			if token := cycle(); token != last+1 {
				s.Errorf("token %d after %d, with the clock behind; want the next number", token, last)
			}
			last++
		}
		// Retention counts from the token, which is ahead.
		ahead = 0
		time.Sleep(2 * time.Hour)
		s.collect()
		if got := s.inspect("a").Token; got != last {
			s.Errorf("the record has the token %d, want %d kept until the clock has passed it", got, last)
		}
		ahead = 200 * 365 * 24 * time.Hour
		if token := cycle(); token != last+1 {
			s.Errorf("token %d after %d by an implausible clock, want the next number", token, last)
		}
	})
}

func TestSixteenEndsAreRememberedAndNoMore(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		first := s.request("first")
		l := s.acquire(first)
		s.mustRelease(l, first)
		for i := range driver.RememberedEnds {
			s.mustRelease(l, first) // still recognised
			r := s.request(fmt.Sprint(i))
			s.mustRelease(s.acquire(r), r)
		}
		s.lost(s.release(l, first), driver.CauseUnknown)
		// A late acquire of the forgotten request is one like any other: the
		// bound is what the contract promises.
		if again := s.acquire(first); again.Token <= l.Token {
			s.Errorf("token %d after %d", again.Token, l.Token)
		}
	})
}

func TestWipeForgetsEverything(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		r := s.request("one")
		l := s.acquire(r)
		s.queue(s.request("two"), 1)
		s.wipe()
		if got := s.inspect("a"); got.Token != 0 || len(got.Holders)+len(got.Waiters) != 0 {
			s.Errorf("after the wipe %+v", got)
		}
		s.lost(s.release(l, r), driver.CauseUnknown)
		if _, err := s.d.Renew(s.Context(), &driver.RenewRequest{LeaseRef: ref(l, r), TTL: r.TTL}); !errors.Is(err, driver.ErrLost) {
			s.Errorf("renew: %v", err)
		}
	})
}
