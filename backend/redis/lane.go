package redis

import (
	"context"
	"fmt"
	"sync"
	"time"

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

// call is one command on its way.
type call struct {
	// ctx is the caller's: an acquire whose caller has gone before the send is
	// not sent.
	ctx context.Context
	// script is the one that the call runs; nil for a plain command.
	script *script
	args   []any // for a script EVALSHA's, the name and the SHA included
	// keys and own are, in place of args, the lock's in a script of many.
	keys, own []string
	// inFull sends a script of many as its text.
	inFull bool
	// grants says that the script may grant a lease, gated that it looks whether
	// the shard's stamp begins with start, which the link fills in.
	grants, gated bool
	start         string
	// slot is the Cluster slot of the call's keys; 0 without a Cluster.
	slot uint16
	// urgent chooses the lane.
	urgent bool
	// key is one of the call's slot that says nothing; only set where replicas
	// are waited for.
	key string
	// sent is the clock just before the send of the pipeline, now the server's
	// (µs) when it answered, if the script is one of many.
	sent driver.Instant
	now  int64
	// asking sends the call to a server to which its slot is still moving.
	asking bool
	// redirects are how often the call was sent elsewhere, began is when it was
	// first.
	redirects int
	began     driver.Instant
	done      func(c *call, reply []any, err error)
	// pending counts the call until it is completed; it may be nil.
	pending *sync.WaitGroup
}

func (c *call) complete(reply []any, err error) {
	c.done(c, reply, err)
	if c.pending != nil {
		c.pending.Done()
	}
}

// lane gathers calls into pipelines. A call that finds the lane idle is written
// at once; calls that arrive while pipelines are on their way form the next
// one.
type lane struct {
	// run sends calls and completes each, at once or later.
	run     func(batch []*call)
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
		c.complete(nil, fmt.Errorf("%w: %d calls wait for the server", driver.ErrUnavailable, maxPending))
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
	l.run(batch)
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
		l.run(batch)
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

// wanted completes the acquires whose callers have gone, and returns the other
// calls: what ends or prolongs a lease is sent all the same.
func wanted(batch []*call) []*call {
	wanted := batch[:0]
	for _, c := range batch {
		if err := c.ctx.Err(); err != nil && c.script == acquireScript {
			c.complete(nil, fmt.Errorf("%w: not sent: %w", driver.ErrUnavailable, err))
			continue
		}
		wanted = append(wanted, c)
	}
	return wanted
}

// submit sends a call by the lane of its server.
func (s *Store) submit(c *call, inline bool) {
	if n := s.topology.route(c.slot); n != nil {
		n.lane(c).submit(c, inline)
		return
	}
	s.topology.unrouted.submit(c, inline)
}

// run sends calls past the lanes, those of one server in pipelines of at most so
// many, and waits until each is completed: as long as a server may take, or until
// a deadline of ctx.
func (s *Store) run(ctx context.Context, calls []*call, most int) {
	var pending sync.WaitGroup
	pending.Add(len(calls))
	for _, c := range calls {
		c.pending = &pending
	}
	for n, batch := range s.topology.group(calls) {
		for len(batch) > 0 {
			part := batch[:min(len(batch), most):min(len(batch), most)]
			batch = batch[len(part):]
			if n == nil {
				go s.topology.find(part)
			} else {
				go n.exec(ctx, part)
			}
		}
	}
	pending.Wait()
}

// read runs plain commands. If ctx ends first, they go on without the caller.
func (s *Store) read(ctx context.Context, calls []*call) error {
	ended := make(chan struct{})
	go func() { // it ends with the calls, which the client's timeouts bound
		s.run(context.WithoutCancel(ctx), calls, len(calls))
		close(ended)
	}()
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
	}
}

// do sends a call and waits for its answer. If ctx ends first, the outcome is
// unknown and the call goes on. request is the request id of an acquire.
func (s *Store) do(ctx context.Context, c *call, request string) (*call, []any, error) {
	if err := s.check(ctx); err != nil {
		return nil, nil, err
	}
	var reply []any
	var err error
	answered := make(chan struct{})
	c.ctx = ctx
	c.done = func(_ *call, r []any, e error) {
		reply, err = r, e
		close(answered)
	}
	// A caller that writes its own pipeline is held up for as long as the
	// server may take, so one that cannot wait for that does not.
	end, bounded := ctx.Deadline()
	s.submit(c, !bounded || time.Until(end) >= s.o.Timeout)
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
