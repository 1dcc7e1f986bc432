package etcd

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"fmt"
	"sync"
	"sync/atomic"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc"

	"github.com/locksidecar/locksidecar/backend/driver"
)

var (
	_ driver.Driver       = (*Store)(nil)
	_ driver.BatchRenewer = (*Store)(nil)
	_ driver.Sweeper      = (*Store)(nil)
	_ driver.Describer    = (*Store)(nil)
	_ driver.Quarantiner  = (*Store)(nil)
	_ driver.Measurer     = (*Store)(nil)
)

const (
	// silence is after how long without a sign of life a member is asked for
	// one; it is the shortest that the client allows.
	silence = 10 * time.Second
)

// Store is the driver.
type Store struct {
	o    Options
	keys keyspace
	// name is this driver's own, for its inbox and its elections.
	name   string
	closed atomic.Bool
	// stopped ends when the driver is closed; running are its goroutines.
	stopped context.Context
	stop    context.CancelFunc
	running sync.WaitGroup

	connecting sync.Mutex
	client     atomic.Pointer[clientv3.Client]

	leases    *leases
	keeper    *keeper
	locks     *locks
	seen      *observations
	held      *held
	session   *session
	hints     *hints
	refreshes *refreshes
	sweeping  sweeping
	members   members
	floors    floors
	condition condition
}

// New returns a driver. It does not connect: a cluster that is down makes calls
// fail with driver.ErrUnavailable until it is up.
func New(o Options) (*Store, error) {
	if err := o.check(); err != nil {
		return nil, err
	}
	var id [8]byte
	_, _ = rand.Read(id[:]) // it never fails
	s := &Store{o: o, keys: keyspace{o.Prefix + "/"}, name: hex.EncodeToString(id[:])}
	s.stopped, s.stop = context.WithCancel(context.Background())
	s.leases = newLeases(s)
	s.keeper = newKeeper(s)
	s.locks = newLocks()
	s.seen = newObservations()
	s.held = newHeld()
	s.session = newSession(s)
	s.hints = newHints(s)
	s.refreshes = newRefreshes(s)
	if o.Username == "" {
		if _, err := s.connected(); err != nil {
			s.stop()
			return nil, fmt.Errorf("etcd: %w: %w", driver.ErrInvalid, err)
		}
	}
	return s, nil
}

// connected is the client. With a password it is made by the first call, because
// that logs in.
func (s *Store) connected() (*clientv3.Client, error) {
	if c := s.client.Load(); c != nil {
		return c, nil
	}
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if c := s.client.Load(); c != nil {
		return c, nil
	}
	if s.closed.Load() {
		return nil, driver.ErrClosed
	}
	c, err := clientv3.New(clientv3.Config{
		Endpoints: s.o.Endpoints, TLS: s.o.TLS, Username: s.o.Username, Password: s.o.Password,
		DialTimeout: s.o.Timeout, DialKeepAliveTime: silence, DialKeepAliveTimeout: s.o.Timeout,
		Context: s.stopped, Logger: zap.NewNop(),
		// Only the breaker retries: a repeated write would meet itself.
		MaxUnaryRetries: 1,
		DialOptions:     append([]grpc.DialOption{grpc.WithStatsHandler(sending{&s.condition.connections})}, s.o.Dial...),
	})
	if err != nil {
		return nil, err
	}
	s.client.Store(c)
	return c, nil
}

// check says whether a call may start.
func (s *Store) check(ctx context.Context) error {
	if s.closed.Load() {
		return driver.ErrClosed
	}
	return ctx.Err()
}

// Ping reads a key, which a majority must answer for.
func (s *Store) Ping(ctx context.Context) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	_, err := s.get(ctx, s.keys.stamp(), clientv3.WithKeysOnly())
	s.members.look(s)
	return err
}

// Capabilities describes a cluster that keeps its leader: a new one lets every
// lease last for its whole time again.
func (s *Store) Capabilities() driver.Capabilities {
	return driver.Capabilities{
		Name: "etcd", MinTTL: s.o.MinTTL, MaxTTL: s.o.MaxTTL, Lateness: lateness, Poll: s.o.Poll, Shared: true, MaxWaiters: s.o.MaxWaiters,
		Watch: true, ExpiryAtOnce: true, ExpiryEvents: true, EditQueue: true, Clock: driver.ClockProposer, Durability: driver.DurabilityQuorum, Retention: s.o.Retention,
	}
}

// lateness is what etcd takes at most to drop a lease that has run out: it looks
// every half second, and agrees on it.
const lateness = 2 * time.Second

// Close ends the driver's goroutines and connections. It gives up the sweeping,
// so that another takes it over at once, and no lease.
func (s *Store) Close() error {
	s.connecting.Lock()
	was := s.closed.Swap(true)
	s.connecting.Unlock()
	if was {
		return nil
	}
	s.sweeping.resign(s)
	c := s.client.Load()
	if c != nil { // what cannot be revoked in a moment runs out
		ctx, cancel := context.WithTimeout(s.stopped, s.o.Timeout/4)
		s.leases.revoke(ctx, c)
		s.session.revoke(ctx, c)
		cancel()
	}
	s.stop()
	var err error
	if c != nil {
		err = c.Close()
	}
	s.running.Wait()
	if s.stopped.Err() != nil && err == context.Canceled { //nolint:errorlint // the client returns its own context's error, unwrapped
		err = nil
	}
	return err
}

// start runs f as a goroutine of the driver's, unless that is closed.
func (s *Store) start(f func()) bool {
	s.connecting.Lock()
	defer s.connecting.Unlock()
	if s.closed.Load() {
		return false
	}
	s.running.Go(f)
	return true
}
