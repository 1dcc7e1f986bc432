package testenv

import (
	"fmt"
	"slices"
	"testing"

	"github.com/redis/go-redis/v9"
)

func TestClusterMovesASlot(t *testing.T) {
	EachEdition(t, func(t *testing.T, e Edition) {
		t.Parallel()
		c := StartCluster(t, 0, RedisOptions{Edition: e})
		const first, second = "{lock}:1", "{lock}:2"
		slot := c.KeySlot(t, first)
		from := c.Owner(t, slot)
		k := slices.Index(c.Nodes, from)
		to := c.Nodes[(k+1)%3]
		from.Must(t, "MSET", first, "a", second, "b")

		m := c.BeginMove(t, slot, from, to)
		m.Key(t, first)
		client := from.Client()
		defer func() { _ = client.Close() }()
		expect(t, "a key that is there", get(t, from, second), "b")
		if err := client.Get(t.Context(), first).Err(); !redis.HasErrorPrefix(err, "ASK") {
			t.Errorf("a key that has gone: %v, want ASK", err)
		}
		if err := client.MGet(t.Context(), first, second).Err(); !redis.HasErrorPrefix(err, "TRYAGAIN") {
			t.Errorf("keys on both sides: %v, want TRYAGAIN", err)
		}
		m.Keys(t)
		m.End(t)
		if err := client.Get(t.Context(), first).Err(); !redis.HasErrorPrefix(err, "MOVED") {
			t.Errorf("after the move: %v, want MOVED", err)
		}
		expect(t, "the key at its new owner", get(t, to, first), "a")

		for i := range 250 {
			to.Must(t, "SET", fmt.Sprintf("{lock}:%d", i), "c")
		}
		c.MoveSlot(t, slot, to, from)
		expect(t, "the key back at its owner", get(t, from, "{lock}:249"), "c")
		c.WaitOK(t)
	})
}

func TestClusterFailover(t *testing.T) {
	t.Parallel()
	c := StartCluster(t, 1, RedisOptions{})
	if p := c.Primaries(t); len(p) != 3 || len(c.Addrs()) != 6 {
		t.Fatalf("%d primaries of %v", len(p), c.Addrs())
	}
	slot := c.KeySlot(t, "k")
	old := c.Owner(t, slot)
	old.Must(t, "SET", "k", "v")
	old.WaitReplicated(t, 1)
	old.Kill()
	owner := c.WaitForFailover(t, slot, old)
	c.WaitOK(t)
	expect(t, "what was replicated", get(t, owner, "k"), "v")
	if err := old.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	old.WaitLinked(t)
	expect(t, "the slot's owner", c.Owner(t, slot).Addr(), owner.Addr())
}
