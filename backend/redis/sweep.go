package redis

import (
	"context"
	"fmt"
	"math/rand/v2"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

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
	due, next, err := s.due(ctx, w.next, now)
	if err != nil {
		return nil, err
	}
	w.next = next
	return s.look(ctx, due), nil
}

// elect returns the server's time if this driver sweeps, else 0.
func (s *Store) elect(ctx context.Context) (now int64, err error) {
	s.exec(ctx, []*call{{ctx: ctx, script: electScript,
		args: []any{"evalsha", electScript.sha, 1, s.o.Prefix + ":sweeper", s.inbox, electedFor.Milliseconds()},
		done: func(_ *call, reply []any, failed error) {
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
		}}})
	return now, err
}

// due reads what is to be looked at in the next shards, from the given one on,
// and where the next call begins.
func (s *Store) due(ctx context.Context, from int, now int64) (members []string, next int, err error) {
	to := min(from+sweepShards, shards)
	pipe := s.client.Pipeline()
	cmds := make([]*redis.StringSliceCmd, 0, to-from)
	before := &redis.ZRangeBy{Min: "-inf", Max: strconv.FormatInt(now, 10), Count: sweepPerShard}
	for shard := from; shard < to; shard++ {
		cmds = append(cmds, pipe.ZRangeByScore(ctx, s.shardPrefix(shard)+"i", before))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return nil, from, s.outcome(err)
	}
	for i, cmd := range cmds {
		if members = append(members, cmd.Val()...); len(members) >= sweepMost {
			return members, (from + i + 1) % shards, nil
		}
	}
	return members, to % shards, nil
}

// look runs a script for each member and returns what ended. A script whose
// answer is lost loses nothing: the end is reported again.
func (s *Store) look(ctx context.Context, due []string) (found []driver.Ended) {
	batch := make([]*call, 0, maxBatch)
	for len(due) > 0 {
		n := min(len(due), maxBatch)
		batch = batch[:0]
		for _, member := range due[:n] {
			if isEnd(member) {
				if e, ok := parseEnd(member); ok {
					batch = append(batch, s.again(ctx, e, member, &found))
				}
				continue
			}
			batch = append(batch, &call{ctx: ctx, script: sweepScript, args: s.args(sweepScript, member, nil), done: func(_ *call, reply []any, err error) {
				if err == nil {
					evicted, err := s.swept(member, reply)
					if err != nil {
						s.o.Logger.Warn("a member of the index could not be swept", driver.LogLock, member, driver.LogError, err)
					}
					found = append(found, evicted...)
				}
			}})
		}
		s.exec(ctx, batch)
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
func (s *Store) again(ctx context.Context, e driver.Ended, member string, found *[]driver.Ended) *call {
	return &call{
		ctx: ctx, script: againScript, args: s.args(againScript, e.LockID, []any{member, tellAgain.Microseconds()}),
		done: func(_ *call, reply []any, err error) {
			if err == nil && fields(reply).text(0) == "again" {
				*found = append(*found, e)
			}
		},
	}
}

// Told forgets ends.
func (s *Store) Told(ctx context.Context, ends []driver.Ended) error {
	if err := s.check(ctx); err != nil || len(ends) == 0 {
		return err
	}
	pipe := s.client.Pipeline()
	for _, e := range ends {
		pipe.ZRem(ctx, s.shardPrefix(shardOf(e.LockID))+"i", endMember(e))
	}
	if _, err := pipe.Exec(ctx); err != nil {
		return fmt.Errorf("ends that were told: %w", s.outcome(err))
	}
	return nil
}
