package dynamodb

import (
	"crypto/tls"
	"fmt"
	"log/slog"
	"strings"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	defaultPrefix  = "locksidecar"
	defaultTimeout = 2 * time.Second
	defaultPoll    = 2 * time.Second
	defaultMinTTL  = time.Second
	maxTTL         = 60 * time.Second
	maxPoll        = 5 * time.Minute
	// maxWaiters bounds the places of a lock: they are in its item, which may have
	// 400 KB.
	maxWaiters = 256
	// callFactor bounds a call of the driver, which may read and write several
	// times when others change the lock, in units of Options.Timeout.
	callFactor = 5
)

// Options configure a Store. Table is needed, and a Region in AWS.
type Options struct {
	// Table is the table's name.
	Table string
	// AWS has the Region and the credentials. Its HTTP client and its retries are
	// replaced.
	AWS aws.Config
	// Endpoint is where the table is, as a URL; empty means the Region's own.
	Endpoint string
	// TLS is for an endpoint with a certificate of its own; nil means the system's.
	TLS *tls.Config
	// Create makes the table, billed by request, if there is none.
	Create bool
	// Prefix starts every key; empty means "locksidecar". It is of printable ASCII
	// without spaces and colons: a colon ends it, so that the keys of two prefixes
	// differ whatever the lock ids.
	Prefix string
	// Timeout bounds one request; 0 means 2 s.
	Timeout time.Duration
	// Poll bounds a waiter's sleep; 0 means 2 s, 5 minutes are the most.
	Poll time.Duration
	// MinTTL is the smallest TTL; 0 means 1 s.
	MinTTL time.Duration
	// Clock counts from when leases are valid, and for how long they were seen
	// unchanged; nil means driver.BootClock.
	Clock driver.Clock
	// Now is the wall clock that tokens are made of; nil means time.Now.
	Now func() time.Time
	// Logger takes lines for the operator; nil discards them.
	Logger *slog.Logger
}

// check refuses inconsistent options and fills in what was left out.
func (o *Options) check() error {
	if o.Table == "" {
		return fmt.Errorf("dynamodb: Options.Table: %w: it is needed", driver.ErrInvalid)
	}
	if o.AWS.Region == "" {
		return fmt.Errorf("dynamodb: Options.AWS.Region: %w: it is needed: the parameter region, or AWS_REGION", driver.ErrInvalid)
	}
	if o.Prefix == "" {
		o.Prefix = defaultPrefix
	}
	if strings.ContainsFunc(o.Prefix, func(r rune) bool { return r <= ' ' || r > '~' || r == ':' }) {
		return fmt.Errorf("dynamodb: Options.Prefix is %q: %w: want printable ASCII without spaces and colons", o.Prefix, driver.ErrInvalid)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{{"Timeout", &o.Timeout, defaultTimeout}, {"Poll", &o.Poll, defaultPoll}, {"MinTTL", &o.MinTTL, defaultMinTTL}} {
		if *d.value < 0 {
			return fmt.Errorf("dynamodb: Options.%s is %v: %w: it must not be negative", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	if o.MinTTL > maxTTL {
		return fmt.Errorf("dynamodb: Options.MinTTL is %v: %w: it must not exceed %v", o.MinTTL, driver.ErrInvalid, maxTTL)
	}
	if o.Poll > maxPoll {
		return fmt.Errorf("dynamodb: Options.Poll is %v: %w: it must not exceed %v", o.Poll, driver.ErrInvalid, maxPoll)
	}
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Now == nil {
		o.Now = time.Now
	}
	o.Logger = driver.Logger(o.Logger)
	return nil
}
