package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// readEvery is how old a reading of the replication id may be before the
	// next pipeline takes another one along.
	readEvery = 200 * time.Millisecond
	// readMost is how old it may be when the answer comes.
	readMost = 500 * time.Millisecond
)

// errDoubt is of a grant for which another server's stamp may have spoken.
var errDoubt = fmt.Errorf("%w: the server became another one meanwhile", driver.ErrIndeterminate)

// link is a client of one connection, and what the server said on it of itself.
// Behind one address there may be different servers: only what a server said on
// the connection that carries a grant counts for it.
type link struct {
	node   *node
	client *redis.Client

	mu     sync.Mutex
	met    bool
	replID string
	at     driver.Instant
	change int
	used   string
}

// links are a node's, those that are idle last in first out.
type links struct {
	node *node
	mu   sync.Mutex
	idle []*link
	all  []*link
	last string
	// change counts how often one link read what another one had not: the others
	// then read anew.
	change int
	closed bool
}

// take returns an idle link or a new one. There are never more than pipelines on
// their way.
func (ls *links) take() *link {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if n := len(ls.idle); n > 0 {
		l := ls.idle[n-1]
		ls.idle = ls.idle[:n-1]
		return l
	}
	l := &link{node: ls.node}
	l.client = ls.node.connect(one, func(id *identity) { l.read(id.replID, id.readAt) })
	if ls.closed {
		_ = l.client.Close() // its calls say so
	} else {
		ls.all = append(ls.all, l)
	}
	return l
}

// one makes a client one of one connection, for pipelines too.
func one(o *redis.Options) { o.PoolSize, o.PipelinePoolSize = 1, -1 }

func (ls *links) give(l *link) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	if !ls.closed {
		ls.idle = append(ls.idle, l)
	}
}

func (ls *links) close() (err error) {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	ls.closed = true
	for _, l := range ls.all {
		err = errors.Join(err, l.client.Close())
	}
	return err
}

// lastReplID is what the server last said on any link.
func (ls *links) lastReplID() string {
	ls.mu.Lock()
	defer ls.mu.Unlock()
	return ls.last
}

func (l *link) read(replID string, at driver.Instant) {
	ls := &l.node.links
	ls.mu.Lock()
	if ls.last != replID {
		ls.last = replID
		ls.change++
	}
	change := ls.change
	ls.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	l.met, l.replID, l.at, l.change = true, replID, at, change
}

// link returns a connected link if one of the calls needs it, and the calls that
// are left to send: none, if there is no connection.
func (n *node) link(ctx context.Context, batch []*call) (*link, []*call) {
	needed := false
	for _, c := range batch {
		needed = needed || c.gated
	}
	if !needed {
		return nil, batch
	}
	l := n.links.take()
	if l.hasMet() {
		return l, batch
	}
	sent := n.s.o.Clock.Now()
	err := l.client.Ping(ctx).Err()
	if l.hasMet() {
		return l, batch
	}
	n.links.give(l)
	err = unsentError{err}
	for _, c := range batch {
		c.sent = sent
		if !n.s.topology.redirect(n, c, err) {
			c.complete(nil, n.s.outcome(err))
		}
	}
	return nil, nil
}

func (l *link) hasMet() bool {
	l.mu.Lock()
	defer l.mu.Unlock()
	return l.met
}

// fill gives the calls the start that a stamp must have.
func (l *link) fill(batch []*call) {
	l.mu.Lock()
	l.used = l.replID
	l.mu.Unlock()
	start := l.node.s.start(l.used)
	for _, c := range batch {
		if c.gated {
			c.start = start
		}
	}
}

// prove adds a reading to a pipeline of scripts if the last one is old. What it
// returns says after the pipeline whether the server was all the time the one
// that the calls were given: a replication id that was left never returns.
func (l *link) prove(ctx context.Context, pipe redis.Pipeliner) func() error {
	if l == nil {
		return func() error { return nil }
	}
	asked := l.node.s.o.Clock.Now()
	var reading *redis.StringCmd
	if l.age(asked) >= readEvery {
		reading = pipe.Info(ctx, "replication")
	}
	return func() error {
		if reading == nil && l.age(l.node.s.o.Clock.Now()) > readMost {
			asked = l.node.s.o.Clock.Now()
			reading = l.client.Info(ctx, "replication")
		}
		if reading != nil {
			replID, err := replIDOf(reading, l.node.s.o.AllowEviction)
			if err != nil {
				return fmt.Errorf("%w: %w", errDoubt, err)
			}
			l.read(replID, asked)
		}
		l.mu.Lock()
		defer l.mu.Unlock()
		if l.replID != l.used {
			return errDoubt
		}
		return nil
	}
}

// age is how old the reading is; another link's that differs makes it old.
func (l *link) age(now driver.Instant) time.Duration {
	ls := &l.node.links
	ls.mu.Lock()
	change := ls.change
	ls.mu.Unlock()
	l.mu.Lock()
	defer l.mu.Unlock()
	if l.change != change {
		return readMost + readEvery
	}
	return now.Sub(l.at)
}

func replIDOf(info *redis.StringCmd, silent bool) (string, error) {
	switch err := info.Err(); {
	case err != nil && silent && unknownCommand(err):
		return "", nil
	case err != nil:
		return "", err
	}
	for line := range strings.Lines(info.Val()) {
		if replID, ok := strings.CutPrefix(line, "master_replid:"); ok {
			return strings.TrimSpace(replID), nil
		}
	}
	return "", nil
}

func isGrant(reply []any) bool {
	r := fields(reply)
	return r.integer(0) > 0 || r.text(0) == "lease"
}
