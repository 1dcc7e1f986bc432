package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"hash/fnv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9/logging"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Store)(nil)
	_ driver.BatchRenewer = (*Store)(nil)
	_ driver.Async        = (*Store)(nil)
	_ driver.Sweeper      = (*Store)(nil)
	_ driver.Describer    = (*Store)(nil)
	_ driver.Quarantiner  = (*Store)(nil)
	_ driver.Initializer  = (*Store)(nil)
	_ driver.Measurer     = (*Store)(nil)
)

// shards is part of the format: 4096, three hexadecimal digits.
const shards = 4096

// Store is the driver.
type Store struct {
	o        Options
	topology *topology
	// sentinels is nil without them.
	sentinels *sentinels
	// slots are those of the shards, nil without a Cluster.
	slots []uint16
	inbox string
	// common are the arguments that all locks have in scripts of many: retention
	// and poll in µs, inbox, and the places that a priority is worth.
	common    [4]string
	closed    atomic.Bool
	sweeping  sweeping
	abandoned abandoned
	seal      seal
	fresh     fresh
	silence   time.Duration
	// stopped ends when the driver is closed.
	stopped context.Context
	stop    context.CancelFunc
}

// New returns a driver. It does not connect: a server that is down makes calls
// fail with driver.ErrUnavailable until it is up.
func New(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	// What the SDK would print of a connection is in the calls' errors.
	quiet.Do(logging.Disable)
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	s := &Store{o: o, inbox: o.Prefix + ":inbox:" + hex.EncodeToString(id[:]), silence: silence}
	s.common = [...]string{
		decimal(o.Retention.Microseconds()), s.inbox, decimal(o.Poll.Microseconds()), decimal(driver.PriorityStep),
	}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.topology = newTopology(s)
	switch {
	case o.Sentinel != nil:
		s.sentinels = s.newSentinels(o.Sentinel)
		s.topology.learn = func(ctx context.Context) (layout, error) { return s.sentinels.layout(ctx, o.Clock) }
		s.topology.start(sentinelEvery)
	case len(o.Cluster) > 0:
		s.slots = make([]uint16, shards)
		for shard := range s.slots {
			s.slots[shard] = slotOf(s.shardPrefix(shard))
		}
		s.topology.learn = s.clusterLayout
		s.topology.start(clusterEvery)
	default:
		s.topology.apply(layout{o.Client.Addr})
	}
	return s, nil
}

var quiet sync.Once

// check says whether a call may start.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return driver.ErrClosed
	}
	return ctx.Err()
}

func shardOf(lockID string) int {
	h := fnv.New32a()
	_, _ = h.Write([]byte(lockID)) // it never fails
	return int(h.Sum32() % shards)
}

func (s *Store) shardPrefix(shard int) string {
	const hexDigits = "0123456789abcdef"
	return s.o.Prefix + ":{" + string([]byte{hexDigits[shard>>8], hexDigits[shard>>4&15], hexDigits[shard&15]}) + "}:"
}

// call is a script on a lock.
func (s *Store) call(sc *script, lockID string, argv ...any) *call {
	shard := shardOf(lockID)
	p := s.shardPrefix(shard)
	all := make([]any, 0, 13+len(argv))
	all = append(all, "evalsha", sc.sha, 5, p+"l:"+lockID, p+"q:"+lockID, p+"w:"+lockID, p+"d:"+lockID, p+"i")
	if sc.grants {
		all[2] = 6
		all = append(all, p+"z")
	}
	all = append(append(all, lockID, s.o.Retention.Microseconds(), s.inbox), argv...)
	c := &call{script: sc, slot: s.slot(shard), grants: sc.grants, gated: sc.grants}
	if c.gated {
		all = append(all, &c.start)
	}
	c.args = all
	if s.o.WaitReplicas > 0 {
		c.key = p + "replicated"
	}
	return c
}

// one is a lock in a script of many.
func (s *Store) one(sc *script, lockID string, own ...string) *call {
	shard := shardOf(lockID)
	p := s.shardPrefix(shard)
	c := &call{script: sc, slot: s.slot(shard), grants: sc.grants, gated: sc.grants, own: own}
	// One text for all keys costs less than one for each.
	all := p + "l:" + lockID + p + "q:" + lockID + p + "w:" + lockID + p + "d:" + lockID + p + "i" + p + "z"
	cut := func(length int) (key string) {
		key, all = all[:length], all[length:]
		return key
	}
	long, short := len(p)+2+len(lockID), len(p)+1
	c.keys = []string{cut(long), cut(long), cut(long), cut(long), cut(short), cut(short)}
	if !sc.grants {
		c.keys = c.keys[:5] // the stamp is of no interest
	}
	if s.o.WaitReplicas > 0 {
		c.key = p + "replicated"
	}
	return c
}

// urgent is a script on a lock that does not stand behind acquires.
func (s *Store) urgent(sc *script, lockID string, argv ...any) *call {
	c := s.call(sc, lockID, argv...)
	c.urgent = true
	return c
}

// index is a plain command on a shard's index, on the urgent lane if on any.
func (s *Store) index(ctx context.Context, shard int, command string, argv ...any) *call {
	args := append([]any{command, s.shardPrefix(shard) + "i"}, argv...)
	return &call{ctx: ctx, args: args, slot: s.slot(shard), urgent: true}
}

func (s *Store) slot(shard int) uint16 {
	if s.slots == nil {
		return 0
	}
	return s.slots[shard]
}

// Ping asks every server for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	s.meet()
	if len(s.topology.all()) == 0 {
		if err := s.topology.refresh(ctx); err != nil {
			return s.outcome(unsentError{err})
		}
	}
	all := s.topology.all()
	answers := make(chan error, len(all))
	for _, n := range all {
		go func() { answers <- n.client.Ping(ctx).Err() }() // the client's timeouts bound it
	}
	for range all {
		if err := <-answers; err != nil {
			if s.topology.learn != nil {
				s.topology.kick()
			}
			return s.outcome(err)
		}
	}
	return nil
}

// Capabilities describes servers that keep their data.
func (s *Store) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "redis", MinTTL: s.o.MinTTL, MaxTTL: s.o.MaxTTL, Lateness: 100 * time.Millisecond, Poll: s.o.Poll, Shared: true,
		Watch: true, ExpiryAtOnce: true, ExpiryEvents: true, EditQueue: true, Clock: driver.ClockStore, Durability: driver.DurabilityAsync, Retention: s.o.Retention,
	}
}

// Close closes the connections and ends Watch. Calls in flight fail with
// driver.ErrClosed or their outcome.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.seal.end()
	s.stop()
	err := s.topology.close()
	s.fresh.end()
	if s.sentinels != nil {
		err = errors.Join(err, s.sentinels.close())
	}
	return err
}
