package redis

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// watched collects the hints of a driver.
func watched(t *testing.T, s *Store) <-chan driver.Hint {
	t.Helper()
	hints := make(chan driver.Hint, 1000)
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error)
	go func() { ended <- s.Watch(ctx, func(h driver.Hint) { hints <- h }) }()
	t.Cleanup(func() {
		cancel()
		if err := <-ended; !errors.Is(err, context.Canceled) {
			t.Errorf("the watch ended with %v", err)
		}
	})
	return hints
}

func wantHint(t *testing.T, hints <-chan driver.Hint, want driver.Hint) {
	t.Helper()
	select {
	case h := <-hints:
		if h != want {
			t.Errorf("hint %+v, want %+v", h, want)
		}
	case <-time.After(patience):
		t.Fatalf("no hint, want %+v", want)
	}
}

func TestABrokenWatchIsResumedWithAResync(t *testing.T) {
	server := testenv.StartRedisT(t)
	proxy := testenv.StartProxy(t, server.Addr())
	o := Options{Prefix: "x", Timeout: 3 * time.Second, New: true}
	o.Client.Addr = proxy.Addr()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = s.Close() })
	s.silence = 2 * time.Second
	hints := watched(t, s)
	resync := driver.Hint{Kind: driver.HintResync}
	wantHint(t, hints, resync)
	// The server asks nothing of a silent subscription, and one is kept.
	time.Sleep(3 * s.silence)
	direct := openOn(t, server, "x")
	holder := request("a", "holder")
	l := granted(t, direct, holder)
	if _, err := s.Acquire(t.Context(), queued(request("a", "w"))); err != nil {
		t.Fatal(err)
	}
	release(t, direct, holder, l)
	wantHint(t, hints, driver.Hint{Kind: driver.HintGrantable, LockID: "a", RequestID: "w"})
	// A connection that breaks.
	proxy.Reset()
	wantHint(t, hints, resync)
	// A connection on which nothing comes any more, and nobody says so.
	proxy.DropReplies.Store(true)
	until(t, "the silence is noticed", func() bool { return s.topology.route(0).client.PoolStats().PubSubStats.Created >= 3 })
	proxy.DropReplies.Store(false)
	proxy.Reset()
	wantHint(t, hints, resync)
}

// Whoever keeps a lease alive is told what another driver did to it, and is not
// told what it did itself.
func TestTheKeeperOfALeaseIsTold(t *testing.T) {
	server := testenv.StartRedisT(t)
	keeper, other := openOn(t, server, "x"), openOn(t, server, "x")
	hints := watched(t, keeper)
	wantHint(t, hints, driver.Hint{Kind: driver.HintResync})
	revoked := func(n int, call func(r *driver.AcquireRequest, l *driver.Lease) error) {
		t.Helper()
		r := request("a", fmt.Sprint("r", n))
		l := granted(t, keeper, r)
		if err := call(r, l); err != nil {
			t.Error(err)
		}
		wantHint(t, hints, driver.Hint{Kind: driver.HintRevoked, LockID: "a", Token: l.Token})
	}
	own := request("a", "own")
	release(t, keeper, own, granted(t, keeper, own)) // no hint
	revoked(1, func(r *driver.AcquireRequest, l *driver.Lease) error {
		_, err := other.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: r.RequestID})
		return err
	})
	revoked(2, func(r *driver.AcquireRequest, _ *driver.Lease) error {
		return other.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: r.RequestID})
	})
	revoked(3, func(_ *driver.AcquireRequest, l *driver.Lease) error {
		_, err := other.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced})
		return err
	})
	revoked(4, func(r *driver.AcquireRequest, l *driver.Lease) error {
		ref := driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced}
		_, err := other.Revoke(t.Context(), &ref)
		release(t, keeper, r, l)
		return err
	})
	revoked(5, func(r *driver.AcquireRequest, l *driver.Lease) error {
		adopted, err := other.Adopt(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
		if err == nil {
			release(t, other, r, adopted)
		}
		return err
	})
	revoked(6, func(r *driver.AcquireRequest, _ *driver.Lease) error {
		again := *r
		again.Key = driver.KeyOf("another lease id")
		_, err := other.Acquire(t.Context(), &again)
		return err
	})
}

func TestWhoeverCanBeGrantedIsWoken(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	hints := watched(t, s)
	wantHint(t, hints, driver.Hint{Kind: driver.HintResync})
	woken := func(lockID string, names ...string) {
		t.Helper()
		for _, name := range names {
			wantHint(t, hints, driver.Hint{Kind: driver.HintGrantable, LockID: lockID, RequestID: name})
		}
	}
	queue := func(r *driver.AcquireRequest) {
		t.Helper()
		if res, err := s.Acquire(t.Context(), queued(r)); err != nil || res.Lease != nil {
			t.Fatalf("%s: %+v (%v), want a place", r.RequestID, res, err)
		}
	}
	// A writer between readers leaves.
	granted(t, s, shared(request("a", "reader")))
	queue(request("a", "writer"))
	queue(shared(request("a", "second")))
	queue(shared(request("a", "third")))
	queue(request("a", "last"))
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "writer"}); err != nil {
		t.Fatal(err)
	}
	woken("a", "second", "third")
	// The first in line is dead when the lock is released.
	holder := request("b", "holder")
	l := granted(t, s, holder)
	queue(request("b", "dead"))
	queue(request("b", "next"))
	server.Must(t, "ZADD", s.shardPrefix(shardOf("b"))+"d:b", 1, "dead")
	release(t, s, holder, l)
	woken("b", "next")
	// The last try of the first in line gives its place up while the lock is free.
	holder = request("c", "holder")
	granted(t, s, shared(holder))
	queue(request("c", "writer"))
	queue(shared(request("c", "reader")))
	if _, err := s.Acquire(t.Context(), request("c", "writer")); !errors.Is(err, driver.ErrHeld) {
		t.Fatal(err)
	}
	woken("c", "reader")
	// A revoked lease that expires wakes nobody; the waiter knows when to look.
	s = openPolling(t, server, time.Minute)
	holder = request("d", "holder")
	holder.TTL = 10 * time.Second
	l = granted(t, s, holder)
	if _, err := s.Revoke(t.Context(), &driver.EvictRequest{LockID: "d", Token: l.Token, Cause: driver.CauseForced}); err != nil {
		t.Fatal(err)
	}
	res, err := s.Acquire(t.Context(), queued(request("d", "w")))
	if err != nil || res.Lease != nil || res.RetryAfter > holder.TTL+2*time.Millisecond || !res.Holder.Revoked {
		t.Errorf("behind a revoked lease: %+v (%v)", res, err)
	}
}
