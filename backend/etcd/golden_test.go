package etcd

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	goflag "flag"
	"os"
	"slices"
	"strings"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

var writeGolden = goflag.Bool("write-golden", false, "write the golden dump of the current format")

const (
	goldenFile   = "testdata/format1.json"
	goldenPrefix = "golden"
)

// goldenNow is when the golden records were made, by their own account: 2100, so
// that their tokens are ahead of the clock whenever the test is run.
var goldenNow = time.UnixMicro(4102444800000000)

// dumped is a key of the store.
type dumped struct {
	Key   string `json:"key"`
	Value string `json:"value,omitempty"` // none of a mark
	// Leased: it is on an etcd lease.
	Leased bool `json:"leased,omitempty"`
}

// ask is an acquire for a minute.
func ask(lock, name string, change ...func(*driver.AcquireRequest)) *driver.AcquireRequest {
	r := &driver.AcquireRequest{
		LockID: lock, OwnerID: "owner-" + name, RequestID: name, Key: driver.KeyOf(name), TTL: time.Minute, PlaceTTL: time.Minute,
	}
	for _, f := range change {
		f(r)
	}
	return r
}

func inShared(r *driver.AcquireRequest) { r.Shared = true }
func inQueue(r *driver.AcquireRequest)  { r.Enqueue = true }

func proves(r *driver.AcquireRequest, token, attach int64) driver.LeaseRef {
	return driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: token, Attach: attach}
}

func mustGrant(t *testing.T, s *Store, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	res, err := s.Acquire(t.Context(), r)
	if err != nil || res.Lease == nil {
		t.Fatalf("acquire %s by %s: %+v, %v", r.LockID, r.OwnerID, res, err)
	}
	return res.Lease
}

func check(t *testing.T, err error) {
	t.Helper()
	if err != nil {
		t.Fatal(err)
	}
}

// openGolden opens a driver on the golden prefix.
func openGolden(t *testing.T, e *testenv.Etcd, o Options) *Store {
	t.Helper()
	o.Endpoints, o.Prefix, o.Timeout = e.Addrs(), goldenPrefix, 15*time.Second
	s, err := New(o)
	check(t, err)
	t.Cleanup(func() { check(t, s.Close()) })
	return s
}

// makeGolden leaves a held, a shared, a queued, an idle, a forced and a collected
// lock.
func makeGolden(t *testing.T, s *Store) {
	t.Helper()
	ctx := t.Context()
	collected := ask("collected", "gone")
	l := mustGrant(t, s, collected)
	_, err := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: proves(collected, l.Token, 1)})
	check(t, err)
	_, err = s.Collect(ctx, 0)
	check(t, err)

	held := ask("held", "one", func(r *driver.AcquireRequest) { r.Metadata = map[string]string{"host": "a"} })
	l = mustGrant(t, s, held)
	mustGrant(t, s, ask("held", "two", func(r *driver.AcquireRequest) { r.OwnerID, r.Key, r.Reentrant = held.OwnerID, held.Key, true }))
	_, err = s.Adopt(ctx, &driver.RenewRequest{LeaseRef: proves(held, l.Token, 0), TTL: time.Minute})
	check(t, err)

	mustGrant(t, s, ask("shared", "r1", inShared))
	revoked := mustGrant(t, s, ask("shared", "r2", inShared))
	_, err = s.Revoke(ctx, &driver.EvictRequest{LockID: "shared", Token: revoked.Token, Cause: driver.CauseForced})
	check(t, err)

	mustGrant(t, s, ask("queued", "holder"))
	for i, name := range []string{"w1", "w2", "w3"} {
		_, err := s.Acquire(ctx, ask("queued", name, inQueue, func(r *driver.AcquireRequest) { r.Shared, r.Priority = i == 1, i/2 }))
		check(t, err)
	}

	idle := ask("idle", "done")
	l = mustGrant(t, s, idle)
	_, err = s.Release(ctx, &driver.ReleaseRequest{LeaseRef: proves(idle, l.Token, 1), RequestID: "done"})
	check(t, err)
	check(t, s.Leave(ctx, &driver.LeaveRequest{LockID: "idle", RequestID: "left", Key: driver.KeyOf("left")}))

	forced := mustGrant(t, s, ask("forced", "victim"))
	_, err = s.Evict(ctx, &driver.EvictRequest{LockID: "forced", Token: forced.Token, Cause: driver.CauseForced})
	check(t, err)
}

func dumpGolden(t *testing.T, c *clientv3.Client) {
	t.Helper()
	resp, err := c.Get(t.Context(), goldenPrefix+"/", clientv3.WithPrefix())
	check(t, err)
	var all []dumped
	for _, kv := range resp.Kvs {
		all = append(all, dumped{string(kv.Key), string(kv.Value), kv.Lease != 0})
	}
	var out bytes.Buffer
	e := json.NewEncoder(&out)
	e.SetIndent("", " ")
	check(t, errors.Join(e.Encode(all), os.MkdirAll("testdata", 0o750), os.WriteFile(goldenFile, out.Bytes(), 0o600)))
}

