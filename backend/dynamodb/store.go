package dynamodb

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	"github.com/aws/aws-sdk-go-v2/aws"
	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Store)(nil)
	_ driver.LocalWatcher = (*Store)(nil)
	_ driver.Describer    = (*Store)(nil)
)

// Store is the driver.
type Store struct {
	o      Options
	client *sdk.Client
	wire   *wire
	table  table
	// id names this driver in places and heartbeats.
	id     string
	leases observations[leaseName]
	beats  observations[beatName]
	queued observations[placeName]
	places places
	// sounding bounds the heartbeats that are written at a time to one for each name.
	sounding sounding
	turns    turns
	latest   latest
	brake    brake
	ended    unreported
	chores   chores
	alarm    alarm
	// last is the latest heartbeat made.
	last    atomic.Int64
	closed  atomic.Bool
	stopped context.Context
	stop    context.CancelFunc

	watching sync.Mutex
	sink     func(driver.Hint)
}

// New returns a driver. It does not connect: a store that is down makes calls fail
// with driver.ErrUnavailable until it is up.
func New(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	s := &Store{o: o, wire: newWire(o.TLS, o.Clock), id: hex.EncodeToString(id[:])}
	s.brake.slots = make(chan struct{}, parallel)
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.client = sdk.NewFromConfig(o.AWS, func(c *sdk.Options) {
		c.Retryer = aws.NopRetryer{} // only the breaker retries: a repeated write would meet itself
		c.RetryMaxAttempts = 1
		c.HTTPClient = s.wire
		if o.Endpoint != "" {
			c.BaseEndpoint = &s.o.Endpoint
		}
	})
	return s, nil
}

// check says whether a call may start.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return driver.ErrClosed
	}
	return ctx.Err()
}

func (s *Store) recordKey(lockID string) string { return s.o.Prefix + ":l:" + lockID }

func (s *Store) beatKey(b beatName) string { return s.o.Prefix + ":w:" + b.driver + ":" + b.lock }

// beat makes a heartbeat that is higher than every earlier one of this driver's, and
// than seen.
func (s *Store) beat(seen int64) int64 {
	for {
		last := s.last.Load()
		next := max(last+1, seen+1, s.o.Now().UnixMicro())
		if next >= driver.MaxClockToken && seen < driver.MaxClockToken { // a clock beyond belief would use up the range
			next = max(last+1, seen+1)
		}
		if s.last.CompareAndSwap(last, next) {
			return next
		}
	}
}

// effect is what a request may have done when its answer is lost.
type effect bool

const (
	reads  effect = false
	writes effect = true
)

// once makes one request of the SDK, bounded in time, and says what its error
// proves. sent is from just before it.
func once[In, Out any](ctx context.Context, s *Store, e effect, call func(context.Context, In, ...func(*sdk.Options)) (Out, error), in In) (out Out, sent driver.Instant, err error) {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	defer context.AfterFunc(s.stopped, cancel)()
	ctx, a := track(ctx)
	sent = s.o.Clock.Now()
	out, failed := call(ctx, in)
	return out, sent, s.outcome(e, a, failed)
}

// bound limits a call of the driver. Its end, when nothing is under way, means that
// nothing was done.
func (s *Store) bound(ctx context.Context) (context.Context, context.CancelFunc) {
	return context.WithTimeout(ctx, callFactor*s.o.Timeout)
}

// Ping reads from the table.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	if err := s.ready(ctx); err != nil {
		return err
	}
	_, _, err := s.read(ctx, "ping")
	return err
}

// Capabilities describes a table of one Region. Lateness is that of a driver whose
// waiters have polled since the lease was last renewed.
func (s *Store) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "dynamodb", MinTTL: s.o.MinTTL, MaxTTL: maxTTL, Lateness: s.o.Poll + 500*time.Millisecond, Poll: s.o.Poll, Shared: true,
		MaxWaiters: maxWaiters, EditQueue: true, Clock: driver.ClockProposer, Durability: driver.DurabilityQuorum,
	}
}

// Watch is not supported: DynamoDB tells nobody. See WatchLocal.
func (s *Store) Watch(context.Context, func(driver.Hint)) error {
	return fmt.Errorf("hints from other drivers are %w", driver.ErrUnsupported)
}

// Close ends the driver. Calls in flight fail with driver.ErrClosed or their
// outcome.
func (s *Store) Close() error {
	if s.closed.Swap(true) {
		return nil
	}
	s.stop()
	s.turns.mu.Lock()   // whoever saw the driver open has begun
	s.turns.mu.Unlock() //nolint:staticcheck // see above
	s.turns.running.Wait()
	s.chores.close()
	s.wire.close()
	return nil
}
