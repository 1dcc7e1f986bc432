package dynamodb

import (
	"context"
	"sync"
	"time"

	sdk "github.com/aws/aws-sdk-go-v2/service/dynamodb"
	"github.com/aws/aws-sdk-go-v2/service/dynamodb/types"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A driver's waiters for one lock have one heartbeat, in an item of its own: it
// costs as little for a long queue as for a short one, and does not compete with
// the writes of the lock.

const (
	// beatsPerPlace is how often a heartbeat is raised in the time of a place.
	beatsPerPlace = 4
	// checksPerPlace is how often it is looked at.
	checksPerPlace = 2
	// beatsAtOnce bounds the heartbeats that are read together.
	beatsAtOnce = 100
)

// sound raises this driver's heartbeat for a lock, if it is time to. A failure is
// made good by the next poll.
func (s *Store) sound(ctx context.Context, lockID string, ttl time.Duration) {
	name := beatName{lockID, s.id}
	if o, ok := s.beats.known(name); ok && s.o.Clock.Now().Sub(o.since) < ttl/beatsPerPlace {
		return
	}
	if !s.sounding.begin(name) {
		return // another call does
	}
	defer s.sounding.end(name)
	beat := s.beat(0)
	_, sent, err := once(ctx, s, writes, s.client.PutItem, &sdk.PutItemInput{
		TableName: &s.o.Table, Item: map[string]value{"k": text(s.beatKey(name)), "hb": number(beat)},
	})
	if err == nil {
		s.beats.wrote(name, beat, ttl, sent)
	}
}

// sounding are the heartbeats that are under way: a crowd that comes to a lock
// together needs one.
type sounding struct {
	mu  sync.Mutex
	all map[beatName]bool
}

func (s *sounding) begin(name beatName) bool {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.all[name] {
		return false
	}
	if s.all == nil {
		s.all = make(map[beatName]bool)
	}
	s.all[name] = true
	return true
}

func (s *sounding) end(name beatName) {
	s.mu.Lock()
	defer s.mu.Unlock()
	delete(s.all, name)
}

// listen reads the heartbeats of the other drivers that have waiters in the queue,
// those that were not looked at for long, and fills in which places are dead. What
// cannot be read counts as living.
func (s *Store) listen(ctx context.Context, r *record) {
	now := s.o.Clock.Now()
	due := make(map[string]time.Duration)
	for _, w := range r.waiters {
		if w.driver == s.id || len(due) == beatsAtOnce {
			continue
		}
		if o, ok := s.beats.known(beatName{r.id, w.driver}); !ok || now.Sub(o.checked) >= w.ttl/checksPerPlace {
			due[w.driver] = w.ttl
		}
	}
	if len(due) == 0 {
		return
	}
	consistent := true
	get := types.KeysAndAttributes{ConsistentRead: &consistent}
	drivers := make(map[string]string)
	for d := range due {
		key := s.beatKey(beatName{r.id, d})
		drivers[key] = d
		get.Keys = append(get.Keys, map[string]value{"k": text(key)})
	}
	out, _, err := once(ctx, s, reads, s.client.BatchGetItem, &sdk.BatchGetItemInput{RequestItems: map[string]types.KeysAndAttributes{s.o.Table: get}})
	if err != nil {
		return
	}
	now = s.o.Clock.Now()
	found := make(map[string]int64)
	for _, item := range out.Responses[s.o.Table] {
		d := &reader{}
		if key, beat := d.text(item, "k"), d.number(item, "hb"); d.bad == "" {
			found[drivers[key]] = beat
		}
	}
	for _, key := range out.UnprocessedKeys[s.o.Table].Keys {
		delete(due, drivers[(&reader{}).text(key, "k")])
	}
	for d := range due {
		s.beats.read(beatName{r.id, d}, found[d], due[d], now)
	}
	s.look(r, moment{now: now})
}

// bury deletes the heartbeat of a driver that has no waiters left, unless it beats
// again.
func (s *Store) bury(name beatName) {
	o, ok := s.beats.known(name)
	if !ok || o.beat == 0 {
		return
	}
	s.beats.forget(name)
	s.chores.do(func() {
		condition := deadBeatCondition
		// Failed, it leaves a small item behind.
		_, _, _ = once(s.stopped, s, writes, s.client.DeleteItem, &sdk.DeleteItemInput{
			TableName: &s.o.Table, Key: map[string]value{"k": text(s.beatKey(name))},
			ConditionExpression: &condition, ExpressionAttributeValues: map[string]value{":hb": number(o.beat)},
		})
	})
}

// maxChores bounds what is cleared away at a time.
const maxChores = 32

// chores are done beside the calls; each is one bounded request.
type chores struct {
	mu     sync.Mutex
	n      int
	closed bool
	wg     sync.WaitGroup
}

func (c *chores) do(f func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.closed || c.n == maxChores {
		return
	}
	c.n++
	c.wg.Go(func() {
		f()
		c.mu.Lock()
		defer c.mu.Unlock()
		c.n--
	})
}

// close waits for those under way.
func (c *chores) close() {
	c.mu.Lock()
	c.closed = true
	c.mu.Unlock()
	c.wg.Wait()
}

// hint tells this driver's watcher, if there is one.
func (s *Store) hint(h driver.Hint) {
	s.watching.Lock()
	defer s.watching.Unlock()
	if s.sink != nil {
		s.sink(h)
	}
}

// wake hints at those of this driver's waiters that could be granted.
func (s *Store) wake(r *record) {
	for _, request := range r.grantable(s.id) {
		s.hint(driver.Hint{Kind: driver.HintGrantable, LockID: r.id, RequestID: request})
	}
}

// WatchLocal calls sink for what this driver's own calls make grantable, or find
// so, for its own waiters, and for what they do to its own leases.
func (s *Store) WatchLocal(ctx context.Context, sink func(driver.Hint)) error {
	if err := s.check(ctx); err != nil {
		return err
	}
	s.setSink(sink)
	defer s.setSink(nil)
	select {
	case <-s.stopped.Done():
		return driver.ErrClosed
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Store) setSink(sink func(driver.Hint)) {
	s.watching.Lock()
	defer s.watching.Unlock()
	s.sink = sink
}
