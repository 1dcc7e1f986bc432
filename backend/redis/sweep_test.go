package redis_test

import (
	"errors"
	"fmt"
	"slices"
	"strconv"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// connect opens a driver on the server.
func connect(t *testing.T, server *testenv.Redis) *redis.Store {
	t.Helper()
	o := redis.Options{MinTTL: 100 * time.Millisecond, New: true}
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
	alive := granted(t, d, "a", "alive", 30*time.Second, true)
	dead := granted(t, d, "a", "dead", 150*time.Millisecond, true)
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

// swept sweeps with every driver in turn until one reports n ends, and returns
// them with the number of the driver that did.
func swept(t *testing.T, drivers []*redis.Store, n int) (ends []driver.Ended, by []int) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); len(ends) < n; time.Sleep(10 * time.Millisecond) {
		for i, d := range drivers {
			found, err := d.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			for range found {
				by = append(by, i)
			}
			ends = append(ends, found...)
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d ends were reported, want %d", len(ends), n)
		}
	}
	return ends, by
}

// An end whose report got lost is reported again under the same name, by the
// one that sweeps then; once told it is gone.
func TestAnEndThatNobodyToldIsReportedAgain(t *testing.T) {
	server := testenv.StartRedisT(t)
	first, second := connect(t, server), connect(t, server)
	lost := granted(t, first, "lost/reply", "dead", 150*time.Millisecond, false)
	freed(t, first, "lost/reply", 0)
	// The answer of this acquire, which evicted, is thrown away.
	granted(t, second, "lost/reply", "next", time.Minute, false)
	forced := granted(t, first, "forced", "hung", time.Minute, false)
	if _, err := first.Evict(t.Context(), &driver.EvictRequest{LockID: "forced", Token: forced.Token, Cause: driver.CauseForced}); err != nil {
		t.Fatal(err)
	}
	ends, _ := swept(t, []*redis.Store{first, second}, 2)
	want := map[driver.Ended]bool{
		{LockID: "lost/reply", OwnerID: "owner of dead", Token: lost.Token, Cause: driver.CauseExpired}: true,
		{LockID: "forced", OwnerID: "owner of hung", Token: forced.Token, Cause: driver.CauseForced}:    true,
	}
	for _, e := range ends {
		if !want[e] {
			t.Errorf("reported %+v", e)
		}
		delete(want, e)
	}
	if err := second.Told(t.Context(), ends); err != nil {
		t.Fatal(err)
	}
	for _, key := range server.Must(t, "KEYS", "*}:i").([]any) {
		for _, member := range server.Must(t, "ZRANGE", key, 0, -1).([]any) {
			if member != "lost/reply" {
				t.Errorf("%q is left of what was told", member)
			}
		}
	}
}

// Another driver takes over from the one that swept, and 300 expiries at once
// are reported once each.
func TestSweepingPassesOnAndManyExpireAtOnce(t *testing.T) {
	server := testenv.StartRedisT(t)
	drivers := []*redis.Store{connect(t, server), connect(t, server), connect(t, server)}
	gone := connect(t, server)
	if _, err := gone.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	if err := gone.Close(); err != nil {
		t.Fatal(err)
	}
	const n = 300
	for i := range n {
		granted(t, drivers[i%3], fmt.Sprint("many/", i), fmt.Sprint("r", i), 200*time.Millisecond, false)
	}
	ends, by := swept(t, drivers, n)
	seen := make(map[string]bool)
	for _, e := range ends {
		if seen[e.LockID] {
			t.Errorf("%s was reported twice", e.LockID)
		}
		seen[e.LockID] = true
	}
	if slices.Min(by) != slices.Max(by) {
		t.Errorf("more than one driver swept: %v", by)
	}
	if page, err := drivers[0].List(t.Context(), &driver.ListRequest{PageSize: 100}); err != nil || len(page.Locks) != 0 {
		t.Errorf("listed %+v, %v; want ends that wait to be told to be no locks", page, err)
	}
}

// A try that is refused beside an expired reader leaves its expiry to the next
// sweep.
func TestARefusalLeavesTheExpiryToASweep(t *testing.T) {
	d := connect(t, testenv.StartRedisT(t))
	dead := granted(t, d, "a", "dead", 150*time.Millisecond, true)
	granted(t, d, "a", "alive", 30*time.Second, true)
	freed(t, d, "a", 1)
	_, err := d.Acquire(t.Context(), &driver.AcquireRequest{
		LockID: "a", OwnerID: "writer", RequestID: "w", Key: driver.KeyOf("w"), TTL: time.Second, PlaceTTL: time.Minute,
	})
	if !errors.Is(err, driver.ErrHeld) {
		t.Fatalf("acquire: %v", err)
	}
	if ends, _ := swept(t, []*redis.Store{d}, 1); ends[0].Token != dead.Token || !ends[0].Shared {
		t.Errorf("swept %+v, want the dead reader", ends)
	}
}

// What a pass costs a store without a busy lock, and one with 10,000 of which
// none is due.
func BenchmarkSweep(b *testing.B) {
	for _, leases := range []int{0, 10_000} {
		b.Run(strconv.Itoa(leases), func(b *testing.B) {
			server := testenv.StartRedisT(b)
			o := redis.Options{New: true}
			o.Client.Addr = server.Addr()
			d, err := redis.New(o)
			if err != nil {
				b.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			for i := range leases {
				request := strconv.Itoa(i)
				if _, err := d.Acquire(b.Context(), &driver.AcquireRequest{
					LockID: "bench/" + request, OwnerID: "bench", RequestID: request, Key: driver.KeyOf(request), TTL: time.Minute, PlaceTTL: time.Minute,
				}); err != nil {
					b.Fatal(err)
				}
			}
			server.Must(b, "CONFIG", "RESETSTAT")
			for b.Loop() {
				if _, err := d.Sweep(b.Context()); err != nil {
					b.Fatal(err)
				}
			}
			b.Log(server.Must(b, "INFO", "commandstats"))
		})
	}
}
