package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// node is one server that has locks, and what is on its way to it.
type node struct {
	s      *Store
	addr   string
	client *redis.Client
	// hot carries acquires, releases and leaves, urgent renewals and the
	// rest: a renewal never stands behind an acquire.
	hot, urgent lane
	// links carry what may grant a lease.
	links links
	// stamped is the replication id under which every shard is known to be
	// stamped; the sweep's alone.
	stamped string
	// apart: the server wants the locks of different shards in commands of their
	// own.
	apart atomic.Bool
	// told is what the server last said of itself to a new connection, and
	// refused why the last new connection was not used, if it was not.
	told    atomic.Pointer[identity]
	refused atomic.Pointer[refusedError]
	// missed counts the layouts since the last one that the node was in; the
	// topology's lock guards it.
	missed int
	// gone ends when the node has no locks any more, or the driver is closed.
	gone   context.Context
	retire context.CancelFunc
}

// newNode does not connect.
func (s *Store) newNode(addr string) *node {
	n := &node{s: s, addr: addr}
	// Pipelines of several callers have no deadline but the client's timeouts.
	fly := func(batch []*call) { n.exec(context.Background(), batch) }
	n.hot.run, n.urgent.run = fly, fly
	n.gone, n.retire = context.WithCancel(s.stopped)
	n.links.node = n
	size := s.o.Client.PoolSize
	if size == 0 {
		size = poolSize
	}
	n.client = n.connect(func(o *redis.Options) { o.PoolSize = size }, func(*identity) {})
	n.addr = n.client.Options().Addr // the SDK knows what an empty one means
	return n
}

// connect returns a client of the node. met is told whom each new connection has
// met.
func (n *node) connect(sized func(*redis.Options), met func(*identity)) *redis.Client {
	o := n.s.o.Client
	o.Addr = n.addr
	n.s.o.bare(&o)
	sized(&o)
	further := o.OnConnect
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
		id, err := n.introduce(ctx, cn)
		if err != nil {
			return err
		}
		met(id)
		if further == nil {
			return nil
		}
		return further(ctx, cn)
	}
	return redis.NewClient(&o)
}

// close ends the node. Calls on their way fail.
func (n *node) close() error {
	n.retire()
	return errors.Join(n.client.Close(), n.links.close())
}

func (n *node) lane(c *call) *lane {
	if c.urgent {
		return &n.urgent
	}
	return &n.hot
}

// exec sends calls as one pipeline and completes each. A script that the
// server does not know is loaded and called once more, and one that is flushed
// even then is sent in full: NOSCRIPT proves that it did not run. The client's
// timeouts bound it, and so does a deadline of ctx.
func (n *node) exec(ctx context.Context, batch []*call) {
	batch = n.witnessed(wanted(batch))
	l, batch := n.link(ctx, batch)
	if l != nil {
		defer n.links.give(l)
	}
	unknown := n.pipeline(ctx, l, batch)
	if len(unknown) == 0 {
		return
	}
	loaded := make(map[*script]error)
	for _, c := range unknown {
		if _, seen := loaded[c.script]; !seen {
			loaded[c.script] = n.client.ScriptLoad(ctx, c.script.text).Err()
		}
	}
	again := unknown[:0]
	for _, c := range unknown {
		if err := loaded[c.script]; err != nil {
			if n.s.closed.Load() {
				err = driver.ErrClosed
			} else { // whatever became of the load, the call was not made
				err = fmt.Errorf("%w: loading a script: %w", driver.ErrUnavailable, err)
			}
			c.complete(nil, err)
			continue
		}
		again = append(again, c)
	}
	again = n.pipeline(ctx, l, again)
	for _, c := range again {
		if c.inFull = true; c.own == nil {
			c.args[0], c.args[1] = "eval", c.script.text
		}
	}
	for _, c := range n.pipeline(ctx, l, again) { // EVAL knows what it is given
		c.complete(nil, fmt.Errorf("%w: NOSCRIPT in answer to EVAL", driver.ErrUnavailable))
	}
}

// pipeline sends the calls, completes or redirects those that were answered and
// returns those to be sent in another way. l is the link of calls that may grant.
func (n *node) pipeline(ctx context.Context, l *link, batch []*call) (unknown []*call) {
	if len(batch) == 0 {
		return nil
	}
	client := n.client
	if l != nil {
		client = l.client
		l.fill(batch)
	}
	pipe := client.Pipeline()
	parcels := n.pack(batch)
	for i := range parcels {
		parcels[i].send(ctx, n.s, pipe)
	}
	replicated := n.replicated(ctx, pipe, batch)
	proven := l.prove(ctx, pipe)
	word := n.s.word()
	sent := n.s.o.Clock.Now()
	_, failed := pipe.Exec(ctx)
	short := replicated()
	doubt := proven()
	for _, p := range parcels {
		for i, c := range p.calls {
			c.sent = sent
			reply, err := p.answer(i, failed)
			switch {
			case err != nil && c.script != nil && n.unsent(&p, err):
				unknown = append(unknown, c)
			case err != nil && n.s.topology.redirect(n, c, err):
			case err == nil && short != nil && c.script != nil:
				c.complete(nil, short)
			case err == nil && doubt != nil && c.grants && isGrant(reply):
				c.complete(nil, doubt)
			case err == nil && c.needsWitness() && isGrant(reply) && !word.vouches(n, sent):
				c.complete(nil, errUnwitnessed)
			default:
				c.complete(reply, n.s.outcome(err))
			}
		}
	}
	return unknown
}

// host is the node's without the port.
func (n *node) host() string {
	host, _, err := net.SplitHostPort(n.addr)
	if err != nil {
		return n.addr
	}
	return host
}
