package backend_test

import (
	"context"
	"errors"
	"net/url"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
)

// open returns a store on an embedded driver, inside a synctest bubble.
func open(t *testing.T) (*backend.Store, *embedded.Memory) {
	t.Helper()
	m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
	if err != nil {
		t.Fatal(err)
	}
	s := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
	t.Cleanup(func() {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	})
	return s, m
}

func mustAcquire(t *testing.T, s *backend.Store, req *backend.AcquireRequest) *backend.Lease {
	t.Helper()
	l, err := s.Acquire(t.Context(), req)
	if err != nil {
		t.Fatal(err)
	}
	return l
}

func empty(t *testing.T, s *backend.Store, lockID string) {
	t.Helper()
	l, err := s.Get(t.Context(), lockID)
	if err != nil {
		t.Fatal(err)
	}
	if len(l.Holders)+len(l.Waiters) != 0 {
		t.Errorf("the lock still has %v and %v", l.Holders, l.Waiters)
	}
}

func TestValidUntilCountsFromTheSend(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		before := driver.ProcessClock.Now()
		l := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: 10 * time.Second})
		if got, want := l.ValidUntil.Sub(before), 10*time.Second*99/100-50*time.Millisecond; got != want {
			t.Errorf("valid for %v, want %v", got, want)
		}
		if l.LeaseID == "" || l.RequestID == "" || !strings.HasPrefix(l.OwnerID, "anon-") || strings.Contains(l.OwnerID, l.RequestID) {
			t.Errorf("lease %+v lacks an id, or shows its request id as its owner", l)
		}
	})
}

func TestBoundedWaitEndsOnTimeAndLeavesNoPlace(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: time.Minute})
		start := time.Now()
		_, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: 5 * time.Second})
		var held *driver.HeldError
		if !errors.As(err, &held) || held.Holder == nil {
			t.Fatalf("error %v, want a HeldError with the holder", err)
		}
		if took := time.Since(start); took != 5*time.Second {
			t.Errorf("waited %v, want 5s", took)
		}
		l, _ := s.Get(t.Context(), "a")
		if len(l.Waiters) != 0 {
			t.Errorf("waiters %v are left", l.Waiters)
		}
	})
}

func TestWaiterIsGrantedByHintAndByExpiry(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		first := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: time.Minute})
		granted := make(chan *backend.Lease)
		positions := make(chan int, 10)
		go func() {
			l, err := s.Acquire(t.Context(), &backend.AcquireRequest{
				LockID: "a", TTL: 3 * time.Second, Wait: backend.Forever, OnQueued: func(p, _ int) { positions <- p },
			})
			if err != nil {
				t.Error(err)
			}
			granted <- l
		}()
		synctest.Wait()
		if s.Waiting() != 1 || <-positions != 1 {
			t.Error("the waiter was not told its place")
		}
		start := time.Now()
		if _, err := s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: first.Ref(false)}); err != nil {
			t.Fatal(err)
		}
		second := <-granted
		if took := time.Since(start); took != 0 || second.Token <= first.Token {
			t.Errorf("granted after %v with token %d after %d, want at once and higher", took, second.Token, first.Token)
		}
		third := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
		if took := time.Since(start); took < 3*time.Second || took > 3*time.Second+s.Capabilities().Lateness {
			t.Errorf("the next grant came %v after one with a TTL of 3s", took)
		}
		if third.Token <= second.Token {
			t.Errorf("token %d after %d", third.Token, second.Token)
		}
	})
}

func TestCallerThatLeavesLeavesNothing(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		s, _ := open(t)
		first := mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: time.Minute})
		ctx, cancel := context.WithCancel(t.Context())
		ended := make(chan error)
		go func() {
			_, err := s.Acquire(ctx, &backend.AcquireRequest{LockID: "a", Wait: backend.Forever})
			ended <- err
		}()
		synctest.Wait()
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("error %v, want context.Canceled", err)
		}
		synctest.Wait()
		if _, err := s.Release(t.Context(), &backend.ReleaseRequest{LeaseRef: first.Ref(false)}); err != nil {
			t.Fatal(err)
		}
		empty(t, s, "a")
	})
}

// lossy is a store whose answers to acquires are lost after they took effect.
type lossy struct {
	driver.Driver
	lose bool
}

func (l *lossy) Unwrap() driver.Driver { return nil }

func (l *lossy) Acquire(ctx context.Context, r *driver.AcquireRequest) (*driver.AcquireResult, error) {
	res, err := l.Driver.Acquire(ctx, r)
	if l.lose {
		return nil, driver.ErrIndeterminate
	}
	return res, err
}

func TestUnknownOutcomeIsUndone(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		s := backend.New(&lossy{m.Open(), true}, backend.Options{Clock: driver.ProcessClock})
		defer func() { _ = s.Close() }()
		if _, err := s.Acquire(t.Context(), &backend.AcquireRequest{LockID: "a"}); !errors.Is(err, driver.ErrIndeterminate) {
			t.Errorf("error %v, want ErrIndeterminate", err)
		}
		synctest.Wait()
		empty(t, s, "a")
		// The same by the asynchronous way.
		ended := make(chan error, 1)
		s.AcquireAsync(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: backend.Forever}, func(_ *backend.Lease, err error) { ended <- err })
		if err := <-ended; !errors.Is(err, driver.ErrIndeterminate) {
			t.Errorf("error %v, want ErrIndeterminate", err)
		}
		synctest.Wait()
		empty(t, s, "a")
	})
}

