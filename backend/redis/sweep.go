package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// electedFor is how long one driver sweeps for all without saying again
	// that it does.
	electedFor = 2 * time.Second
	// sweepShards is how many shards a call of Sweep looks at: with four calls
	// a second, each is looked at once a second.
	sweepShards = shards / 4
	// sweepPerShard and sweepMost bound what one call does. What a shard has
	// beyond it waits for the next round, and the next call begins where one
	// that had enough stopped.
	sweepPerShard = 64
	sweepMost     = 1024
	// tellAgain is how long an end may wait to be told before it is reported
	// again. The first time stands in record.lua.
	tellAgain = 5 * time.Second
)

// endMark starts the members of an index that are ends and no lock ids.
const endMark = recordSeparator

func isEnd(member string) bool { return strings.HasPrefix(member, endMark) }

// endMember is an end as record.lua keeps it.
func endMember(e driver.Ended) string {
	return endMark + strings.Join([]string{strconv.FormatInt(e.Token, 10), flag(e.Shared), causes[e.Cause], e.OwnerID, e.LockID}, fieldSeparator)
}

func parseEnd(member string) (e driver.Ended, ok bool) {
	f := strings.Split(strings.TrimPrefix(member, endMark), fieldSeparator)
	if len(f) != 5 {
		return e, false
	}
	e = driver.Ended{Token: integer(f[0]), Shared: f[1] == "1", OwnerID: f[3], LockID: f[4]}
	for cause, letter := range causes {
		if letter == f[2] {
			e.Cause = cause
		}
	}
	return e, e.Cause != ""
}

// sweeping is where the driver stands with its sweeps, which come one at a time.
type sweeping struct {
	mu sync.Mutex
	// next is the shard to begin with, notBefore when to ask again who sweeps.
	next      int
	notBefore driver.Instant
}

// Sweep looks at the locks that are due in a quarter of the shards, if this
// driver is the one that does it for all; the others ask, every two seconds,
// whether it still is.
func (s *Store) Sweep(ctx context.Context) ([]driver.Ended, error) {
	if err := s.check(ctx); err != nil {
		return nil, err
	}
	if err := s.initialised(ctx); err != nil {
		return nil, err
	}
	w := &s.sweeping
	w.mu.Lock()
	defer w.mu.Unlock()
	if s.o.Clock.Now() < w.notBefore {
		return nil, nil
	}
	now, err := s.elect(ctx)
	if err != nil || now == 0 {
		return nil, err
	}
	s.stampAll(ctx)
	due, next, err := s.due(ctx, w.next, now)
	if err != nil {
		return nil, err
	}
	w.next = next
	return s.look(ctx, due), nil
}

// elect returns the server's time if this driver sweeps, else 0.
func (s *Store) elect(ctx context.Context) (now int64, err error) {
	sweeper := s.o.Prefix + ":sweeper"
	c := &call{ctx: ctx, script: electScript, args: []any{"evalsha", electScript.sha, 1, sweeper, s.inbox, electedFor.Milliseconds()}, urgent: true}
	if s.slots != nil {
		c.slot = slotOf(sweeper)
	}
	c.done = func(_ *call, reply []any, failed error) {
		r := fields(reply)
		switch {
		case failed != nil:
			err = failed
		case r.text(0) == "elected":
			now = r.integer(1)
		default:
			// Not all at once, when that one is gone.
			rest := time.Duration(r.integer(1))*time.Millisecond + rand.N(electedFor/8)
			s.sweeping.notBefore = s.o.Clock.Now().Add(rest)
		}
	}
	s.run(ctx, []*call{c}, 1)
	return now, err
}

// due reads what is to be looked at in the next shards, from the given one on,
// and where the next call begins.
func (s *Store) due(ctx context.Context, from int, now int64) (members []string, next int, err error) {
	to := min(from+sweepShards, shards)
	found, failed := make([][]string, to-from), make([]error, to-from)
	calls := make([]*call, 0, to-from)
	for shard := from; shard < to; shard++ {
		c, i := s.index(ctx, shard, "zrangebyscore", "-inf", now, "limit", 0, sweepPerShard), shard-from
		c.done = func(_ *call, reply []any, err error) { found[i], failed[i] = texts(reply), err }
		calls = append(calls, c)
	}
	if err := s.read(ctx, calls); err != nil {
		return nil, from, err
	}
	answered := false
	for i := range calls {
		if failed[i] != nil {
			err = failed[i]
			continue
		}
		answered = true
		if members = append(members, found[i]...); len(members) >= sweepMost {
			return members, (from + i + 1) % shards, nil
		}
	}
	if answered { // a server that is down does not keep the ends on others
		err = nil
	}
	return members, to % shards, err
}

// look runs a script for each member and returns what ended. A script whose
// answer is lost loses nothing: the end is reported again.
func (s *Store) look(ctx context.Context, due []string) (found []driver.Ended) {
	var mu sync.Mutex // several servers answer at once
	batch := make([]*call, 0, maxBatch)
	for len(due) > 0 {
		n := min(len(due), maxBatch)
		batch = batch[:0]
		for _, member := range due[:n] {
			if isEnd(member) {
				if e, ok := parseEnd(member); ok {
					batch = append(batch, s.again(ctx, e, member, func() { mu.Lock(); defer mu.Unlock(); found = append(found, e) }))
				}
				continue
			}
			c := s.urgent(sweepScript, member)
			c.ctx, c.done = ctx, func(_ *call, reply []any, err error) {
				if err == nil {
					evicted, err := s.swept(member, reply)
					if err != nil {
						s.o.Logger.Warn("a member of the index could not be swept", driver.LogLock, member, driver.LogError, err)
					}
					mu.Lock()
					found = append(found, evicted...)
					mu.Unlock()
				}
			}
			batch = append(batch, c)
		}
		s.run(ctx, batch, maxBatch)
		due = due[n:]
	}
	return found
}

func (s *Store) swept(lockID string, reply []any) ([]driver.Ended, error) {
	r := fields(reply)
	if r.text(0) != "swept" {
		return nil, s.refusal(r, 0)
	}
	return ended(lockID, r.text(1))
}

// again is the call that takes an end to report it again.
func (s *Store) again(ctx context.Context, e driver.Ended, member string, taken func()) *call {
	c := s.urgent(againScript, e.LockID, member, tellAgain.Microseconds())
	c.ctx, c.done = ctx, func(_ *call, reply []any, err error) {
		if err == nil && fields(reply).text(0) == "again" {
			taken()
		}
	}
	return c
}

// Told forgets ends.
func (s *Store) Told(ctx context.Context, ends []driver.Ended) error {
	if err := s.check(ctx); err != nil || len(ends) == 0 {
		return err
	}
	failed := make([]error, len(ends))
	calls := make([]*call, len(ends))
	for i, e := range ends {
		calls[i] = s.index(ctx, shardOf(e.LockID), "zrem", endMember(e))
		calls[i].done = func(_ *call, _ []any, err error) { failed[i] = err }
	}
	err := s.read(ctx, calls)
	for i := 0; err == nil && i < len(failed); i++ {
		err = failed[i]
	}
	if err != nil {
		return fmt.Errorf("ends that were told: %w", err)
	}
	return nil
}
