package testenv

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"
	"testing"
)

// Cluster is a Redis Cluster of three primaries, with or without a replica
// each. A node that does not answer for a second is failing.
type Cluster struct {
	// Nodes are the servers, of whatever role; Kill, Pause and Restart are
	// theirs.
	Nodes []*Redis
}

// StartCluster starts a Cluster for the length of a test, with so many replicas
// of each primary, and waits until it serves every slot. Of the options,
// Edition, Args, AppendFsync and Save count.
func StartCluster(t testing.TB, replicas int, o RedisOptions) *Cluster {
	t.Helper()
	if o.TLS != nil || o.Users != "" || o.Config != "" || o.Password != "" {
		t.Fatal("testenv: a Cluster has no TLS, Users, Config or Password")
	}
	cli, err := exec.LookPath("redis-cli")
	if err != nil {
		t.Fatalf("redis-cli is needed: %v; install it by: apt-get install redis-tools", err)
	}
	o.cluster = true
	timeout := "1000"
	if replicas == 0 {
		timeout = "15000" // nobody takes over: a node that is slow is not to be taken for dead
	}
	o.Args = append([]string{"--cluster-node-timeout", timeout}, o.Args...)
	c := &Cluster{}
	for range 3 * (1 + replicas) {
		c.Nodes = append(c.Nodes, StartRedisWith(t, o))
	}
	args := append([]string{"--cluster", "create"}, c.Addrs()...)
	args = append(args, "--cluster-replicas", strconv.Itoa(replicas), "--cluster-yes")
	ctx, cancel := context.WithTimeout(t.Context(), waitTimeout)
	defer cancel()
	if out, err := exec.CommandContext(ctx, cli, args...).CombinedOutput(); err != nil {
		t.Fatalf("redis-cli %s: %v\n%s", strings.Join(args, " "), err, out)
	}
	c.WaitOK(t)
	for _, r := range c.Nodes {
		if !c.primary(t, r) {
			r.WaitLinked(t)
		}
	}
	return c
}

// Addrs are the addresses of the nodes.
func (c *Cluster) Addrs() (addrs []string) {
	for _, r := range c.Nodes {
		addrs = append(addrs, r.Addr())
	}
	return addrs
}

// URL is the backend URL, redis+cluster://n1,n2,n3, of a store that is new, with
// further parameters: see [Redis.URL].
func (c *Cluster) URL(parameters ...string) string {
	return "redis+cluster://" + strings.Join(c.Addrs(), ",") + asNew(parameters)
}

// KeySlot is the slot of a key.
func (c *Cluster) KeySlot(t testing.TB, key string) int {
	t.Helper()
	return int(c.alive(t).Must(t, "CLUSTER", "KEYSLOT", key).(int64))
}

// Owner is the primary that serves a slot, by the word of each node that is
// alive.
func (c *Cluster) Owner(t testing.TB, slot int) *Redis {
	t.Helper()
	var owner *Redis
	wait(t, fmt.Sprintf("the nodes do not agree on the owner of slot %d", slot), func(ctx context.Context) error {
		owner = nil
		for _, r := range c.Nodes {
			select {
			case <-r.ended:
				continue
			default:
			}
			named, err := c.ownerBy(ctx, r, slot)
			if err != nil {
				return err
			}
			if owner != nil && named != owner {
				return fmt.Errorf("%s and %s are named", owner.Addr(), named.Addr())
			}
			owner = named
		}
		return nil
	})
	return owner
}

// Primaries are the nodes that serve slots.
func (c *Cluster) Primaries(t testing.TB) (primaries []*Redis) {
	t.Helper()
	for _, r := range c.Nodes {
		if c.primary(t, r) {
			primaries = append(primaries, r)
		}
	}
	return primaries
}

// Migration is a slot on its way from a primary to another.
type Migration struct {
	c        *Cluster
	slot     int
	from, to *Redis
}

// MoveSlot moves a slot with its keys from a primary to another.
func (c *Cluster) MoveSlot(t testing.TB, slot int, from, to *Redis) {
	t.Helper()
	m := c.BeginMove(t, slot, from, to)
	m.Keys(t)
	m.End(t)
}

// BeginMove opens the migration of a slot. Until End, the old owner answers
// about the keys that it still has, with ASK about those that it has not and
// with TRYAGAIN to a command of several keys of which it has some.
func (c *Cluster) BeginMove(t testing.TB, slot int, from, to *Redis) *Migration {
	t.Helper()
	m := &Migration{c: c, slot: slot, from: from, to: to}
	to.Must(t, "CLUSTER", "SETSLOT", slot, "IMPORTING", m.id(t, from))
	from.Must(t, "CLUSTER", "SETSLOT", slot, "MIGRATING", m.id(t, to))
	return m
}