func TestCloseEndsWaitersAndTheirPlaces(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		m, err := embedded.NewMemory(embedded.Options{Clock: driver.ProcessClock})
		if err != nil {
			t.Fatal(err)
		}
		other := m.Open()
		s := backend.New(m.Open(), backend.Options{Clock: driver.ProcessClock})
		mustAcquire(t, s, &backend.AcquireRequest{LockID: "a", TTL: time.Minute})
		ended := make(chan error, 1)
		s.AcquireAsync(t.Context(), &backend.AcquireRequest{LockID: "a", Wait: backend.Forever}, func(_ *backend.Lease, err error) { ended <- err })
		synctest.Wait()
		if err := s.Close(); err != nil {
			t.Fatal(err)
		}
		if err := <-ended; !errors.Is(err, driver.ErrClosed) {
			t.Errorf("error %v, want ErrClosed", err)
		}
		l, err := other.Inspect(t.Context(), "a")
		if err != nil || len(l.Waiters) != 0 || len(l.Holders) != 1 {
			t.Errorf("after Close the lock is %+v (%v), want its holder and no waiter", l, err)
		}
	})
}

func TestInvalidRequestsNameTheField(t *testing.T) {
	s := backend.New(nobodyHome{}, backend.Options{})
	long := strings.Repeat("x", 300)
	for field, req := range map[string]backend.AcquireRequest{
		"lock_id":     {LockID: "a//b"},
		"owner_id":    {LockID: "a", OwnerID: "a\nb"},
		"request_id":  {LockID: "a", RequestID: long},
		"ttl":         {LockID: "a", TTL: time.Millisecond},
		"priority":    {LockID: "a", Priority: 10},
		"token_floor": {LockID: "a", TokenFloor: 1 << 52},
		"metadata":    {LockID: "a", Metadata: map[string]string{"k": strings.Repeat(long, 20)}},
	} {
		_, err := s.Acquire(t.Context(), &req)
		var invalid *backend.InvalidError
		if !errors.As(err, &invalid) || invalid.Field != field || invalid.Limits == "" || !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("%s: error %v, want an InvalidError of that field with its limits", field, err)
		}
	}
	if err := s.Close(); err != nil {
		t.Error(err)
	}
}

// nobodyHome is a driver that must not be called.
type nobodyHome struct{ driver.Driver }

func (nobodyHome) Capabilities() driver.Capabilities {
	return driver.Capabilities{MinTTL: time.Second, MaxTTL: time.Minute, Poll: time.Second, Shared: true}
}
func (nobodyHome) Close() error { return nil }

func TestMuxNamesWhatItKnowsAndHidesSecrets(t *testing.T) {
	var m backend.Mux
	m.Register([]string{"redis", "rediss"}, func(context.Context, *url.URL, driver.Env) (driver.Driver, error) {
		return nil, driver.ErrInvalid
	})
	for _, raw := range []string{
		"mysql://u:hunter2@h", "redis://u:hunter2@h", "://hunter2", "redis://u:hunter2@h:port",
		"redis://h?password=hunter2", "mysql://h?password=hunter2", "redis:hunter2@h", "redis:u:hunter2@h", "mysql:hunter2", "redis://h#hunter2",
	} {
		_, err := m.Open(t.Context(), raw, driver.Env{})
		if err == nil || strings.Contains(err.Error(), "hunter2") || !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("%s: error %v, want an ErrInvalid without the password", raw, err)
		}
	}
	if _, err := m.Open(t.Context(), "mysql://h", driver.Env{}); !strings.Contains(err.Error(), "redis, rediss") {
		t.Errorf("error %v does not list the known schemes", err)
	}
}

func TestSchemeIsRegisteredOnce(t *testing.T) {
	var m backend.Mux
	m.Register([]string{"a"}, nil)
	m.Register([]string{"b"}, embedded.OpenURL)
	if got := m.Schemes(); len(got) != 2 || got[0] != "a" || got[1] != "b" {
		t.Errorf("schemes %v", got)
	}
	defer func() {
		if recover() == nil {
			t.Error("a scheme was registered twice")
		}
	}()
	m.Register([]string{"c", "b"}, embedded.OpenURL)
}

func FuzzValidLockID(f *testing.F) {
	for _, id := range []string{"a", "a/b", "a//b", "../a", "user:42", "{a}", "a b", "ä", strings.Repeat("n", 256)} {
		f.Add(id)
	}
	f.Fuzz(func(t *testing.T, id string) {
		if backend.ValidLockID(id) != nil {
			return
		}
		if id == "" || len(id) > backend.MaxLockID || strings.ContainsAny(id, " \\?#*\x00\n") ||
			strings.HasPrefix(id, "/") || strings.HasSuffix(id, "/") || strings.Contains("/"+id+"/", "//") ||
			strings.Contains("/"+id+"/", "/../") || strings.Contains("/"+id+"/", "/./") {
			t.Errorf("%q was accepted", id)
		}
	})
}
