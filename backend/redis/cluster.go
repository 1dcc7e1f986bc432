package redis

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"net"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// slots is how many a Cluster has.
	slots = 16384
	// clusterEvery is how often a Cluster is asked who serves what although no
	// call met another answer.
	clusterEvery = 10 * time.Second
)

// slotOf is the Cluster slot of a key: CRC16 (XMODEM) of the part in the first
// braces, or of the whole key.
func slotOf(key string) uint16 {
	if _, after, found := strings.Cut(key, "{"); found {
		if tag, _, closed := strings.Cut(after, "}"); closed && tag != "" {
			key = tag
		}
	}
	var crc uint16
	for i := range len(key) {
		crc ^= uint16(key[i]) << 8
		for range 8 {
			if crc&0x8000 != 0 {
				crc = crc<<1 ^ 0x1021
			} else {
				crc <<= 1
			}
		}
	}
	return crc % slots
}

// clusterLayout asks the nodes that are known, then those that were given, until
// one says who serves what.
func (s *Store) clusterLayout(ctx context.Context) (layout, error) {
	var addrs []string
	for _, n := range s.topology.all() {
		addrs = append(addrs, n.addr)
	}
	rand.Shuffle(len(addrs), func(i, j int) { addrs[i], addrs[j] = addrs[j], addrs[i] })
	var failed error
	for _, addr := range append(addrs, s.o.Cluster...) {
		l, err := s.layoutBy(ctx, addr)
		if err == nil {
			return l, nil
		}
		failed = errors.Join(failed, fmt.Errorf("%s: %w", addr, err))
		if ctx.Err() != nil {
			break
		}
	}
	return nil, fmt.Errorf("no node of the Cluster says who serves what: %w", failed)
}

// layoutBy asks one node, which may be a replica.
func (s *Store) layoutBy(ctx context.Context, addr string) (layout, error) {
	o := s.o.Client
	o.Addr, o.PoolSize, o.OnConnect = addr, 1, nil
	s.o.bare(&o)
	// One that hangs leaves time for the next.
	o.ReadTimeout, o.DialTimeout = s.o.Timeout/3, s.o.Timeout/3
	c := redis.NewClient(&o)
	defer func() { _ = c.Close() }()
	ranges, err := c.ClusterSlots(ctx).Result() //nolint:staticcheck // who owns a slot is all that is asked, and every version answers it
	if err != nil {
		return nil, err
	}
	l := make(layout, slots)
	covered := false
	for _, r := range ranges {
		if len(r.Nodes) == 0 || r.Start < 0 || r.End >= slots {
			continue
		}
		host, port, err := net.SplitHostPort(r.Nodes[0].Addr)
		if err != nil {
			return nil, fmt.Errorf("it names a node %q: %w", r.Nodes[0].Addr, err)
		}
		if host == "" || host == "?" { // a node that does not know its own name
			if host, _, err = net.SplitHostPort(addr); err != nil {
				return nil, err
			}
		}
		for slot := r.Start; slot <= r.End; slot++ {
			l[slot], covered = net.JoinHostPort(host, port), true
		}
	}
	if !covered {
		return nil, errors.New("it knows of nobody that serves a slot")
	}
	return l, nil
}
