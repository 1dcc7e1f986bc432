package etcd

import (
	"fmt"
	"hash/fnv"
	"strconv"
	"strings"
)

// end is behind a lock id in a key. No lock id has it, and it sorts before every
// character of one, so that keys are in the order of their ids.
const end = "!"

// afterEnd is the byte after it, where the keys of a lock end.
const afterEnd = "\""

// shards is part of the format: the floors of tokens.
const shards = 256

// subtrees are the parts below a prefix that end with data.
var subtrees = []string{"f", "h", "n", "q", "r", "u"}

// keyspace makes the keys.
type keyspace struct{ prefix string }

func (k keyspace) record(id string) string  { return k.prefix + "r/" + id }
func (k keyspace) records() string          { return k.prefix + "r/" }
func (k keyspace) allHolders() string       { return k.prefix + "h/" }
func (k keyspace) allPlaces() string        { return k.prefix + "q/" }
func (k keyspace) untolds() string          { return k.prefix + "u/" }
func (k keyspace) floor(id string) string   { return fmt.Sprintf("%sf/%02x", k.prefix, shardOf(id)) }
func (k keyspace) sweeper() string          { return k.prefix + "sweeper" }
func (k keyspace) stamp() string            { return k.prefix + "stamp" }
func (k keyspace) pause() string            { return k.prefix + "pause" }
func (k keyspace) inbox(name string) string { return k.prefix + "n/" + name + "/" }

func (k keyspace) holders(id string) (from, to string) {
	return k.allHolders() + id + end, k.allHolders() + id + afterEnd
}

func (k keyspace) places(id string) (from, to string) {
	return k.allPlaces() + id + end, k.allPlaces() + id + afterEnd
}

// holder is the key of a lease, which stays until somebody has seen how it ended.
func (k keyspace) holder(id string, token int64) string {
	return fmt.Sprintf("%s%s%s%016x", k.allHolders(), id, end, token)
}

// alive is the key on the etcd lease: while it is there, the lease stands.
func (k keyspace) alive(id string, token int64) string { return k.holder(id, token) + end }

// place is the key of a waiter: its order, which may be negative, then its ticket.
func (k keyspace) place(id string, order, ticket int64) string {
	return fmt.Sprintf("%s%s%s%016x%016x", k.allPlaces(), id, end, uint64(order)+1<<63, ticket) //nolint:gosec // wraps around on purpose: the order of the bytes is the numbers'
}

func (k keyspace) untold(id string, token int64) string {
	return fmt.Sprintf("%s%s%s%016x", k.untolds(), id, end, token)
}

func (k keyspace) note(inbox, id string, token int64) string {
	return fmt.Sprintf("%s%s%s%016x", k.inbox(inbox), id, end, token)
}

// cut takes apart what follows a subtree's prefix: a lock id, then the rest.
func cut(key, prefix string) (id, rest string, ok bool) {
	key, ok = strings.CutPrefix(key, prefix)
	if !ok {
		return "", "", false
	}
	return strings.Cut(key, end)
}

// cutToken takes a lock id and a token out of a key; alive says that it is that of
// the mark on the etcd lease.
func cutToken(key, prefix string) (id string, token int64, alive, ok bool) {
	id, rest, ok := cut(key, prefix)
	if !ok {
		return "", 0, false, false
	}
	rest, alive = strings.CutSuffix(rest, end)
	token, err := strconv.ParseInt(rest, 16, 64)
	return id, token, alive, err == nil && len(rest) == 16
}

func shardOf(lockID string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(lockID)) // it never fails
	return int(h.Sum32() % shards)
}

// rangeEnd is the key behind every key with the prefix.
func rangeEnd(prefix string) string {
	b := []byte(prefix)
	b[len(b)-1]++ // a slash or another character of an id: never the last one
	return string(b)
}
