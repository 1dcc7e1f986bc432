package redis

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"hash/fnv"
	"log/slog"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/logging"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Store)(nil)
	_ driver.BatchRenewer = (*Store)(nil)
	_ driver.Async        = (*Store)(nil)
	_ driver.Sweeper      = (*Store)(nil)
)

const (
	defaultPrefix    = "locksidecar"
	defaultTimeout   = 2 * time.Second
	defaultPoll      = 2 * time.Second
	defaultMinTTL    = time.Second
	defaultRetention = 24 * time.Hour
	maxTTL           = 60 * time.Second
	// maxPoll keeps places, which outlive a few polls, well within the time for
	// which the scripts keep a queue that nobody looks at.
	maxPoll = 5 * time.Minute
	// shards is part of the format: 4096, three hexadecimal digits.
	shards = 4096
	// poolSize bounds the connections: two lanes of two pipelines, the watch,
	// and room for reads.
	poolSize = 10
)

// Options configure a Store. The zero value talks to 127.0.0.1:6379.
type Options struct {
	// Client are the connection's options. Retries are switched off, and
	// the timeouts are Timeout, whatever they say.
	Client redis.Options
	// Prefix starts every key and channel; empty means "locksidecar". It has
	// no braces, which would choose the slot.
	Prefix string
	// Timeout bounds a call; 0 means 2 s.
	Timeout time.Duration
	// Poll bounds a waiter's sleep; 0 means 2 s, 5 minutes are the most.
	Poll time.Duration
	// MinTTL is the smallest TTL; 0 means 1 s.
	MinTTL time.Duration
	// Retention is how long the token of a free lock is kept; 0 means 24 h.
	Retention time.Duration
	// Clock counts from when leases are valid; nil means driver.BootClock.
	Clock driver.Clock
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Store is the driver.
type Store struct {
	o      Options
	client *redis.Client
	inbox  string
	closed atomic.Bool
	// hot carries acquires, releases and leaves, urgent renewals and the
	// rest: a renewal never stands behind an acquire.
	hot, urgent lane
	sweeping    sweeping
	abandoned   abandoned
	silence     time.Duration
	// stopped ends when the driver is closed.
	stopped context.Context
	stop    context.CancelFunc
}

// New returns a driver. It does not connect: a server that is down makes calls
// fail with driver.ErrUnavailable until it is up.
func New(o Options) (*Store, error) {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.ContainsAny(o.Prefix, "{}") || strings.ContainsFunc(o.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return nil, fmt.Errorf("redis: Options.Prefix is %q: %w: want printable ASCII without spaces and braces", o.Prefix, driver.ErrInvalid)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &o.Timeout, defaultTimeout}, {"Poll", &o.Poll, defaultPoll},
		{"MinTTL", &o.MinTTL, defaultMinTTL}, {"Retention", &o.Retention, defaultRetention},
	} {
		if *d.value < 0 {
			return nil, fmt.Errorf("redis: Options.%s is %v: %w: it must not be negative", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if o.MinTTL > maxTTL {
		return nil, fmt.Errorf("redis: Options.MinTTL is %v: %w: it must not exceed %v", o.MinTTL, driver.ErrInvalid, maxTTL)
	}
	if o.Poll > maxPoll {
		return nil, fmt.Errorf("redis: Options.Poll is %v: %w: it must not exceed %v", o.Poll, driver.ErrInvalid, maxPoll)
	}
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	o.Logger = driver.Logger(o.Logger)
	o.Client.MaxRetries = -1 // only the breaker retries: a repeated write would meet itself
	o.Client.DialTimeout, o.Client.ReadTimeout, o.Client.WriteTimeout = o.Timeout, o.Timeout, o.Timeout
	o.Client.PoolTimeout = o.Timeout
	o.Client.DialerRetries = 1
	o.Client.ContextTimeoutEnabled = true
	if o.Client.PoolSize == 0 {
		o.Client.PoolSize = poolSize
	}
	if o.Client.Dialer == nil {
		o.Client.Dialer = redis.NewDialer(&o.Client)
	}
	o.Client.Dialer = dial(o.Client.Dialer)
	if o.Client.OnConnect == nil {
		o.Client.OnConnect = authenticated
	}
	// What the SDK would print of a connection is in the calls' errors.
	quiet.Do(logging.Disable)
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	s := &Store{o: o, client: redis.NewClient(&o.Client), inbox: o.Prefix + ":inbox:" + hex.EncodeToString(id[:])}
	s.hot.s, s.urgent.s, s.silence = s, s, silence
	s.stopped, s.stop = context.WithCancel(context.Background())
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

// args are those of EVALSHA for a script on a lock.
func (s *Store) args(sc *script, lockID string, argv []any) []any {
	p := s.shardPrefix(shardOf(lockID))
	all := make([]any, 0, 11+len(argv))
	all = append(all, "evalsha", sc.sha, 5, p+"l:"+lockID, p+"q:"+lockID, p+"w:"+lockID, p+"d:"+lockID, p+"i",
		lockID, s.o.Retention.Microseconds())
	return append(all, argv...)
}

// Ping asks the server for a sign of life.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	return s.outcome(s.client.Ping(ctx).Err())
}

// Capabilities describes one server that keeps its data.
func (s *Store) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "redis", MinTTL: s.o.MinTTL, MaxTTL: maxTTL, Lateness: 100 * time.Millisecond, Poll: s.o.Poll, Shared: true,
		Watch: true, ExpiryAtOnce: true, ExpiryEvents: true, Clock: driver.ClockStore, Durability: driver.DurabilityAsync, Retention: s.o.Retention,
	}
}

// Close closes the connections and ends Watch. Calls in flight fail with
// driver.ErrClosed or their outcome.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	return s.client.Close()
}
