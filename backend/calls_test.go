package backend_test

import (
	"context"
	"errors"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// wantInvalid checks that an error is about a field and says what is allowed.
func wantInvalid(t *testing.T, call string, err error, field string) {
	t.Helper()
	var invalid *backend.InvalidError
	if !errors.As(err, &invalid) || invalid.Field != field || invalid.Limits == "" || !errors.Is(err, driver.ErrInvalid) {
		t.Errorf("%s: error %v, want an InvalidError of %s", call, err, field)
	}
}

func TestEveryCallChecksWhatItIsGiven(t *testing.T) {
	s := backend.New(nobodyHome{}, backend.Options{})
	defer func() { _ = s.Close() }()
	ctx := t.Context()
	ref := backend.LeaseRef{LockID: "a", LeaseID: "secret", Token: 1}
	for field, r := range map[string]backend.LeaseRef{
		"lock_id": {LockID: "/a", LeaseID: "secret", Token: 1}, "lease_id": {LockID: "a", Token: 1},
		"fencing_token": {LockID: "a", LeaseID: "secret", Token: -1},
	} {
		_, err := s.Renew(ctx, &backend.RenewRequest{LeaseRef: r})
		wantInvalid(t, "renew", err, field)
		_, err = s.Adopt(ctx, &backend.RenewRequest{LeaseRef: r})
		wantInvalid(t, "adopt", err, field)
		_, err = s.Release(ctx, &backend.ReleaseRequest{LeaseRef: r})
		wantInvalid(t, "release", err, field)
		s.ReleaseAsync(ctx, &backend.ReleaseRequest{LeaseRef: r}, func(_ *driver.ReleaseResult, err error) { wantInvalid(t, "release", err, field) })
		wantInvalid(t, "renew many", s.RenewMany(ctx, []backend.RenewRequest{{LeaseRef: r}})[0].Err, field)
	}
	_, err := s.Renew(ctx, &backend.RenewRequest{LeaseRef: ref, TTL: time.Hour})
	wantInvalid(t, "renew", err, "ttl")
	long := strings.Repeat("r", backend.MaxRequestID+1)
	_, err = s.Release(ctx, &backend.ReleaseRequest{LeaseRef: ref, RequestID: long})
	wantInvalid(t, "release", err, "request_id")
	_, err = s.Release(ctx, &backend.ReleaseRequest{LeaseRef: backend.LeaseRef{LockID: ".."}, RequestID: "r"})
	wantInvalid(t, "release by request id", err, "lock_id")
	wantInvalid(t, "leave", s.Leave(ctx, "a", "\x1f"), "request_id")
	_, err = s.Get(ctx, "")
	wantInvalid(t, "get", err, "lock_id")
	_, err = s.List(ctx, &driver.ListRequest{PageSize: -1})
	wantInvalid(t, "list", err, "page_size")
	_, err = s.List(ctx, &driver.ListRequest{PageSize: backend.MaxPageSize + 1})
	wantInvalid(t, "list", err, "page_size")
	_, err = s.List(ctx, &driver.ListRequest{Prefix: strings.Repeat("p", backend.MaxLockID+1)})
	wantInvalid(t, "list", err, "prefix")
	_, err = s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a//b", Token: 1})
	wantInvalid(t, "force-release", err, "lock_id")
	_, err = s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a"})
	wantInvalid(t, "force-release", err, "fencing_token")
	s.AcquireAsync(ctx, &backend.AcquireRequest{LockID: "a", Priority: -1}, func(_ *backend.Lease, err error) { wantInvalid(t, "acquire", err, "priority") })
	keys := make(map[string]string)
	for i := range backend.MaxMetadataKeys + 1 {
		keys[strings.Repeat("k", i+1)] = ""
	}
	for field, req := range map[string]backend.AcquireRequest{
		"metadata": {LockID: "a", Metadata: keys}, "owner_id": {LockID: "a", OwnerID: "\xff"}, "ttl": {LockID: "a", TTL: -1}, "token_floor": {LockID: "a", TokenFloor: -1},
	} {
		_, err := s.Acquire(ctx, &req)
		wantInvalid(t, "acquire", err, field)
	}
	_, err = s.Acquire(ctx, &backend.AcquireRequest{LockID: "a", Metadata: map[string]string{"k": "\xff"}})
	wantInvalid(t, "acquire", err, "metadata")
}

func TestSharedNeedsADriverThatCan(t *testing.T) {
	s := backend.New(exclusiveOnly{}, backend.Options{})
	defer func() { _ = s.Close() }()
	if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", Shared: true}); !errors.Is(err, driver.ErrUnsupported) {
		t.Errorf("error %v, want ErrUnsupported", err)
	}
}

type exclusiveOnly struct{ nobodyHome }

func (exclusiveOnly) Capabilities() driver.Capabilities {
	return driver.Capabilities{MinTTL: time.Second, MaxTTL: time.Minute, Poll: time.Second}
}

