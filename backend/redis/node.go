package redis

import (
	"context"
	"fmt"
	"net"
	"strings"
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
	// told is what the server last said of itself to a new connection, and
	// refused why the last new connection was not used, if it was not.
	told    atomic.Pointer[identity]
	refused atomic.Pointer[string]
	// gone ends when the node has no locks any more, or the driver is closed.
	gone   context.Context
	retire context.CancelFunc
}

// newNode does not connect.
func (s *Store) newNode(addr string) *node {
	n := &node{s: s, addr: addr}
	n.hot.run, n.urgent.run = n.exec, n.exec
	n.gone, n.retire = context.WithCancel(s.stopped)
	o := s.o.Client
	o.Addr = addr
	s.o.bare(&o)
	if o.PoolSize == 0 {
		o.PoolSize = poolSize
	}
	further := o.OnConnect
	o.OnConnect = func(ctx context.Context, cn *redis.Conn) error {
		if err := n.introduce(ctx, cn); err != nil || further == nil {
			return err
		}
		return further(ctx, cn)
	}
	n.client = redis.NewClient(&o)
	return n
}

// close ends the node. Calls on their way fail.
func (n *node) close() error {
	n.retire()
	return n.client.Close()
}

func (n *node) lane(c *call) *lane {
	if c.urgent {
		return &n.urgent
	}
	return &n.hot
}

// exec sends calls as one pipeline and completes each. A script that the
// server does not know is loaded and called once more, and one that is flushed
// even then is sent in full: NOSCRIPT proves that it did not run.
func (n *node) exec(batch []*call) {
	unknown := n.pipeline(wanted(batch))
	if len(unknown) == 0 {
		return
	}
	loaded := make(map[*script]error)
	ctx := context.Background() // bounded by the client's timeouts
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
	again = n.pipeline(again)
	for _, c := range again {
		c.args[0], c.args[1] = "eval", c.script.text
	}
	for _, c := range n.pipeline(again) { // EVAL knows what it is given
		c.complete(nil, fmt.Errorf("%w: NOSCRIPT in answer to EVAL", driver.ErrUnavailable))
	}
}

// pipeline sends the calls, completes or redirects those that were answered and
// returns those whose script is unknown.
func (n *node) pipeline(batch []*call) (unknown []*call) {
	if len(batch) == 0 {
		return nil
	}
	ctx := context.Background() // bounded by the client's timeouts
	pipe := n.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		if c.asking {
			pipe.Do(ctx, "asking")
		}
		cmds[i] = pipe.Do(ctx, c.args...)
	}
	replicated := n.replicated(ctx, pipe, batch)
	sent := n.s.o.Clock.Now()
	_, failed := pipe.Exec(ctx)
	short := replicated()
	for i, c := range batch {
		c.sent = sent
		var reply []any
		err := cmds[i].Err()
		switch {
		case err == nil && cmds[i].Val() == nil:
			// A server that refused the connection's introduction: only the
			// pipeline has the error.
			err = unsentError{failed}
		case err == nil:
			reply = elements(cmds[i].Val())
		}
		switch {
		case err != nil && c.script != nil && strings.HasPrefix(err.Error(), "NOSCRIPT"):
			unknown = append(unknown, c)
		case err != nil && n.s.topology.redirect(n, c, err):
		case err == nil && short != nil && c.script != nil:
			c.complete(nil, short)
		default:
			c.complete(reply, n.s.outcome(err))
		}
	}
	return unknown
}

// elements are a reply's, of which a single value is one.
func elements(reply any) []any {
	if list, ok := reply.([]any); ok {
		return list
	}
	return []any{reply}
}

// host is the node's without the port.
func (n *node) host() string {
	host, _, err := net.SplitHostPort(n.addr)
	if err != nil {
		return n.addr
	}
	return host
}