// Key moves one key of the slot to the new owner.
func (m *Migration) Key(t testing.TB, key string) {
	t.Helper()
	m.from.Must(t, "MIGRATE", "127.0.0.1", m.to.port, key, 0, waitTimeout.Milliseconds())
}

// Keys moves those keys of the slot that are still with the old owner.
func (m *Migration) Keys(t testing.TB) {
	t.Helper()
	for {
		keys := m.from.Must(t, "CLUSTER", "GETKEYSINSLOT", m.slot, 100).([]any)
		if len(keys) == 0 {
			return
		}
		args := []any{"MIGRATE", "127.0.0.1", m.to.port, "", 0, waitTimeout.Milliseconds(), "KEYS"}
		m.from.Must(t, append(args, keys...)...)
	}
}

// End gives the slot to the new owner and waits until every node knows.
func (m *Migration) End(t testing.TB) {
	t.Helper()
	id := m.id(t, m.to)
	m.to.Must(t, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
	for _, r := range m.c.Nodes {
		if r != m.to && m.c.primary(t, r) {
			r.Must(t, "CLUSTER", "SETSLOT", m.slot, "NODE", id)
		}
	}
	if owner := m.c.Owner(t, m.slot); owner != m.to {
		t.Fatalf("slot %d is with %s after its move to %s", m.slot, owner.Addr(), m.to.Addr())
	}
}

func (m *Migration) id(t testing.TB, r *Redis) string {
	t.Helper()
	return r.Must(t, "CLUSTER", "MYID").(string)
}

// WaitOK waits until each node that is alive says that every slot is served.
func (c *Cluster) WaitOK(t testing.TB) {
	t.Helper()
	for _, r := range c.Nodes {
		wait(t, r.Addr()+" does not see every slot served", func(ctx context.Context) error {
			select {
			case <-r.ended:
				return nil
			default:
			}
			client := r.Client()
			defer func() { _ = client.Close() }()
			text, err := client.ClusterInfo(ctx).Result()
			i := fields(text)
			if err == nil && (i["cluster_state"] != "ok" || i["cluster_slots_ok"] != "16384" || i["cluster_known_nodes"] != strconv.Itoa(len(c.Nodes))) {
				err = errors.New(text)
			}
			return err
		})
	}
}

// WaitForFailover waits until another node than the given one serves the slot.
func (c *Cluster) WaitForFailover(t testing.TB, slot int, from *Redis) *Redis {
	t.Helper()
	var owner *Redis
	for _, r := range c.Nodes {
		if r == from {
			continue
		}
		wait(t, fmt.Sprintf("%s sees no failover of slot %d", r.Addr(), slot), func(ctx context.Context) (err error) {
			if owner, err = c.ownerBy(ctx, r, slot); err == nil && owner == from {
				err = errors.New("the owner is the same")
			}
			return err
		})
	}
	return owner
}

// ownerBy is the owner of a slot by one node's word.
func (c *Cluster) ownerBy(ctx context.Context, r *Redis, slot int) (*Redis, error) {
	client := r.Client()
	defer func() { _ = client.Close() }()
	ranges, err := client.Do(ctx, "CLUSTER", "SLOTS").Slice()
	if err != nil {
		return nil, err
	}
	for _, reply := range ranges { // first slot, last slot, the primary's address, ...
		row, ok := reply.([]any)
		if !ok || len(row) < 3 || row[0].(int64) > int64(slot) || int64(slot) > row[1].(int64) {
			continue
		}
		primary := row[2].([]any) // host, port, ...
		for _, n := range c.Nodes {
			if int64(n.port) == primary[1].(int64) {
				return n, nil
			}
		}
		return nil, fmt.Errorf("%s names %v, which is none of the nodes", r.Addr(), primary)
	}
	return nil, fmt.Errorf("%s knows no owner of slot %d", r.Addr(), slot)
}

// primary tells whether the node is a primary; a dead one is none.
func (c *Cluster) primary(t testing.TB, r *Redis) bool {
	t.Helper()
	select {
	case <-r.ended:
		return false
	default:
	}
	i, err := r.Info(t.Context(), "replication")
	if err != nil {
		t.Fatal(err)
	}
	return i["role"] == "master"
}

// alive is a node that has not ended.
func (c *Cluster) alive(t testing.TB) *Redis {
	t.Helper()
	for _, r := range c.Nodes {
		select {
		case <-r.ended:
		default:
			return r
		}
	}
	t.Fatal("no node of the Cluster is alive")
	return nil
}
