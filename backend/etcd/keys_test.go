package etcd

import (
	"math"
	"math/rand/v2"
	"slices"
	"strings"
	"testing"

	"go.etcd.io/etcd/api/v3/mvccpb"
	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The keys of two locks never meet, and are in the order of the lock ids.
func TestKeysDoNotMeet(t *testing.T) {
	k := keyspace{"p/"}
	ids := []string{"a", "a/b", "a:b", "a-b", "{a}", "a%21", "a.", "ab", "A", "~", "a+", "a=", "a@", "h/a", "r", strings.Repeat("x", 255)}
	slices.Sort(ids)
	var keys []string
	for _, id := range ids {
		keys = append(keys, k.holder(id, 7), k.alive(id, 7), k.holder(id, 8))
		from, to := k.holders(id)
		for _, other := range ids {
			for _, key := range []string{k.holder(other, 1), k.alive(other, math.MaxInt64)} {
				if in := key >= from && key < to; in != (other == id) {
					t.Errorf("the key %q of %q is in the range of %q: %t", key, other, id, in)
				}
			}
		}
		for _, token := range []int64{1, 1 << 52, math.MaxInt64} {
			for _, mark := range []bool{false, true} {
				key := k.holder(id, token)
				if mark {
					key = k.alive(id, token)
				}
				if gotID, gotToken, gotMark, ok := cutToken(key, k.allHolders()); gotID != id || gotToken != token || gotMark != mark || !ok {
					t.Errorf("%q is read as %q, %d, %t, %t", key, gotID, gotToken, gotMark, ok)
				}
			}
		}
	}
	if !slices.IsSorted(keys) {
		t.Errorf("the keys are not in the order of the ids: %q", keys)
	}
	for _, bad := range []string{"", "p/h/", "p/h/a", "p/h/a!", "p/h/a!12", "p/h/a!000000000000000g", "p/q/a!0000000000000001", "p/h/a!0000000000000001!!"} {
		if _, _, _, ok := cutToken(bad, k.allHolders()); ok {
			t.Errorf("%q is read as a lease", bad)
		}
	}
}

// Places are in the order of their keys as by comparePlaces.
func TestPlacesAreInTheirOrder(t *testing.T) {
	k := keyspace{"p/"}
	rng := rand.New(rand.NewPCG(1, 2))
	places := make([]*place, 200)
	for i := range places {
		p := &place{Ticket: int64(i + 1), Priority: rng.IntN(driver.MaxPriority + 1)}
		p.key = k.place("a", p.order(), p.Ticket)
		places[i] = p
	}
	rng.Shuffle(len(places), func(i, j int) { places[i], places[j] = places[j], places[i] })
	slices.SortFunc(places, comparePlaces)
	if !slices.IsSortedFunc(places, func(a, b *place) int { return strings.Compare(a.key, b.key) }) {
		t.Error("the keys have another order than the places")
	}
}

// A mark that goes with its lease tells of no expiry, one that goes alone does,
// whatever the order of the events.
func TestMarksThatGoAlone(t *testing.T) {
	k := keyspace{"p/"}
	gone := func(key string, rev int64) *clientv3.Event {
		return &clientv3.Event{Type: mvccpb.DELETE, Kv: &mvccpb.KeyValue{Key: []byte(key), ModRevision: rev}}
	}
	f := &fallen{locks: make(map[string]bool)}
	f.see(k.allHolders(), []*clientv3.Event{
		gone(k.alive("released", 1), 5), gone(k.holder("released", 1), 5),
		gone(k.holder("evicted", 1), 6), gone(k.alive("evicted", 1), 6),
		gone(k.alive("expired", 1), 7), gone(k.holder("expired", 1), 8),
		gone(k.alive("also", 2), 9), gone(k.holder("also", 1), 9),
		{Type: mvccpb.PUT, Kv: &mvccpb.KeyValue{Key: []byte(k.alive("put", 1)), ModRevision: 10}},
	})
	ids := f.take(10)
	if slices.Sort(ids); !slices.Equal(ids, []string{"also", "expired"}) {
		t.Errorf("expired are %v", ids)
	}
}

// What a record remembers is the latest, and a newer format is refused by name.
func TestRecords(t *testing.T) {
	var r record
	for i := range driver.RememberedEnds + 5 {
		before := r
		r.remember(ending{Request: string(rune('a' + i)), Cause: driver.CauseReleased})
		if len(before.Ends) > 0 && before.Ends[0].Request != "a" && len(before.Ends) < driver.RememberedEnds {
			t.Fatal("an older record changed")
		}
	}
	if len(r.Ends) != driver.RememberedEnds || r.Ends[0].Request != "f" {
		t.Errorf("remembered are %+v", r.Ends)
	}
	var again record
	r.Format, r.Last = driver.Format, math.MaxInt64
	if err := decode("k", []byte(encode(r)), &again); err != nil || again.Last != r.Last || len(again.Ends) != len(r.Ends) {
		t.Errorf("read again: %+v, %v", again, err)
	}
	for _, value := range []string{"", "{", `[]`, `{"format":2}`, `{"format":1,"last":"x"}`} {
		if err := decode("k", []byte(value), &again); err == nil {
			t.Errorf("%q was read", value)
		}
	}
}

// Versions with known bugs of leases are told, and others are not.
func TestVersionsWithKnownBugs(t *testing.T) {
	for version, bad := range map[string]bool{
		"3.4.37": true, "3.5.0": true, "3.5.22": true, "3.5.23": false, "3.5.30": false, "3.6.0": true, "3.6.4": true, "3.6.5": false,
		"3.6.0-rc.1": true, "3.7.3": false, "4.0.0": false, "odd": false,
	} {
		if got := len(warnings(version)) > 0; got != bad {
			t.Errorf("%s is told to have bugs: %t", version, got)
		}
	}
}
