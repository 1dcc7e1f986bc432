package embedded_test

import (
	"errors"
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

func TestRevokedLeaseEndsByReleaseOrExpiry(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		for _, byExpiry := range []bool{false, true} {
			r := s.request("one")
			l := s.acquire(r)
			waiter := s.request("waiter")
			s.queue(waiter, 1)
			h, err := s.d.Revoke(s.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced})
			if err != nil || !h.Revoked || h.OwnerID != "one" {
				s.Fatalf("revoke: %+v, %v", h, err)
			}
			for what, call := range map[string]func() error{
				"renew": func() error {
					_, err := s.d.Renew(s.Context(), &driver.RenewRequest{LeaseRef: ref(l, r), TTL: r.TTL})
					return err
				},
				"adopt": func() error {
					_, err := s.d.Adopt(s.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: r.Key, Token: l.Token}, TTL: r.TTL})
					return err
				},
				"repeat": func() error { _, err := s.d.Acquire(s.Context(), r); return err },
			} {
				var lost *driver.LostError
				if err := call(); !errors.As(err, &lost) || lost.Cause != driver.CauseForced {
					s.Errorf("%s of a revoked lease: %v", what, err)
				}
			}
			if byExpiry {
				time.Sleep(10*time.Second - 1)
				s.queue(waiter, 1)
				time.Sleep(1)
			} else {
				s.queue(waiter, 1)
				s.mustRelease(l, r)
			}
			s.mustRelease(s.acquire(waiter), waiter)
		}
	})
}

func TestHoldsReleasedBeforeTheLossStayReleased(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		first := s.request("one")
		l := s.acquire(first)
		second := s.request("one", func(r *driver.AcquireRequest) { r.Reentrant, r.Key = true, first.Key })
		s.acquire(second)
		s.mustRelease(l, first)
		time.Sleep(10 * time.Second)
		s.mustRelease(l, first)
		s.lost(s.release(l, second), driver.CauseExpired)
	})
}

func TestListPagesInTheOrderOfIDs(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		var want []string
		for i := range 25 {
			id := fmt.Sprintf("list/%02d", i)
			want = append(want, id)
			s.acquire(s.request("one", lock(id)))
		}
		s.acquire(s.request("one", lock("other")))
		s.queue(s.request("two", lock("list/07")), 1)
		list := func(req *driver.ListRequest) (got []string) {
			for {
				page, err := s.d.List(s.Context(), req)
				if err != nil {
					s.Fatal(err)
				}
				if len(page.Locks) > req.PageSize || page.NextPageToken != "" && len(page.Locks) < req.PageSize {
					s.Errorf("a page of %d locks, asked for %d", len(page.Locks), req.PageSize)
				}
				for _, l := range page.Locks {
					got = append(got, l.LockID)
				}
				if req.PageToken = page.NextPageToken; req.PageToken == "" {
					return got
				}
			}
		}
		for _, size := range []int{1, 5, 24, 25, 100} {
			if got := list(&driver.ListRequest{Prefix: "list/", PageSize: size}); !slices.Equal(got, want) {
				s.Errorf("in pages of %d: %v", size, got)
			}
		}
		if got := list(&driver.ListRequest{Contended: true, PageSize: 2}); !slices.Equal(got, []string{"list/07"}) {
			s.Errorf("contended: %v", got)
		}
		if got := list(&driver.ListRequest{PageSize: 100}); len(got) != 26 {
			s.Errorf("without a prefix: %v", got)
		}
		for _, token := range []string{"v2:list/07", "list/07", "000:a"} {
			if _, err := s.d.List(s.Context(), &driver.ListRequest{PageSize: 1, PageToken: token}); !errors.Is(err, driver.ErrInvalid) {
				s.Errorf("page token %q: %v, want it invalid", token, err)
			}
		}
		time.Sleep(10 * time.Second)
		if got := list(&driver.ListRequest{PageSize: 100}); len(got) != 1 { // its waiter lives
			s.Errorf("after the leases' end: %v", got)
		}
	})
}

func TestWhatIsReturnedIsTheCallersOwn(t *testing.T) {
	in(t, embedded.Options{}, func(s *store) {
		r := s.request("one")
		r.Metadata = map[string]string{"host": "web-1"}
		l := s.acquire(r)
		r.Metadata["host"], l.Metadata["host"], l.Holds[0] = "changed", "changed", "changed"
		s.inspect("a").Holders[0].Metadata["host"] = "changed"
		if got := s.inspect("a").Holders[0].Metadata["host"]; got != "web-1" {
			s.Errorf("metadata became %q", got)
		}
		if again := s.acquire(r); again.Holds[0] != r.RequestID {
			s.Errorf("holds became %v", again.Holds)
		}
	})
}
