package redis_test

import (
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// connect opens a driver on the server.
func connect(t *testing.T, server *testenv.Redis) *redis.Store {
	t.Helper()
	o := redis.Options{MinTTL: 100 * time.Millisecond}
	o.Client.Addr = server.Addr()
	d, err := redis.New(o)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = d.Close() })
	return d
}

// granted takes a lease.
func granted(t *testing.T, d driver.Driver, lock, request string, ttl time.Duration, shared bool) *driver.Lease {
	t.Helper()
	res, err := d.Acquire(t.Context(), &driver.AcquireRequest{
		LockID: lock, OwnerID: "owner of " + request, RequestID: request, Key: driver.KeyOf(request), TTL: ttl,
		Shared: shared, PlaceTTL: time.Minute,
	})
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire: %+v, %v", res, err)
	}
	return res.Lease
}

// freed waits until the lock has only so many holders that stand.
func freed(t *testing.T, d driver.Driver, lock string, holders int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; time.Sleep(5 * time.Millisecond) {
		l, err := d.Inspect(t.Context(), lock)
		if err != nil {
			t.Fatal(err)
		}
		if len(l.Holders) == holders {
			return
		}
		if time.Now().After(deadline) {
			t.Fatalf("%+v still stands", l.Holders)
		}
	}
}

// A call that changes the record but does not evict leaves an expired lease to
// the next one that does.
func TestExpiryBesideAReaderThatRenewsIsReported(t *testing.T) {
	d := connect(t, testenv.StartRedisT(t))
	dead := granted(t, d, "a", "dead", 150*time.Millisecond, true)
	alive := granted(t, d, "a", "alive", 30*time.Second, true)
	freed(t, d, "a", 1)
	ref := driver.LeaseRef{LockID: "a", Key: driver.KeyOf("alive"), Token: alive.Token, Attach: alive.Attach}
	if _, err := d.Renew(t.Context(), &driver.RenewRequest{LeaseRef: ref, TTL: 40 * time.Second}); err != nil {
		t.Fatal(err)
	}
	e, err := d.Evict(t.Context(), &driver.EvictRequest{LockID: "a", Token: dead.Token, Cause: driver.CauseExpired})
	if err != nil || e.OwnerID != "owner of dead" {
		t.Errorf("evict: %+v, %v; want the expired reader", e, err)
	}
}
