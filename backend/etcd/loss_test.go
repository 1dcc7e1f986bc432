package etcd_test

import (
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"testing"
	"time"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// Keys that somebody deletes by hand, one after the other of those that a held
// lock with a waiter has: the driver goes on, no two holders are told that they
// hold, tokens rise, and a holder whose lease is gone learns it at its next
// renewal.
func TestAKeyDeletedByHand(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one, two := openAt(t, e.URL()), openAt(t, e.URL())
	c := e.Client(t)
	warm := asked("warm", "one")
	released(t, one, warm, granted(t, one, warm))
	for i := 0; ; i++ {
		lock := fmt.Sprintf("by-hand-%03d", i)
		r, next := asked(lock, "one"), asked(lock, "two")
		before := e.Keys(t, "")
		l := granted(t, one, r)
		queued(t, two, next, 1)
		keys := slices.DeleteFunc(e.Keys(t, ""), func(k string) bool { return slices.Contains(before, k) })
		if len(keys) < 2 {
			t.Fatalf("a held lock with a waiter has the keys %q", keys)
		}
		if i == len(keys) {
			return
		}
		if _, err := c.Delete(t.Context(), keys[i]); err != nil {
			t.Fatal(err)
		}
		_, err := renewed(t, one, refOf(r, l), ttl)
		switch {
		case err == nil:
			heldBy(t, two, lock, l.Token, 1)
			released(t, one, r, l)
		case errors.Is(err, driver.ErrLost):
		default:
			t.Errorf("renew without %q: %v", keys[i], err)
		}
		got := awaited(t, two, queuing(next))
		if got.Token <= l.Token {
			t.Errorf("without %q the token %d follows %d", keys[i], got.Token, l.Token)
		}
		_, err = renewed(t, one, refOf(r, l), ttl)
		lostBy(t, fmt.Sprintf("renew by the first holder without %q", keys[i]), err, "")
		heldBy(t, one, lock, got.Token, 1)
		released(t, two, next, got)
	}
}

// Without its record, a lock that is held keeps its holder, its token and its
// waiters, and a newcomer takes nobody's place.
func TestARecordDeletedByHand(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one, two := openAt(t, e.URL()), openAt(t, e.URL())
	r, next, later := asked("a", "one"), asked("a", "two"), asked("a", "three")
	l := granted(t, one, r)
	queued(t, two, next, 1)
	deleted, err := e.Client(t).Delete(t.Context(), "locksidecar/r/a")
	if err != nil || deleted.Deleted != 1 {
		t.Fatalf("deleted %+v, %v", deleted, err)
	}
	heldBy(t, two, "a", l.Token, 1)
	queued(t, one, later, 2)
	queued(t, two, next, 1)
	released(t, one, r, l)
	got := awaited(t, two, next)
	if got.Token <= l.Token {
		t.Errorf("the token %d follows %d", got.Token, l.Token)
	}
	released(t, two, next, got)
	awaited(t, one, later)
}

// Every key of every lock is deleted at once: holders learn it, and tokens rise.
func TestAllKeysDeletedByHand(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one := openAt(t, e.URL())
	r := asked("a", "one")
	l := granted(t, one, r)
	if _, err := e.Client(t).Delete(t.Context(), "", clientv3.WithPrefix()); err != nil {
		t.Fatal(err)
	}
	_, err := renewed(t, one, refOf(r, l), ttl)
	lostBy(t, "renew", err, "")
	next := asked("a", "two")
	if got := awaited(t, one, next); got.Token <= l.Token {
		t.Errorf("the token %d follows %d", got.Token, l.Token)
	}
}

// Somebody revokes every lease of the store, those that the driver has not used
// yet too: a holder learns at its next renewal that it lost, a waiter gets a
// place again by asking again, and the driver goes on.
func TestLeasesRevokedFromOutside(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one, two := openAt(t, e.URL()), openAt(t, e.URL())
	c := e.Client(t)
	for range 3 {
		r, next := asked("a", "one"), asked("a", "two")
		l := granted(t, one, r)
		queued(t, two, next, 1)
		for _, id := range e.Leases(t) {
			if _, err := c.Revoke(t.Context(), id); err != nil && !errors.Is(err, rpctypes.ErrLeaseNotFound) {
				t.Fatal(err)
			}
		}
		_, err := renewed(t, one, refOf(r, l), ttl)
		lostBy(t, "renew", err, "")
		got := awaited(t, two, next)
		if got.Token <= l.Token {
			t.Errorf("the token %d follows %d", got.Token, l.Token)
		}
		released(t, two, next, got)
	}
}

// loss is a way in which the store forgets what it has acknowledged.
type loss struct {
	name string
	lose func(t *testing.T, e *testenv.Etcd, old testenv.EtcdSnapshot) error
}

var losses = []loss{
	{"restored", func(t *testing.T, e *testenv.Etcd, old testenv.EtcdSnapshot) error {
		return e.RestartFrom(t.Context(), old)
	}},
	{"restored under the name of before", func(t *testing.T, e *testenv.Etcd, old testenv.EtcdSnapshot) error {
		e.KeepName = true
		return e.RestartFrom(t.Context(), old)
	}},
	{"restored with a higher revision", func(t *testing.T, e *testenv.Etcd, old testenv.EtcdSnapshot) error {
		return e.RestartFrom(t.Context(), old, "--bump-revision", "1000000", "--mark-compacted")
	}},
	{"restored with a higher revision under the name of before", func(t *testing.T, e *testenv.Etcd, old testenv.EtcdSnapshot) error {
		e.KeepName = true
		return e.RestartFrom(t.Context(), old, "--bump-revision", "1000000", "--mark-compacted")
	}},
	// Nobody can tell an emptied store from a new one who has not seen it before.
	{"started empty", func(t *testing.T, e *testenv.Etcd, _ testenv.EtcdSnapshot) error {
		return e.RestartEmpty(t.Context())
	}},
}

// While a lease is held the store is restored to what it was before the grant, or
// starts empty. No second holder is admitted before the first one's valid-until,
// whoever comes first; the pause is told; tokens rise; the first holder learns
// that it lost.
func TestARestoredStoreGrantsNothingTwice(t *testing.T) {
	t.Parallel()
	// A pause is long, and nothing happens in it: all of them at once.
	var running sync.WaitGroup
	defer running.Wait()
	for _, how := range losses {
		for _, who := range []string{"an old sidecar", "a new sidecar", "a waiter"} {
			if how.name == "started empty" && who == "a new sidecar" {
				continue
			}
			running.Go(func() {
				t.Run(how.name+"/"+who, func(t *testing.T) {
					e := start(t, 1)
					const long, short = "max_ttl=16s", 12 * time.Second
					holder, rival := openAt(t, e.URL(), long), openAt(t, e.URL(), long)
					for _, d := range []driver.Driver{holder, rival} {
						warm := lasting(asked("warm", "warm"), short)
						released(t, d, warm, awaited(t, d, warm))
					}
					old := e.Snapshot(t)
					r := lasting(asked("a", "holder"), short)
					l := granted(t, holder, r)
					last, err := renewed(t, holder, refOf(r, l), short)
					must(t, err)
					next := lasting(asked("a", "next"), short)
					if who == "a waiter" {
						queued(t, rival, next, 1)
					}
					must(t, how.lose(t, e, old))
					if who == "a new sidecar" {
						rival = openAt(t, e.URL(), long)
					}
					quarantined := false
					var second *driver.Lease
					until(t, "the second holder is admitted", func() bool {
						res, err := attempt(t, rival, next)
						reason, remaining := rival.(*etcd.Store).Quarantine()
						if remaining > 0 && reason != "" {
							quarantined = true // a waiter is told its place meanwhile
						}
						switch {
						case errors.Is(err, driver.ErrQuarantined):
							if remaining <= 0 || reason == "" {
								t.Errorf("in quarantine, the driver says %q, %v", reason, remaining)
							}
						case err == nil && res.Lease != nil:
							second = res.Lease
						case err != nil && !errors.Is(err, driver.ErrHeld):
							t.Fatal(err)
						}
						return second != nil
					})
					if early := validUntil(last).Sub(second.Origin); early > 0 {
						t.Errorf("a second holder was admitted %v before the first one's valid-until", early)
					}
					if !quarantined {
						t.Error("there was no quarantine")
					}
					if second.Token <= l.Token {
						t.Errorf("the token %d follows %d", second.Token, l.Token)
					}
					_, err = renewed(t, holder, refOf(r, l), short)
					lostBy(t, "renew by the first holder", err, "")
				})
			})
		}
	}
}

// A lease that the snapshot has goes on after a restore: it is renewed under its
// token, and its waiter keeps out.
func TestALeaseOfBeforeTheSnapshotGoesOn(t *testing.T) {
	t.Parallel()
	e := start(t, 3)
	d := openAt(t, e.URL(), "timeout=2s", "max_ttl=30s")
	r := asked("a", "one")
	l := granted(t, d, r)
	must(t, e.RestartFrom(t.Context(), e.Snapshot(t)))
	again, err := renewed(t, d, refOf(r, l), ttl)
	if err != nil || again.Token != l.Token {
		t.Fatalf("renew: %+v, %v", again, err)
	}
	released(t, d, r, l)
	if got := awaited(t, d, asked("a", "two")); got.Token <= l.Token {
		t.Errorf("the token %d follows %d", got.Token, l.Token)
	}
}

// What is of another prefix is not touched, and not seen.
func TestPrefixesDoNotMeet(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one, two := openAt(t, e.URL(), "prefix=locks"), openAt(t, e.URL(), "prefix=locks2")
	granted(t, one, asked("a", "one"))
	granted(t, two, asked("a", "two"))
	for _, k := range e.Keys(t, "") {
		if !strings.HasPrefix(strings.TrimPrefix(k, "/"), "locks") {
			t.Errorf("the key %q has no prefix", k)
		}
	}
	if len(e.Keys(t, "locks2")) == 0 || len(e.Keys(t, "locks")) == len(e.Keys(t, "locks2")) {
		t.Errorf("the keys are %q", e.Keys(t, ""))
	}
}