func TestTheLifeOfALease(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		l := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", OwnerID: "me", RequestID: "r1", TTL: 10 * time.Second, Metadata: map[string]string{"k": "v"}})
		if l.RequestID != "r1" || l.Attach != 1 || l.Metadata["k"] != "v" {
			t.Errorf("lease %+v", l)
		}
		again := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", OwnerID: "me", RequestID: "r2", LeaseID: l.LeaseID, Reentrant: true})
		if again.Token != l.Token || again.RequestID != "r2" || again.LeaseID != l.LeaseID || len(again.Holds) != 2 {
			t.Errorf("re-entered lease %+v", again)
		}
		time.Sleep(5 * time.Second)
		renewed, err := s.Renew(ctx, &backend.RenewRequest{LeaseRef: l.Ref(true), TTL: 20 * time.Second})
		if err != nil || renewed.ValidUntil != driver.ProcessClock.Now().Add(20*time.Second*99/100-50*time.Millisecond) || renewed.LeaseID != l.LeaseID {
			t.Errorf("renewed to %+v (%v)", renewed, err)
		}
		adopted, err := s.Adopt(ctx, &backend.RenewRequest{LeaseRef: l.Ref(false)})
		if err != nil || adopted.Attach != 2 {
			t.Fatalf("adopted %+v (%v)", adopted, err)
		}
		results := s.RenewMany(ctx, []backend.RenewRequest{
			{LeaseRef: l.Ref(true)}, {LeaseRef: backend.LeaseRef{LockID: "a"}}, {LeaseRef: adopted.Ref(true)}, {LeaseRef: backend.LeaseRef{LockID: "b", LeaseID: "x", Token: 1}},
		})
		var lost *driver.LostError
		if !errors.As(results[0].Err, &lost) || lost.Cause != driver.CauseReattached {
			t.Errorf("the older attachment: %v", results[0].Err)
		}
		if !errors.Is(results[1].Err, driver.ErrInvalid) || results[2].Err != nil || results[2].Lease.Token != l.Token || !errors.Is(results[3].Err, driver.ErrLost) {
			t.Errorf("results out of order: %+v", results)
		}
		if _, err := s.Release(ctx, &backend.ReleaseRequest{LeaseRef: l.Ref(false)}); !errors.Is(err, driver.ErrAmbiguousHold) {
			t.Errorf("a release without its hold: %v", err)
		}
		ended := make(chan *driver.ReleaseResult, 1)
		s.ReleaseAsync(ctx, &backend.ReleaseRequest{LeaseRef: l.Ref(false), RequestID: "r1"}, func(res *driver.ReleaseResult, err error) {
			if err != nil {
				t.Error(err)
			}
			ended <- res
		})
		if res := <-ended; res.HoldCount != 1 {
			t.Errorf("%d holds are left", res.HoldCount)
		}
		// A request id alone undoes its acquire.
		if _, err := s.Release(ctx, &backend.ReleaseRequest{LeaseRef: backend.LeaseRef{LockID: "a"}, RequestID: "r2"}); err != nil {
			t.Error(err)
		}
		empty(t, s, "a")
		if _, err := s.Renew(ctx, &backend.RenewRequest{LeaseRef: l.Ref(false)}); !errors.Is(err, driver.ErrLost) || !strings.Contains(err.Error(), `renew "a"`) {
			t.Errorf("renewing what was released: %v, want ErrLost with the call and the lock", err)
		}
		if err := s.Ping(ctx); err != nil {
			t.Error(err)
		}
	})
}

func TestForceReleaseRevokesOrEnds(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		ctx := t.Context()
		l := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", OwnerID: "me"})
		if _, err := s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a", Token: l.Token + 1}); !errors.Is(err, driver.ErrStaleToken) {
			t.Errorf("another token: %v", err)
		}
		res, err := s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a", Token: l.Token})
		if err != nil || res.Ended || res.Holder.OwnerID != "me" || !res.Holder.Revoked {
			t.Errorf("revoked %+v (%v)", res, err)
		}
		res, err = s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a", Token: l.Token, Immediate: true})
		want := &backend.ForceReleaseResult{Holder: driver.Holder{OwnerID: "me", Token: l.Token}, Ended: true}
		if diff := cmp.Diff(want, res); err != nil || diff != "" {
			t.Errorf("ended (%v): %s", err, diff)
		}
		if _, err = s.ForceRelease(ctx, &backend.ForceReleaseRequest{LockID: "a", Token: l.Token, Immediate: true}); !errors.Is(err, driver.ErrLost) {
			t.Errorf("ended again: %v", err)
		}
	})
}

func TestListFillsThePageSize(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		for i := range backend.DefaultPageSize + 5 {
			mustAcquire(t, s, &backend.AcquireRequest{LockID: "a/" + strings.Repeat("n", i+1)})
		}
		page, err := s.List(t.Context(), &driver.ListRequest{})
		if err != nil || len(page.Locks) != backend.DefaultPageSize || page.NextPageToken == "" {
			t.Fatalf("%d locks (%v)", len(page.Locks), err)
		}
		rest, err := s.List(t.Context(), &driver.ListRequest{PageToken: page.NextPageToken})
		if err != nil || len(rest.Locks) != 5 || rest.NextPageToken != "" {
			t.Errorf("%d more locks (%v)", len(rest.Locks), err)
		}
		if _, err := s.List(t.Context(), &driver.ListRequest{PageToken: "junk"}); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("a page token that is none: %v", err)
		}
	})
}

func TestClosedStoreRefuses(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		_, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		if !errors.Is(err, driver.ErrClosed) {
			t.Errorf("acquire: %v", err)
		}
		_, err = s.Get(t.Context(), "a")
		if !errors.Is(err, driver.ErrClosed) {
			t.Errorf("get: %v", err)
		}
		if err := s.Leave(t.Context(), "a", "r"); !errors.Is(err, driver.ErrClosed) {
			t.Errorf("leave: %v", err)
		}
	})
}

func TestCallerThatHadLeftIsNotServed(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		ctx, cancel := context.WithCancel(t.Context())
		cancel()
		if _, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		synctest.Wait()
		empty(t, s, "a")
	})
}
