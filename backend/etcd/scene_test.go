package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"net/url"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// What happens to the servers, to the network and to the keys, seen through the
// driver's contract alone.

// patience bounds each wait for something that must come.
const patience = 90 * time.Second

// ttl is that of leases that nobody lets expire, placeTTL that of places.
const (
	ttl      = 30 * time.Second
	placeTTL = 30 * time.Second
)

// openAt opens a driver for the length of the test.
func openAt(t *testing.T, at string, parameters ...string) driver.Driver {
	t.Helper()
	for _, p := range parameters {
		if strings.Contains(at, "?") {
			at += "&" + p
		} else {
			at += "?" + p
		}
	}
	u, err := url.Parse(at)
	if err != nil {
		t.Fatal(err)
	}
	d, err := etcd.OpenURL(t.Context(), u, driver.Env{})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := d.Close(); err != nil {
			t.Error(err)
		}
	})
	return d
}

var serial atomic.Int64

// asked is a request by an owner of its own.
func asked(lock, owner string) *driver.AcquireRequest {
	id := fmt.Sprintf("%s-%d", owner, serial.Add(1))
	return &driver.AcquireRequest{LockID: lock, OwnerID: owner, RequestID: id, Key: driver.KeyOf(id), TTL: ttl, PlaceTTL: placeTTL}
}

func queuing(r *driver.AcquireRequest) *driver.AcquireRequest {
	r.Enqueue = true
	return r
}

// lasting sets the lease's time.
func lasting(r *driver.AcquireRequest, d time.Duration) *driver.AcquireRequest {
	r.TTL = d
	return r
}

func refOf(r *driver.AcquireRequest, l *driver.Lease) driver.LeaseRef {
	return driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: l.Token, Attach: l.Attach}
}

// validUntil is how long the holder of a lease may rely on it.
func validUntil(l *driver.Lease) driver.Instant {
	return l.Origin.Add(l.Remaining*99/100 - 50*time.Millisecond)
}

// open tells whether an error leaves it to a repeat: what was asked for was not
// done, or perhaps.
func open(err error) bool {
	return errors.Is(err, driver.ErrUnavailable) || errors.Is(err, driver.ErrIndeterminate) || errors.Is(err, context.DeadlineExceeded)
}

// settled repeats a call until its outcome is known, which it returns.
func settled(t *testing.T, call func(ctx context.Context) error) error {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		ctx, cancel := context.WithTimeout(t.Context(), 10*time.Second)
		err := call(ctx)
		cancel()
		if err == nil || !open(err) {
			return err
		}
		if time.Now().After(end) {
			t.Fatalf("for %v: %v", patience, err)
		}
		time.Sleep(5 * time.Millisecond) // the pace
	}
}

// until polls for a condition.
func until(t *testing.T, what string, condition func() bool) {
	t.Helper()
	for end := time.Now().Add(patience); !condition(); {
		if time.Now().After(end) {
			t.Fatalf("waited %v in vain: %s", patience, what)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

// attempt repeats an acquire until it is answered.
func attempt(t *testing.T, d driver.Driver, r *driver.AcquireRequest) (res *driver.AcquireResult, err error) {
	t.Helper()
	err = settled(t, func(ctx context.Context) (err error) {
		res, err = d.Acquire(ctx, r)
		return err
	})
	return res, err
}

// granted acquires a lock that can be granted at once.
func granted(t *testing.T, d driver.Driver, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	res, err := attempt(t, d, r)
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire %s by %s: %+v, %v", r.LockID, r.OwnerID, res, err)
	}
	return res.Lease
}

// queued takes a place.
func queued(t *testing.T, d driver.Driver, r *driver.AcquireRequest, position int) {
	t.Helper()
	res, err := attempt(t, d, queuing(r))
	if err != nil || res.Lease != nil || res.Position != position {
		t.Fatalf("queue for %s by %s: %+v, %v; want the position %d", r.LockID, r.OwnerID, res, err, position)
	}
}

// awaited repeats an acquire until it is granted: the lock is somebody else's, or
// nothing is granted yet.
func awaited(t *testing.T, d driver.Driver, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		res, err := attempt(t, d, r)
		switch {
		case err == nil && res.Lease != nil:
			return res.Lease
		case err == nil, errors.Is(err, driver.ErrHeld), errors.Is(err, driver.ErrQuarantined):
		default:
			t.Fatalf("acquire %s by %s: %v", r.LockID, r.OwnerID, err)
		}
		if time.Now().After(end) {
			t.Fatalf("%s is not granted to %s within %v: %+v, %v", r.LockID, r.OwnerID, patience, res, err)
		}
		time.Sleep(5 * time.Millisecond)
	}
}

func renewed(t *testing.T, d driver.Driver, ref driver.LeaseRef, ttl time.Duration) (l *driver.Lease, err error) {
	t.Helper()
	err = settled(t, func(ctx context.Context) (err error) {
		l, err = d.Renew(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: ttl})
		return err
	})
	return l, err
}

func released(t *testing.T, d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) {
	t.Helper()
	if err := settled(t, releasing(d, r, l)); err != nil {
		t.Fatalf("release %s by %s: %v", r.LockID, r.OwnerID, err)
	}
}

func releasing(d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) func(context.Context) error {
	return func(ctx context.Context) error {
		_, err := d.Release(ctx, &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: r.RequestID})
		return err
	}
}

// seen is the state of a lock.
func seen(t *testing.T, d driver.Driver, lock string) (l *driver.Lock) {
	t.Helper()
	if err := settled(t, func(ctx context.Context) (err error) {
		l, err = d.Inspect(ctx, lock)
		return err
	}); err != nil {
		t.Fatalf("inspect %s: %v", lock, err)
	}
	return l
}

// heldBy wants one holder, by the token, with so many holds.
func heldBy(t *testing.T, d driver.Driver, lock string, token int64, holds int) {
	t.Helper()
	if l := seen(t, d, lock); len(l.Holders) != 1 || l.Holders[0].Token != token || l.Holders[0].HoldCount != holds || l.Token != token {
		t.Errorf("%s is %+v, want one holder with the token %d and %d holds", lock, l, token, holds)
	}
}

// lostBy wants a LostError with the cause; an empty cause is any.
func lostBy(t *testing.T, what string, err error, cause driver.Cause) {
	t.Helper()
	var lost *driver.LostError
	if !errors.As(err, &lost) || cause != "" && lost.Cause != cause {
		t.Errorf("%s: %v, want that the lease is lost: %s", what, err, cause)
	}
}

func must(t *testing.T, errs ...error) {
	t.Helper()
	if err := errors.Join(errs...); err != nil {
		t.Fatal(err)
	}
}

func start(t *testing.T, members int) *testenv.Etcd {
	t.Helper()
	return testenv.StartEtcd(t, testenv.EtcdOptions{Members: members})
}
