package redis

import (
	"context"
	"fmt"
	"strconv"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A shard's stamp says of which server's data the shard is a part, and from when
// on leases may be granted: the server's replication id, the store's longest TTL
// and an instant of the server's clock, both in µs, with blanks between them. A
// server has another replication id after every restart and promotion, and with
// its first replica: whatever was lost, the stamp is then missing or another's.
// Whoever meets such a stamp grants nothing and stamps the shard anew, to open
// when the longest lease that may have been lost has ended.

// margin is how much longer than the longest lease a quarantine lasts: for as
// long a server that is none any more may still have granted.
const margin = 2 * time.Second

// Why a store is in quarantine.
const (
	reasonNew = "it has no stamp: it is new or was emptied. Leases of before may stand. " +
		"If it is new, run: locksidecar store init --backend URL, before its first sidecar"
	reasonOther = "its server was restarted, replaced or got its first replica, and may have lost leases which stand. " +
		"It opens by itself"
	reasonPending = "it was new, emptied, restarted or replaced, and leases of before may stand. It opens by itself; " +
		"a new store needs no quarantine after: locksidecar store init --backend URL, before its first sidecar"
)

// start is how a stamp starts that is right on a server.
func (s *Store) start(replID string) string {
	return replID + " " + strconv.FormatInt(s.o.MaxTTL.Microseconds(), 10) + " "
}

// stampedTTL is the longest TTL that a stamp tells of.
func stampedTTL(stamp string) (longest time.Duration, ok bool) {
	f := strings.Split(stamp, " ")
	if len(f) != 3 {
		return 0, false
	}
	us, err := strconv.ParseInt(f[1], 10, 64)
	return time.Duration(us) * time.Microsecond, err == nil
}

// otherTTL says that the store has another longest TTL.
func (s *Store) otherTTL(stamp string) error {
	if longest, ok := stampedTTL(stamp); ok && longest != s.o.MaxTTL {
		return fmt.Errorf("%w: %w", driver.ErrInvalid, refusedError(fmt.Sprintf(
			"max_ttl is %v here and %v in the store, of which it is a constant: give the store's, or use another prefix", s.o.MaxTTL, longest)))
	}
	return nil
}

// seal is what is known of the quarantine.
type seal struct {
	mu     sync.Mutex
	reason string
	until  driver.Instant
	// told: the operator knows.
	told bool
	// stamping are the shards that are being stamped for acquires.
	stamping map[int]bool
	ended    bool
	pending  sync.WaitGroup
}

// end waits for the stamps on their way, which the client's timeouts bound: a
// command line that acquires once and leaves must begin the quarantine, too.
func (q *seal) end() {
	q.mu.Lock()
	q.ended = true
	q.mu.Unlock()
	q.pending.Wait()
}

// quarantined is the error of a call that a script refused by the shard's stamp,
// which it returned with the server's time. A stamp that is missing or another's
// is replaced in the background.
func (s *Store) quarantined(c *call, lockID, stamp string, now int64) error {
	if err := s.otherTTL(stamp); err != nil {
		return err
	}
	reason, remaining := reasonPending, s.o.MaxTTL+margin
	opens, ok := strings.CutPrefix(stamp, c.start)
	switch {
	case ok && c.start != "":
		remaining = max(time.Duration(integer(opens)-now)*time.Microsecond, 0)
	case stamp == "":
		reason = reasonNew
		s.stampSoon(shardOf(lockID))
	default:
		reason = reasonOther
		s.stampSoon(shardOf(lockID))
	}
	s.sealed(reason, remaining)
	return &driver.QuarantineError{Reason: reason, Remaining: remaining}
}

// sealed notes the quarantine, and tells the operator once.
func (s *Store) sealed(reason string, remaining time.Duration) {
	now := s.o.Clock.Now()
	s.seal.mu.Lock()
	defer s.seal.mu.Unlock()
	if s.seal.until <= now || s.seal.reason == "" || reason != reasonPending {
		s.seal.reason = reason
	}
	s.seal.until = max(s.seal.until, now.Add(remaining))
	if !s.seal.told {
		s.seal.told = true
		s.o.Logger.Warn("the store is in quarantine, no new lease is granted: "+reason,
			driver.LogBackend, "redis", driver.LogPause, remaining.Round(time.Millisecond).String())
	}
}

// unsealed tells the operator that a quarantine is over.
func (s *Store) unsealed() {
	s.seal.mu.Lock()
	defer s.seal.mu.Unlock()
	if s.seal.told && s.seal.until < s.o.Clock.Now() {
		s.seal.told = false
		s.o.Logger.Info("the quarantine is over", driver.LogBackend, "redis")
	}
}

// Quarantine tells why and for how long acquires are refused, as far as this
// driver has met it.
func (s *Store) Quarantine() (reason string, remaining time.Duration) {
	s.seal.mu.Lock()
	defer s.seal.mu.Unlock()
	if remaining = s.seal.until.Sub(s.o.Clock.Now()); remaining <= 0 {
		return "", 0
	}
	return s.seal.reason, remaining
}

// stamp is the call that stamps a shard; done gets whether it did.
func (s *Store) stamp(ctx context.Context, shard int, pause time.Duration, onlyNew bool, done func(stamped bool, stamp string, now int64, err error)) *call {
	c := &call{
		ctx: ctx, script: stampScript, slot: s.slot(shard), urgent: true, gated: true,
	}
	c.args = []any{
		"evalsha", stampScript.sha, 1, s.shardPrefix(shard) + "z", &c.start,
		pause.Microseconds(), flag(onlyNew), s.o.MaxTTL.Microseconds(),
	}
	if s.o.WaitReplicas > 0 { // it may stand first in a pipeline with others
		c.key = s.shardPrefix(shard) + "replicated"
	}
	c.done = func(_ *call, reply []any, err error) {
		r := fields(reply)
		done(r.text(0) == "new", r.text(1), r.integer(2), err)
	}
	return c
}

// stampSoon stamps a shard in the background.
func (s *Store) stampSoon(shard int) {
	s.seal.mu.Lock()
	defer s.seal.mu.Unlock()
	if s.seal.stamping[shard] || s.seal.ended {
		return
	}
	if s.seal.stamping == nil {
		s.seal.stamping = make(map[int]bool)
	}
	s.seal.stamping[shard] = true
	s.seal.pending.Add(1)
	c := s.stamp(s.stopped, shard, s.o.MaxTTL+margin, false, func(_ bool, _ string, _ int64, err error) {
		defer s.seal.pending.Done()
		s.seal.mu.Lock()
		delete(s.seal.stamping, shard)
		s.seal.mu.Unlock()
		if err != nil { // the next acquire tries again
			s.o.Logger.Warn("a shard could not be stamped", driver.LogBackend, "redis", driver.LogError, err)
		}
	})
	go s.submit(c, false) // it may complete the call at once
}

// stampAll stamps, on behalf of all sidecars, the shards of each server that is
// not the one of before, so that a lock which is seldom used does not wait for
// its own quarantine long after. It asks each server once whether it is.
func (s *Store) stampAll(ctx context.Context) {
	s.unsealed()
	for _, n := range s.topology.all() {
		first := n.nextShard(0)
		if first == shards || s.restamp(ctx, first) != nil {
			continue
		}
		replID := n.links.lastReplID()
		if n.stamped == replID {
			continue
		}
		var rest []int
		for shard := n.nextShard(first + 1); shard < shards; shard = n.nextShard(shard + 1) {
			rest = append(rest, shard)
		}
		if s.restamp(ctx, rest...) == nil {
			n.stamped = replID
		}
	}
}

// restamp stamps the shards that are not stamped as they must be.
func (s *Store) restamp(ctx context.Context, list ...int) error {
	for len(list) > 0 {
		part := list[:min(len(list), maxBatch)]
		list = list[len(part):]
		batch, failed := make([]*call, len(part)), make([]error, len(part))
		for i, shard := range part {
			batch[i] = s.stamp(ctx, shard, s.o.MaxTTL+margin, false, func(_ bool, stamp string, _ int64, err error) {
				if failed[i] = err; err == nil {
					failed[i] = s.otherTTL(stamp)
				}
			})
		}
		s.run(ctx, batch, maxBatch)
		if err := firstOf(failed); err != nil {
			return err
		}
	}
	return nil
}

// nextShard is the first shard, from the given one on, that the node has; shards
// if there is none.
func (n *node) nextShard(from int) int {
	for shard := from; shard < shards; shard++ {
		if n.s.topology.route(n.s.slot(shard)) == n {
			return shard
		}
	}
	return shards
}

// agrees says whether the store's longest TTL is the driver's, of a server that
// has just been met. What the server does not answer the calls will meet.
func (n *node) agrees(ctx context.Context, cn *redis.Conn) error {
	shard := n.nextShard(0)
	if shard == shards {
		return nil
	}
	stamp, err := cn.Get(ctx, n.s.shardPrefix(shard)+"z").Result()
	if err != nil {
		return nil //nolint:nilerr // there is none, or it is not to be had
	}
	return n.s.otherTTL(stamp)
}
