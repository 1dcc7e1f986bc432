package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"strings"
	"sync"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// maxFlying is how many pipelines are on their way at once: while one is
	// answered the other gathers.
	maxFlying = 2
	// maxBatch bounds a pipeline, so that no caller waits for too many others.
	maxBatch = 256
)

// call is one script on its way.
type call struct {
	script *script
	args   []any // EVALSHA's, the name and the SHA included
	// sent is the clock just before the send of the pipeline.
	sent driver.Instant
	done func(c *call, reply []any, err error)
}

// lane gathers calls into pipelines. A call that finds the lane idle is written
// at once; calls that arrive while pipelines are on their way form the next
// one. The queue is bounded by its callers: each waits for its call.
type lane struct {
	s       *Store
	mu      sync.Mutex
	pending []*call
	flying  int
}

// submit sends a call. With inline, the caller's goroutine writes the pipeline
// if the lane is idle.
func (l *lane) submit(c *call, inline bool) {
	l.mu.Lock()
	l.pending = append(l.pending, c)
	if l.flying == maxFlying {
		l.mu.Unlock()
		return
	}
	l.flying++
	batch := l.take()
	l.mu.Unlock()
	if inline {
		l.s.exec(batch)
		// Others may have come meanwhile; the caller does not work for them.
		if batch = l.next(); batch != nil {
			go l.fly(batch)
		}
		return
	}
	go l.fly(batch)
}

// fly writes pipelines until nothing is pending.
func (l *lane) fly(batch []*call) {
	for ; batch != nil; batch = l.next() {
		l.s.exec(batch)
	}
}

func (l *lane) next() []*call {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.pending) == 0 {
		l.flying--
		return nil
	}
	return l.take()
}

func (l *lane) take() []*call {
	n := min(len(l.pending), maxBatch)
	batch := l.pending[:n:n]
	if n == len(l.pending) {
		l.pending = nil
	} else {
		l.pending = l.pending[n:]
	}
	return batch
}

// exec sends calls as one pipeline and completes each. A script that the
// server does not know is loaded and sent once more: NOSCRIPT proves that it
// did not run.
func (s *Store) exec(batch []*call) {
	unknown := s.pipeline(batch)
	if len(unknown) == 0 {
		return
	}
	loaded := make(map[*script]error)
	ctx := context.Background() // bounded by the client's timeouts
	for _, c := range unknown {
		if _, seen := loaded[c.script]; !seen {
			loaded[c.script] = s.client.ScriptLoad(ctx, c.script.text).Err()
		}
	}
	again := unknown[:0]
	for _, c := range unknown {
		if err := loaded[c.script]; err != nil {
			c.done(c, nil, fmt.Errorf("%w: loading a script: %w", driver.ErrUnavailable, err))
			continue
		}
		again = append(again, c)
	}
	for _, c := range s.pipeline(again) {
		c.done(c, nil, fmt.Errorf("%w: the server forgets its scripts at once", driver.ErrUnavailable))
	}
}

// pipeline sends the calls, completes those that were answered and returns
// those whose script is unknown.
func (s *Store) pipeline(batch []*call) (unknown []*call) {
	if len(batch) == 0 {
		return nil
	}
	ctx := context.Background() // bounded by the client's timeouts
	pipe := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		cmds[i] = pipe.Do(ctx, c.args...)
	}
	sent := s.o.Clock.Now()
	_, _ = pipe.Exec(ctx) // each command keeps its own error
	for i, c := range batch {
		c.sent = sent
		reply, err := cmds[i].Slice()
		if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			unknown = append(unknown, c)
			continue
		}
		c.done(c, reply, s.outcome(err))
	}
	return unknown
}

// refusals are the replies by which a server says that it did not run the
// command at all.
var refusals = []string{
	"LOADING", "READONLY", "OOM", "MISCONF", "MASTERDOWN", "NOREPLICAS", "BUSY", "CLUSTERDOWN", "TRYAGAIN",
	"MOVED", "ASK", "NOAUTH", "WRONGPASS", "NOPERM", "ERR max number of clients",
}

// outcome says what an error proves about the command.
func (s *Store) outcome(err error) error {
	if err == nil {
		return nil
	}
	var reply redis.Error
	var op *net.OpError
	switch {
	case s.closed.Load() || errors.Is(err, redis.ErrClosed):
		return driver.ErrClosed
	case errors.As(err, &reply):
		for _, prefix := range refusals {
			if strings.HasPrefix(reply.Error(), prefix) {
				return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
			}
		}
	case errors.Is(err, redis.ErrPoolTimeout), errors.As(err, &op) && op.Op == "dial":
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
}

// do sends a call and waits for its answer. If ctx ends first, the outcome is
// unknown.
func (s *Store) do(ctx context.Context, l *lane, sc *script, lockID string, args ...any) (*call, []any, error) {
	if err := s.check(ctx); err != nil {
		return nil, nil, err
	}
	type answer struct {
		reply []any
		err   error
	}
	answered := make(chan answer, 1)
	c := &call{script: sc, args: s.args(sc, lockID, args), done: func(_ *call, reply []any, err error) {
		answered <- answer{reply, err}
	}}
	l.submit(c, true)
	select {
	case a := <-answered:
		return c, a.reply, a.err
	case <-ctx.Done():
		return c, nil, fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
	}
}