func readGolden(t *testing.T) (all []dumped) {
	t.Helper()
	raw, err := os.ReadFile(goldenFile)
	check(t, errors.Join(err, json.Unmarshal(raw, &all)))
	return all
}

// restored is a store with the golden keys, in which the etcd leases are this
// cluster's, as is the stamp.
func restored(t *testing.T) (*Store, *clientv3.Client) {
	t.Helper()
	e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 1})
	c := e.Client(t)
	s := openGolden(t, e, Options{})
	mustGrant(t, s, ask("makes-the-stamp", "one"))
	lease, err := c.Grant(t.Context(), 60)
	check(t, err)
	for _, d := range readGolden(t) {
		if d.Key == s.keys.stamp() {
			continue
		}
		if strings.HasPrefix(d.Key, s.keys.allHolders()) && d.Value != "" {
			var fields map[string]any
			decoder := json.NewDecoder(strings.NewReader(d.Value))
			decoder.UseNumber()
			check(t, decoder.Decode(&fields))
			fields["lease"] = int64(lease.ID)
			value, err := json.Marshal(fields)
			check(t, err)
			d.Value = string(value)
		}
		var on []clientv3.OpOption
		if d.Leased {
			on = append(on, clientv3.WithLease(lease.ID))
		}
		_, err := c.Put(t.Context(), d.Key, d.Value, on...)
		check(t, err)
	}
	return s, c
}

func lossOf(err error) driver.Cause {
	var lost *driver.LostError
	if errors.As(err, &lost) {
		return lost.Cause
	}
	return ""
}

// Records of format 1, which an earlier version may have written, are read, and
// their locks go on.
func TestGoldenRecordsGoOn(t *testing.T) {
	if *writeGolden {
		e := testenv.StartEtcd(t, testenv.EtcdOptions{Members: 1})
		makeGolden(t, openGolden(t, e, Options{Wall: func() time.Time { return goldenNow }}))
		dumpGolden(t, e.Client(t))
	}
	s, _ := restored(t)
	ctx := t.Context()
	inspect := func(t *testing.T, lock string, holders, waiters int) *driver.Lock {
		t.Helper()
		l, err := s.Inspect(ctx, lock)
		if err != nil || len(l.Holders) != holders || len(l.Waiters) != waiters {
			t.Fatalf("the lock is %+v, %v", l, err)
		}
		return l
	}
	renew := func(r *driver.AcquireRequest, token, attach int64) error {
		_, err := s.Renew(ctx, &driver.RenewRequest{LeaseRef: proves(r, token, attach), TTL: time.Minute})
		return err
	}
	t.Run("held", func(t *testing.T) {
		l, r := inspect(t, "held", 1, 0), ask("held", "one")
		if h := l.Holders[0]; h.HoldCount != 2 || h.Attach != 2 || h.Metadata["host"] != "a" || h.TTL != time.Minute {
			t.Fatalf("the lock is %+v", l)
		}
		if _, err := s.Acquire(ctx, ask("held", "rival")); !errors.Is(err, driver.ErrHeld) {
			t.Errorf("a rival: %v", err)
		}
		if err := renew(r, l.Token, 1); lossOf(err) != driver.CauseReattached {
			t.Errorf("the older attachment: %v", err)
		}
		check(t, renew(r, l.Token, 2))
		for _, hold := range []string{"one", "two"} {
			_, err := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: proves(r, l.Token, 2), RequestID: hold})
			check(t, err)
		}
		if next := mustGrant(t, s, ask("held", "next")); next.Token != l.Token+1 {
			t.Errorf("token %d after %d, which is ahead of the clock", next.Token, l.Token)
		}
	})
	t.Run("shared", func(t *testing.T) {
		l := inspect(t, "shared", 2, 0)
		check(t, renew(ask("shared", "r1"), l.Holders[0].Token, 1))
		if err := renew(ask("shared", "r2"), l.Holders[1].Token, 1); lossOf(err) != driver.CauseForced {
			t.Errorf("renewal of the revoked one: %v", err)
		}
		if next := mustGrant(t, s, ask("shared", "r3", inShared)); next.Token <= l.Token {
			t.Errorf("token %d after %d", next.Token, l.Token)
		}
	})
	t.Run("queued", func(t *testing.T) {
		l := inspect(t, "queued", 1, 3)
		var order []string
		for _, w := range l.Waiters {
			order = append(order, w.RequestID)
		}
		if want := []string{"w3", "w1", "w2"}; !slices.Equal(order, want) || !l.Waiters[2].Shared {
			t.Errorf("the queue is %+v, want %v", l.Waiters, want)
		}
		_, err := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: proves(ask("queued", "holder"), l.Token, 0)})
		check(t, err)
		if res, err := s.Acquire(ctx, ask("queued", "w1", inQueue)); err != nil || res.Lease != nil || res.Position != 2 {
			t.Errorf("the second: %+v, %v", res, err)
		}
		if next := mustGrant(t, s, ask("queued", "w3", inQueue, func(r *driver.AcquireRequest) { r.Priority = 1 })); next.Token <= l.Token {
			t.Errorf("token %d after %d", next.Token, l.Token)
		}
	})
	t.Run("idle", func(t *testing.T) {
		l := inspect(t, "idle", 0, 0)
		_, err := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: proves(ask("idle", "done"), l.Token, 1), RequestID: "done"}) // a repeat
		check(t, err)
		for _, ended := range []string{"done", "left"} {
			if _, err := s.Acquire(ctx, ask("idle", ended)); lossOf(err) != driver.CauseReleased {
				t.Errorf("an acquire of %s, which ended: %v", ended, err)
			}
		}
	})
	t.Run("collected", func(t *testing.T) {
		inspect(t, "collected", 0, 0)
		if next := mustGrant(t, s, ask("collected", "next")); next.Token <= goldenNow.UnixMicro() {
			t.Errorf("the token %d does not exceed the one that was collected", next.Token)
		}
	})
	t.Run("forced", func(t *testing.T) { goldenEnd(ctx, t, s) })
}

