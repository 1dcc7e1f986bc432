package etcd

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"slices"
	"strings"
	"time"

	"google.golang.org/grpc"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	defaultPrefix    = "locksidecar"
	defaultTimeout   = 2 * time.Second
	defaultPoll      = 2 * time.Second
	defaultMinTTL    = 2 * time.Second
	defaultRetention = 24 * time.Hour
	defaultWaiters   = 1024
	defaultMaxTTL    = 60 * time.Second
	maxPoll          = 5 * time.Minute
)

// Options configure a Store. The zero value talks to 127.0.0.1:2379.
type Options struct {
	// Endpoints are the members, host:port; empty means 127.0.0.1:2379.
	Endpoints []string
	// TLS is how to talk to them; nil means in plain text.
	TLS *tls.Config
	// Username and Password are of a user of the cluster. With a client's
	// certificate, the user is that of its common name, and both are empty.
	Username, Password string
	// Prefix starts every key, followed by a slash; empty means "locksidecar". It is
	// of printable ASCII without spaces, with no slash at its ends, and no part of it
	// after a slash is f, h, n, q, r or u: those are the driver's own, and the keys
	// would be among those of the shorter prefix.
	Prefix string
	// Timeout bounds a call; 0 means 2 s.
	Timeout time.Duration
	// Poll bounds a waiter's sleep; 0 means 2 s, 5 minutes are the most.
	Poll time.Duration
	// MinTTL is the smallest TTL; 0 means 2 s, which is what a cluster with the
	// usual election timeout of 1 s grants at least. It is rounded up to whole
	// seconds. A cluster that grants no less than something longer does so, and
	// the lease says it.
	MinTTL time.Duration
	// MaxTTL is the longest TTL, and so how long nothing is granted after the
	// cluster was restored; 0 means 60 s. It is rounded up to whole seconds, and a
	// constant of the store: on one that has another, calls fail with
	// driver.ErrInvalid.
	MaxTTL time.Duration
	// MaxWaiters bounds the places of a lock; 0 means 1024.
	MaxWaiters int
	// Retention is how long the token of a free lock is kept; 0 means 24 h.
	Retention time.Duration
	// Clock counts from when leases are valid; nil means driver.BootClock.
	Clock driver.Clock
	// Wall is the time of day that tokens are made of; nil means time.Now.
	Wall func() time.Time
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
	// Dial are further options of each connection.
	Dial []grpc.DialOption
}

// check refuses inconsistent options and fills in what was left out.
func (o *Options) check() error {
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.HasPrefix(o.Prefix, "/") || strings.HasSuffix(o.Prefix, "/") ||
		strings.ContainsFunc(o.Prefix, func(r rune) bool { return r <= ' ' || r > '~' }) {
		return fmt.Errorf("etcd: Options.Prefix is %q: %w: want printable ASCII without spaces, with no slash at its ends", o.Prefix, driver.ErrInvalid)
	}
	if parts := strings.Split(o.Prefix, "/"); slices.ContainsFunc(parts[1:], func(part string) bool { return slices.Contains(subtrees, part) }) {
		return fmt.Errorf("etcd: Options.Prefix is %q: %w: no part after a slash may be one of %s", o.Prefix, driver.ErrInvalid, strings.Join(subtrees, ", "))
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"Timeout", &o.Timeout, defaultTimeout}, {"Poll", &o.Poll, defaultPoll},
		{"MinTTL", &o.MinTTL, defaultMinTTL}, {"Retention", &o.Retention, defaultRetention},
		{"MaxTTL", &o.MaxTTL, defaultMaxTTL},
	} {
		if *d.value < 0 {
			return fmt.Errorf("etcd: Options.%s is %v: %w: it must not be negative", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if o.MinTTL, o.MaxTTL = seconds(o.MinTTL), seconds(o.MaxTTL); o.MinTTL > o.MaxTTL {
		return fmt.Errorf("etcd: Options.MinTTL is %v: %w: it must not exceed Options.MaxTTL, %v", o.MinTTL, driver.ErrInvalid, o.MaxTTL)
	}
	if o.Poll > maxPoll {
		return fmt.Errorf("etcd: Options.Poll is %v: %w: it must not exceed %v", o.Poll, driver.ErrInvalid, maxPoll)
	}
	if o.MaxWaiters < 0 {
		return fmt.Errorf("etcd: Options.MaxWaiters is %d: %w: it must not be negative", o.MaxWaiters, driver.ErrInvalid)
	}
	if o.MaxWaiters == 0 {
		o.MaxWaiters = defaultWaiters
	}
	if (o.Username == "") != (o.Password == "") {
		return fmt.Errorf("etcd: Options.Username and Options.Password: %w: they belong together", driver.ErrInvalid)
	}
	if len(o.Endpoints) == 0 {
		o.Endpoints = []string{"127.0.0.1:2379"}
	}
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Wall == nil {
		o.Wall = time.Now
	}
	o.Logger = driver.Logger(o.Logger)
	return nil
}

// seconds rounds up to what an etcd lease can last.
func seconds(d time.Duration) time.Duration {
	return (d + time.Second - 1).Truncate(time.Second)
}
