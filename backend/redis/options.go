package redis

import (
	"context"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
	"github.com/redis/go-redis/v9/maintnotifications"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	defaultPrefix    = "locksidecar"
	defaultTimeout   = 2 * time.Second
	defaultPoll      = 2 * time.Second
	defaultMinTTL    = time.Second
	defaultRetention = 24 * time.Hour
	defaultMaxTTL    = 60 * time.Second
	// maxPoll keeps places, which outlive a few polls, well within the time for
	// which the scripts keep a queue that nobody looks at.
	maxPoll = 5 * time.Minute
	// poolSize bounds the connections to one server: two lanes of two pipelines,
	// the watch, and room for reads.
	poolSize = 10
)

// Options configure a Store. The zero value talks to 127.0.0.1:6379.
type Options struct {
	// Client are the options of each connection to a server of locks, and,
	// without Sentinel and Cluster, its address. Retries are switched off, and
	// the timeouts are Timeout, whatever they say.
	Client redis.Options
	// Sentinel names the Sentinels that know the server; nil means none.
	Sentinel *Sentinel
	// Cluster are addresses, host:port, of some nodes of a Cluster, which name
	// the others. It excludes Sentinel and a database other than 0.
	Cluster []string
	// AllowEviction accepts servers that may evict keys, or that do not say
	// whether they do: whatever they evict, leases may be lost and granted twice.
	AllowEviction bool
	// WaitReplicas is how many replicas must have what a call wrote before it
	// succeeds; else its outcome is unknown (driver.ErrIndeterminate). 0 means
	// not to wait.
	WaitReplicas int
	// Prefix starts every key and channel; empty means "locksidecar". It has
	// no braces, which would choose the slot.
	Prefix string
	// Timeout bounds a call; 0 means 2 s.
	Timeout time.Duration
	// Poll bounds a waiter's sleep; 0 means 2 s, 5 minutes are the most.
	Poll time.Duration
	// MinTTL is the smallest TTL; 0 means 1 s.
	MinTTL time.Duration
	// MaxTTL is the longest TTL, and so how long nothing is granted after the
	// server may have lost leases; 0 means 60 s. It is a constant of the store:
	// on one that has another, every call fails with driver.ErrInvalid.
	MaxTTL time.Duration
	// New says that the store is new whenever it is empty, and so that it has
	// lost nothing: see [Store.Init]. It is for tests and for what is thrown
	// away. On a store that may be emptied while locks are held it lets them be
	// granted twice.
	New bool
	// Retention is how long the token of a free lock is kept; 0 means 24 h.
	Retention time.Duration
	// Clock counts from when leases are valid; nil means driver.BootClock.
	Clock driver.Clock
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// Sentinel says where the Sentinels are and what they are to be asked.
type Sentinel struct {
	// Addrs are the Sentinels, host:port: all of them, since a majority of them
	// decides.
	Addrs []string
	// Primary is the name by which they know the primary.
	Primary string
	// Username and Password are for the Sentinels themselves.
	Username, Password string
	// credentials, if not nil, are instead of both, asked for at each connection.
	credentials func(context.Context) (user, password string, err error)
}

// check refuses inconsistent options and fills in what was left out.
func (o *Options) check() error {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.ContainsAny(o.Prefix, "{}") || strings.ContainsFunc(o.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("redis: Options.Prefix is %q: %w: want printable ASCII without spaces and braces", o.Prefix, driver.ErrInvalid)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &o.Timeout, defaultTimeout}, {"Poll", &o.Poll, defaultPoll},
		{"MinTTL", &o.MinTTL, defaultMinTTL}, {"Retention", &o.Retention, defaultRetention}, {"MaxTTL", &o.MaxTTL, defaultMaxTTL},
	} {
		if *d.value < 0 {
			return fmt.Errorf("redis: Options.%s is %v: %w: it must not be negative", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	o.MaxTTL = o.MaxTTL.Truncate(time.Microsecond)
	if o.MinTTL > o.MaxTTL {
		return fmt.Errorf("redis: Options.MinTTL is %v: %w: it must not exceed Options.MaxTTL, %v", o.MinTTL, driver.ErrInvalid, o.MaxTTL)
	}
	if o.Poll > maxPoll {
		return fmt.Errorf("redis: Options.Poll is %v: %w: it must not exceed %v", o.Poll, driver.ErrInvalid, maxPoll)
	}
	if o.WaitReplicas < 0 {
		return fmt.Errorf("redis: Options.WaitReplicas is %d: %w: it must not be negative", o.WaitReplicas, driver.ErrInvalid)
	}
	if s := o.Sentinel; s != nil && (len(s.Addrs) == 0 || s.Primary == "") {
		return fmt.Errorf("redis: Options.Sentinel: %w: it needs Addrs and Primary", driver.ErrInvalid)
	}
	if len(o.Cluster) > 0 && (o.Sentinel != nil || o.Client.DB != 0) {
		return fmt.Errorf("redis: Options.Cluster: %w: it excludes Options.Sentinel and a database other than 0", driver.ErrInvalid)
	}
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	o.Logger = driver.Logger(o.Logger)
	return nil
}

// bare makes of the options those of any connection of the driver's: it says
// nothing that was not asked for, and repeats nothing.
func (o *Options) bare(c *redis.Options) {
	c.MaxRetries = -1 // only the breaker retries: a repeated write would meet itself
	c.DialTimeout, c.ReadTimeout, c.WriteTimeout, c.PoolTimeout = o.Timeout, o.Timeout, o.Timeout, o.Timeout
	c.DialerRetries = 1
	c.ContextTimeoutEnabled = true
	c.DisableIdentity = true
	c.MaintNotificationsConfig = &maintnotifications.Config{Mode: maintnotifications.ModeDisabled}
	if c.Dialer == nil {
		c.Dialer = redis.NewDialer(c)
	}
	c.Dialer = dial(c.Dialer)
}
