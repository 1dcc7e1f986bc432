package redis

import (
	"context"
	"fmt"
	"strings"
	"sync"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// maxFlying is how many pipelines are on their way at once: while one is
	// answered the other gathers.
	maxFlying = 2
	// maxBatch bounds a pipeline, so that no caller waits for too many others.
	maxBatch = 256
	// maxPending bounds the acquires that wait for a pipeline, at a server that
	// does not keep up. The other calls are not refused: a limit must not lose
	// leases, and there are no more of them than of leases and places.
	maxPending = 1 << 15
)

// call is one script on its way.
type call struct {
	// ctx is the caller's: an acquire whose caller has gone before the send is
	// not sent.
	ctx    context.Context
	script *script
	args   []any // EVALSHA's, the name and the SHA included
	// sent is the clock just before the send of the pipeline.
	sent driver.Instant
	done func(c *call, reply []any, err error)
}

// lane gathers calls into pipelines. A call that finds the lane idle is written
// at once; calls that arrive while pipelines are on their way form the next
// one.
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
	if len(l.pending) >= maxPending && c.script == acquireScript {
		l.mu.Unlock()
		c.done(c, nil, fmt.Errorf("%w: %d calls wait for the server", driver.ErrUnavailable, maxPending))
		return
	}
	l.pending = append(l.pending, c)
	if l.flying == maxFlying {
		l.mu.Unlock()
		return
	}
	l.flying++
	if !inline {
		l.mu.Unlock()
		// The pipeline takes what has come by the time it is written: a burst
		// of calls is one.
		go l.fly(nil)
		return
	}
	batch := l.take()
	l.mu.Unlock()
	l.s.exec(context.Background(), batch) // bounded by the client's timeouts
	// Others may have come meanwhile; the caller does not work for them.
	if batch = l.next(); batch != nil {
		go l.fly(batch)
	}
}

// fly writes pipelines until nothing is pending; batch is the first, if it has
// been taken.
func (l *lane) fly(batch []*call) {
	if batch == nil {
		batch = l.next()
	}
	for ; batch != nil; batch = l.next() {
		l.s.exec(context.Background(), batch)
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
// server does not know is loaded and called once more, and one that is flushed
// even then is sent in full: NOSCRIPT proves that it did not run. The client's
// timeouts bound it, and so does a deadline of ctx; pipelines of several callers
// have none.
func (s *Store) exec(ctx context.Context, batch []*call) {
	unknown := s.pipeline(ctx, s.wanted(batch))
	if len(unknown) == 0 {
		return
	}
	loaded := make(map[*script]error)
	for _, c := range unknown {
		if _, seen := loaded[c.script]; !seen {
			loaded[c.script] = s.client.ScriptLoad(ctx, c.script.text).Err()
		}
	}
	again := unknown[:0]
	for _, c := range unknown {
		if err := loaded[c.script]; err != nil {
			if s.closed.Load() {
				err = driver.ErrClosed
			} else { // whatever became of the load, the call was not made
				err = fmt.Errorf("%w: loading a script: %w", driver.ErrUnavailable, err)
			}
			c.done(c, nil, err)
			continue
		}
		again = append(again, c)
	}
	again = s.pipeline(ctx, again)
	for _, c := range again {
		c.args[0], c.args[1] = "eval", c.script.text
	}
	for _, c := range s.pipeline(ctx, again) { // EVAL knows what it is given
		c.done(c, nil, fmt.Errorf("%w: NOSCRIPT in answer to EVAL", driver.ErrUnavailable))
	}
}

// wanted completes the acquires whose callers have gone, and returns the other
// calls: what ends or prolongs a lease is sent all the same.
func (s *Store) wanted(batch []*call) []*call {
	wanted := batch[:0]
	for _, c := range batch {
		if err := c.ctx.Err(); err != nil && c.script == acquireScript {
			c.done(c, nil, fmt.Errorf("%w: not sent: %w", driver.ErrUnavailable, err))
			continue
		}
		wanted = append(wanted, c)
	}
	return wanted
}

// pipeline sends the calls, completes those that were answered and returns
// those whose script is unknown.
func (s *Store) pipeline(ctx context.Context, batch []*call) (unknown []*call) {
	if len(batch) == 0 {
		return nil
	}
	pipe := s.client.Pipeline()
	cmds := make([]*redis.Cmd, len(batch))
	for i, c := range batch {
		cmds[i] = pipe.Do(ctx, c.args...)
	}
	sent := s.o.Clock.Now()
	_, failed := pipe.Exec(ctx)
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
			reply, err = cmds[i].Slice()
		}
		if err != nil && strings.HasPrefix(err.Error(), "NOSCRIPT") {
			unknown = append(unknown, c)
			continue
		}
		c.done(c, reply, s.outcome(err))
	}
	return unknown
}

// do sends a call and waits for its answer. If ctx ends first, the outcome is
// unknown and the call goes on. request is the request id of an acquire.
func (s *Store) do(ctx context.Context, l *lane, sc *script, lockID, request string, args ...any) (*call, []any, error) {
	if err := s.check(ctx); err != nil {
		return nil, nil, err
	}
	var reply []any
	var err error
	answered := make(chan struct{})
	c := &call{ctx: ctx, script: sc, args: s.args(sc, lockID, args), done: func(_ *call, r []any, e error) {
		reply, err = r, e
		close(answered)
	}}
	// A caller that writes its own pipeline is held up for as long as the
	// server may take, so one that cannot wait for that does not.
	end, bounded := ctx.Deadline()
	l.submit(c, !bounded || time.Until(end) >= s.o.Timeout)
	select {
	case <-answered:
		return c, reply, err
	default:
	}
	select {
	case <-answered:
		return c, reply, err
	case <-ctx.Done():
	}
	if request != "" {
		s.abandoned.add(request, answered)
		go func() { // it ends with the call, which the client's timeouts bound
			<-answered
			s.abandoned.forget(request, answered)
		}()
	}
	return nil, nil, fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
}
