package postgres

import (
	"context"
	"fmt"
	"regexp"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var _ driver.Driver = (*Store)(nil)

// Options configure a Store. The zero value is usable: it is the server of the
// environment, as libpq finds it (PGHOST and so on).
type Options struct {
	// Pool says how the server is reached; pgxpool.ParseConfig makes one.
	Pool *pgxpool.Config
	// Clock measures how long a lease is valid; nil means driver.BootClock.
	Clock driver.Clock
	// Table is the name of the table, of lower-case letters, digits and
	// underscores; empty means "locksidecar".
	Table string
	// MinTTL is the smallest TTL; 0 means 1 s.
	MinTTL time.Duration
	// Poll bounds a waiter's sleep; 0 means 500 ms.
	Poll time.Duration
	// Timeout bounds a call; 0 means 5 s. It is also how long the server lets
	// another call wait for the row of one that fell silent in the middle.
	Timeout time.Duration
	// Retention is how long the row of a free lock is kept; 0 means 24 h. It
	// should exceed the backward step of the clock that is to be survived.
	Retention time.Duration
}

const (
	maxTTL = 60 * time.Second
	// maxWaiters bounds a row, which carries the whole queue.
	maxWaiters = 256
)

var tableName = regexp.MustCompile(`^[a-z_][a-z0-9_]{0,47}$`)

// Store is a driver on one table.
type Store struct {
	o    Options
	pool *pgxpool.Pool
	sql  statements
	// ready: the table was seen.
	ready atomic.Bool

	mu     sync.Mutex
	closed bool
	lanes  map[string]*lane
	// running are the lanes' goroutines.
	running sync.WaitGroup
}

// New opens a store. It does not wait for the server.
func New(o Options) (*Store, error) {
	if o.Clock == nil {
		o.Clock = driver.BootClock
	}
	if o.Table == "" {
		o.Table = "locksidecar"
	}
	if !tableName.MatchString(o.Table) {
		return nil, fmt.Errorf("postgres: Options.Table is %q: %w: want lower-case letters, digits and underscores", o.Table, driver.ErrInvalid)
	}
	for _, d := range []struct {
		name     string
		value    *time.Duration
		fallback time.Duration
	}{
		{"MinTTL", &o.MinTTL, time.Second}, {"Poll", &o.Poll, 500 * time.Millisecond},
		{"Timeout", &o.Timeout, 5 * time.Second}, {"Retention", &o.Retention, 24 * time.Hour},
	} {
		if *d.value < 0 || d.value == &o.MinTTL && *d.value > maxTTL {
			return nil, fmt.Errorf("postgres: Options.%s is %v: %w", d.name, *d.value, driver.ErrInvalid)
		}
		if *d.value == 0 {
			*d.value = d.fallback
		}
	}
	config, err := o.configured()
	if err != nil {
		return nil, err
	}
	pool, err := pgxpool.NewWithConfig(context.Background(), config)
	if err != nil {
		return nil, fmt.Errorf("postgres: %w", err)
	}
	return &Store{o: o, pool: pool, sql: statementsFor(o.Table), lanes: make(map[string]*lane)}, nil
}

// configured is the pool's configuration with what the guarantees need.
func (o Options) configured() (*pgxpool.Config, error) {
	if o.Pool == nil {
		var err error
		if o.Pool, err = pgxpool.ParseConfig(""); err != nil {
			return nil, fmt.Errorf("postgres: the environment: %w: %w", driver.ErrInvalid, err)
		}
	}
	config := o.Pool.Copy()
	config.ConnConfig.ConnectTimeout = o.Timeout
	set, timeout := config.ConnConfig.RuntimeParams, strconv.FormatInt(o.Timeout.Milliseconds()+1, 10)
	// Whatever the server's default is, an answer waits for its commit.
	set["synchronous_commit"] = "on"
	// A call whose client is gone keeps the row for no longer than this.
	set["idle_in_transaction_session_timeout"] = timeout
	set["lock_timeout"] = timeout
	return config, nil
}

// Capabilities says what the table promises.
func (s *Store) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "postgres", MinTTL: s.o.MinTTL, MaxTTL: maxTTL, Lateness: 100 * time.Millisecond, Poll: s.o.Poll,
		Shared: true, MaxWaiters: maxWaiters, ExpiryAtOnce: true, Clock: driver.ClockStore, Durability: driver.DurabilityDisk,
		Retention: s.o.Retention,
		// Left out: Watch (NOTIFY could carry the hints) and ExpiryEvents (the
		// store would have to be a driver.Sweeper).
	}
}

// Watch is not supported: the portable layer polls.
func (s *Store) Watch(context.Context, func(driver.Hint)) error { return driver.ErrUnsupported }

// Ping asks whether the server answers and takes writes.
func (s *Store) Ping(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, s.o.Timeout)
	defer cancel()
	conn, err := s.connect(ctx)
	if err != nil {
		return err
	}
	defer conn.Release()
	var standby bool
	if err := conn.QueryRow(ctx, "select pg_is_in_recovery()").Scan(&standby); err != nil {
		return s.undone(err)
	}
	if standby {
		return fmt.Errorf("%w: the server is a standby", driver.ErrUnavailable)
	}
	return nil
}

// Close ends the driver once the calls in flight have ended.
func (s *Store) Close() error {
	s.mu.Lock()
	s.closed = true
	s.mu.Unlock()
	s.running.Wait()
	s.pool.Close()
	return nil
}

func (s *Store) isClosed() bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.closed
}
