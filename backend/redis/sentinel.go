package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strconv"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// sentinelEvery is how often the Sentinels are asked for the primary although
// every call is answered: a primary that they have given up may still answer, and
// what it grants counts only with their fresh word.
const sentinelEvery = 500 * time.Millisecond

// sentinels are those that know the primary.
type sentinels struct {
	primary string
	clients []*redis.SentinelClient
	addrs   []string

	mu   sync.Mutex
	last witness
}

// witness is what a majority of the Sentinels last agreed on.
type witness struct {
	// Primary is the address of the server that they named the primary, and
	// Epoch the highest configuration epoch at which one of them did.
	Primary string
	Epoch   int64
	// At is just before they were asked.
	At driver.Instant
}

func (s *Store) newSentinels(o *Sentinel) *sentinels {
	w := &sentinels{primary: o.Primary, addrs: o.Addrs}
	for _, addr := range o.Addrs {
		c := redis.Options{
			Addr: addr, Username: o.Username, Password: o.Password, CredentialsProviderContext: o.credentials, PoolSize: 2,
			TLSConfig: s.o.Client.TLSConfig,
		}
		s.o.bare(&c)
		w.clients = append(w.clients, redis.NewSentinelClient(&c))
	}
	return w
}

// vote is a Sentinel's answer.
type vote struct {
	addr  string
	epoch int64
	err   error
}

// layout asks every Sentinel at once. The primary is the one that a majority of
// all of them names: one that is cut off with an old primary does not count.
func (w *sentinels) layout(ctx context.Context, clock driver.Clock) (layout, error) {
	at := clock.Now()
	votes := make(chan vote, len(w.clients))
	for i, c := range w.clients {
		go func() { votes <- ask(ctx, c, w.addrs[i], w.primary) }() // ctx bounds it
	}
	named, epochs := make(map[string]int), make(map[string]int64)
	var failed error
	for range w.clients {
		v := <-votes
		if v.err != nil {
			failed = errors.Join(failed, v.err)
			continue
		}
		named[v.addr]++
		epochs[v.addr] = max(epochs[v.addr], v.epoch)
		if named[v.addr] > len(w.clients)/2 {
			w.mu.Lock()
			w.last = witness{v.addr, epochs[v.addr], at}
			w.mu.Unlock()
			return layout{v.addr}, nil
		}
	}
	if failed == nil {
		return nil, fmt.Errorf("the Sentinels do not agree on the primary of %q: %v", w.primary, named)
	}
	return nil, fmt.Errorf("no majority of the Sentinels names the primary of %q: %w", w.primary, failed)
}

// witnessed is what a majority last agreed on.
func (w *sentinels) witnessed() witness {
	w.mu.Lock()
	defer w.mu.Unlock()
	return w.last
}

func ask(ctx context.Context, c *redis.SentinelClient, addr, primary string) vote {
	m, err := c.Master(ctx, primary).Result()
	if err != nil {
		return vote{err: fmt.Errorf("%s: %w", addr, err)}
	}
	epoch, _ := strconv.ParseInt(m["config-epoch"], 10, 64) // 0 if it names none
	return vote{addr: net.JoinHostPort(m["ip"], m["port"]), epoch: epoch}
}

func (w *sentinels) close() (err error) {
	for _, c := range w.clients {
		err = errors.Join(err, c.Close())
	}
	return err
}
