package embedded_test

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestQueueIsOrderedByTicketAndHeadStart(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		s.acquire(s.request("holder"))
		var want []string
		for i := range 2*driver.PriorityStep + 2 {
			want = append(want, fmt.Sprint("low ", i))
			s.queue(s.request(want[i]), i+1)
		}
		// Ticket 19: a level is a head start of 8 tickets, so 19-8 = 11 ties
		// with the eleventh, which came earlier.
		s.queue(s.request("one level", priority(1)), 12)
		want = slices.Insert(want, 11, "one level")
		s.queue(s.request("all levels", priority(driver.MaxPriority)), 1)
		want = slices.Insert(want, 0, "all levels")
		var got []string
		for _, w := range s.inspect("a").Waiters {
			got = append(got, w.OwnerID)
		}
		if !slices.Equal(got, want) {
			s.Errorf("the queue is %v,\nwant %v", got, want)
		}
	})
}

func TestNewcomerIsOrderedBeforeItIsGranted(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		holder := s.request("holder")
		l := s.acquire(holder)
		waiter := s.request("waiter")
		s.queue(waiter, 1)
		s.mustRelease(l, holder)
		s.refused(s.request("try", priority(9)))
		s.queue(s.request("equal"), 2)
		high := s.request("high", priority(1))
		high.Enqueue = true
		s.acquire(high)
		s.queue(waiter, 1)
	})
}

func TestPlaceOfAnOwnerThatGotTheLockIsDropped(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		holder := s.request("holder")
		l := s.acquire(holder)
		first, again, reenters, next := s.request("twice"), s.request("twice"), s.request("twice"), s.request("next")
		reenters.Reentrant, reenters.Key = true, first.Key
		for i, r := range []*driver.AcquireRequest{first, again, reenters, next} {
			s.queue(r, i+1)
		}
		s.mustRelease(l, holder)
		s.acquire(first)
		if held := s.refused(again); !held.BySelf {
			s.Errorf("refused by %+v, want itself", held)
		}
		if l := s.acquire(reenters); len(l.Holds) != 2 {
			s.Errorf("re-entered %+v, want two holds", l)
		}
		if l := s.inspect("a"); len(l.Waiters) != 1 || l.Waiters[0].OwnerID != "next" {
			s.Errorf("waiters %+v, want the next one alone", l.Waiters)
		}
		// Leave of the re-entered request ends its hold, not a place.
		if err := s.d.Leave(s.Context(), &driver.LeaveRequest{LockID: "a", RequestID: reenters.RequestID}); err != nil {
			s.Fatal(err)
		}
		if l := s.inspect("a"); l.Holders[0].HoldCount != 1 {
			s.Errorf("holders %+v, want one hold", l.Holders)
		}
	})
}

func TestHintsReachOnlyTheDriversConcerned(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		other := s.m.Open()
		mine, others := s.watch(s.d), s.watch(other)
		expect := func(what string, h *hints, want ...driver.Hint) {
			s.Helper()
			if got := h.take(); !slices.Equal(got, want) {
				s.Errorf("%s: hints %+v, want %+v", what, got, want)
			}
		}
		holder := s.request("holder")
		l := s.acquire(holder)
		readers := []*driver.AcquireRequest{s.request("r1", shared), s.request("r2", shared), s.request("writer"), s.request("r3", shared)}
		for _, r := range readers {
			r.Enqueue = true
			if _, err := other.Acquire(s.Context(), r); err != nil {
				s.Fatal(err)
			}
		}
		grantable := func(r *driver.AcquireRequest) driver.Hint {
			return driver.Hint{Kind: driver.HintGrantable, LockID: "a", RequestID: r.RequestID}
		}
		revoked := func(token int64) driver.Hint {
			return driver.Hint{Kind: driver.HintRevoked, LockID: "a", Token: token}
		}
		expect("queueing", others)
		s.mustRelease(l, holder)
		expect("release", others, grantable(readers[0]), grantable(readers[1]))
		expect("release", mine)

		first, err := other.Acquire(s.Context(), readers[0])
		if err != nil {
			s.Fatal(err)
		}
		if _, err := s.d.Revoke(s.Context(), &driver.EvictRequest{LockID: "a", Token: first.Lease.Token, Cause: driver.CauseForced}); err != nil {
			s.Fatal(err)
		}
		expect("revocation", others, revoked(first.Lease.Token))
		if _, err := s.d.Evict(s.Context(), &driver.EvictRequest{LockID: "a", Token: first.Lease.Token, Cause: driver.CauseForced}); err != nil {
			s.Fatal(err)
		}
		expect("eviction", others, revoked(first.Lease.Token), grantable(readers[1]))
		expect("revocation and eviction", mine)

		// An expiry is seen by the next call, which wakes those behind.
		if _, err := other.Acquire(s.Context(), readers[1]); err != nil {
			s.Fatal(err)
		}
		time.Sleep(10 * time.Second)
		s.refused(s.request("try"))
		expect("expiry", others, grantable(readers[2]))
		expect("expiry", mine)
	})
}

func TestWatchEndsWithItsContextOrItsDriver(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		d := s.m.Open()
		ended := make(chan error)
		go func() { ended <- d.Watch(s.Context(), func(driver.Hint) {}) }()
		if err := d.Close(); err != nil {
			s.Fatal(err)
		}
		if err := <-ended; err != driver.ErrClosed { //nolint:errorlint // the very sentinel
			s.Errorf("the watch of a closed driver ended with %v", err)
		}
		if err := d.Close(); err != nil {
			s.Errorf("the second close: %v", err)
		}
	})
}