// goldenEnd waits until the end that nobody told is reported.
func goldenEnd(ctx context.Context, t *testing.T, s *Store) {
	t.Helper()
	var ended []driver.Ended
	for end := time.Now().Add(time.Minute); len(ended) == 0; time.Sleep(20 * time.Millisecond) {
		found, err := s.Sweep(ctx)
		check(t, err)
		if ended = append(ended, found...); time.Now().After(end) {
			t.Fatal("nothing is reported")
		}
	}
	if e := ended[0]; len(ended) != 1 || e.LockID != "forced" || e.OwnerID != "owner-victim" || e.Cause != driver.CauseForced {
		t.Errorf("reported %+v", ended)
	}
	check(t, s.Told(ctx, ended))
}

// A value of a newer major format is refused by its name, by every call that reads
// it, and is not touched.
func TestANewerFormatIsRefusedByName(t *testing.T) {
	s, c := restored(t)
	ctx := t.Context()
	l, err := s.Inspect(ctx, "held")
	check(t, err)
	for what, key := range map[string]string{"the record": s.keys.record("held"), "the lease": s.keys.holder("held", l.Token)} {
		was, err := c.Get(ctx, key)
		check(t, err)
		newer := strings.Replace(string(was.Kvs[0].Value), `"format":1`, `"format":2`, 1)
		_, err = c.Put(ctx, key, newer)
		check(t, err)
		ref := proves(ask("held", "one"), l.Token, 0)
		renewal := &driver.RenewRequest{LeaseRef: ref, TTL: time.Minute}
		_, acquire := s.Acquire(ctx, ask("held", "new"))
		_, place := s.Acquire(ctx, ask("held", "place", inQueue))
		_, renew := s.Renew(ctx, renewal)
		_, adopt := s.Adopt(ctx, renewal)
		_, release := s.Release(ctx, &driver.ReleaseRequest{LeaseRef: ref, RequestID: "one"})
		_, evict := s.Evict(ctx, &driver.EvictRequest{LockID: "held", Token: l.Token, Cause: driver.CauseForced})
		_, revoke := s.Revoke(ctx, &driver.EvictRequest{LockID: "held", Token: l.Token, Cause: driver.CauseForced})
		_, inspect := s.Inspect(ctx, "held")
		_, list := s.List(ctx, &driver.ListRequest{PageSize: 10})
		for name, err := range map[string]error{
			"acquire": acquire, "acquire with a place": place, "renew": renew, "adopt": adopt, "release": release, "evict": evict, "revoke": revoke,
			"leave": s.Leave(ctx, &driver.LeaveRequest{LockID: "held", RequestID: "one"}), "inspect": inspect, "list": list,
		} {
			if name == "renew" && what == "the record" {
				continue // a renewal reads the lease alone
			}
			if !errors.Is(err, driver.ErrFormat) || !strings.Contains(err.Error(), "format 2") || !strings.Contains(err.Error(), "knows 1") {
				t.Errorf("%s, of which %s is newer: %v, want format 2 refused by name", name, what, err)
			}
		}
		after, err := c.Get(ctx, key)
		if err != nil || string(after.Kvs[0].Value) != newer {
			t.Errorf("%s was %q, is %q, %v", what, newer, after.Kvs, err)
		}
		_, err = c.Put(ctx, key, string(was.Kvs[0].Value))
		check(t, err)
	}
	mustGrant(t, s, ask("idle", "next")) // the other locks go on
}
