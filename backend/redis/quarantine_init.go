package redis

import (
	"context"
	"errors"
	"fmt"
	"strings"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// initFor bounds the time for which others wait for one that initialises.
	initFor = 10 * time.Second
	// initPoll is how often they look.
	initPoll = 20 * time.Millisecond
	// initDone is the mark of a store that was initialised or is in use.
	initDone = "done"
)

// fresh is whether a store that is said to be new whenever it is empty was met.
type fresh struct {
	done atomic.Bool
	mu   sync.Mutex
	// begun: no shard had a stamp when this driver began to stamp them.
	begun atomic.Bool
	// meeting is the first contact in the background; start guards its start.
	start   sync.Mutex
	met     bool
	meeting sync.WaitGroup
}

// settled says that there is nothing to do before a grant.
func (f *fresh) settled(s *Store) bool { return !s.o.New || f.done.Load() }

// meet initialises a store that is said to be new in the background, so that this
// is not left to the first acquire, which may come long after.
func (s *Store) meet() {
	if s.fresh.settled(s) {
		return
	}
	s.fresh.start.Lock()
	defer s.fresh.start.Unlock()
	if !s.fresh.met && !s.closed.Load() {
		s.fresh.met = true
		s.fresh.meeting.Go(func() { _ = s.initialised(s.stopped) }) // the calls try again, and report it
	}
}

// end waits for the first contact after the driver was closed.
func (f *fresh) end() {
	f.start.Lock()
	defer f.start.Unlock()
	f.meeting.Wait()
}

// initialised initialises a store that is said to be new, once in a driver's
// life: what is lost later was not new.
func (s *Store) initialised(ctx context.Context) error {
	if s.fresh.settled(s) {
		return nil
	}
	s.fresh.mu.Lock()
	defer s.fresh.mu.Unlock()
	if s.fresh.done.Load() {
		return nil
	}
	ctx, cancel := context.WithTimeout(ctx, initFor)
	defer cancel()
	if _, err := s.initialise(ctx); err != nil {
		if errors.Is(err, driver.ErrClosed) || errors.Is(err, driver.ErrInvalid) {
			return err
		}
		// The acquire that it was done for was not sent.
		return fmt.Errorf("%w: stamping the store: %v", driver.ErrUnavailable, err) //nolint:errorlint // an unknown outcome of it is not the acquire's
	}
	s.fresh.done.Store(true)
	return nil
}

// Init stamps every shard of a new store open. It does so only if none has a
// stamp: it never opens a store that is in use or in quarantine. Of the latter it
// fails with a driver.QuarantineError that says for how long.
func (s *Store) Init(ctx context.Context) (done bool, err error) {
	if done, err = s.initialise(ctx); done || err != nil {
		return done, err
	}
	var longest time.Duration
	var mu sync.Mutex // several servers answer at once
	err = s.eachShard(ctx, func(shard int, failed *error) *call {
		return s.stamp(ctx, shard, s.o.MaxTTL+margin, false, func(_ bool, stamp string, now int64, err error) {
			mu.Lock()
			defer mu.Unlock()
			if *failed = err; err == nil {
				*failed = s.otherTTL(stamp)
			}
			longest = max(longest, time.Duration(integer(stamp[strings.LastIndexByte(stamp, ' ')+1:])-now)*time.Microsecond)
		})
	})
	if err == nil && longest > 0 {
		err = &driver.QuarantineError{Reason: reasonPending, Remaining: longest}
	}
	return false, err
}

// eachShard runs a call for each shard, those of a pipeline at a time, until one
// fails.
func (s *Store) eachShard(ctx context.Context, build func(shard int, failed *error) *call) error {
	for from := 0; from < shards; from += maxBatch {
		var batch []*call
		var failed [maxBatch]error
		for i := range failed {
			batch = append(batch, build(from+i, &failed[i]))
		}
		s.run(ctx, batch, maxBatch)
		if err := firstOf(failed[:]); err != nil {
			return err
		}
	}
	return nil
}

func (s *Store) initialise(ctx context.Context) (done bool, err error) {
	if err := s.check(ctx); err != nil {
		return false, err
	}
	first, err := s.claim(ctx)
	if err != nil || !first {
		return false, err
	}
	if !s.fresh.begun.Load() { // else it goes on where it was interrupted
		stamps, err := s.stamps(ctx)
		if err != nil {
			return false, err
		}
		for _, stamp := range stamps {
			if stamp != "" {
				_, err := s.mark(ctx, initDone)
				return false, err
			}
		}
		s.fresh.begun.Store(true)
	}
	err = s.eachShard(ctx, func(shard int, failed *error) *call {
		return s.stamp(ctx, shard, 0, true, func(_ bool, stamp string, _ int64, err error) {
			if *failed = err; err == nil {
				*failed = s.otherTTL(stamp)
			}
		})
	})
	if err != nil {
		return false, err
	}
	_, err = s.mark(ctx, initDone)
	return err == nil, err
}

func firstOf(errs []error) error {
	for _, err := range errs {
		if err != nil {
			return err
		}
	}
	return nil
}

// claim makes the caller the one that initialises, or waits until another one
// has done so: first says whether it is the caller.
func (s *Store) claim(ctx context.Context) (first bool, err error) {
	for {
		was, err := s.mark(ctx, "", "get")
		if err != nil || was == initDone {
			return false, err
		}
		if was == s.inbox {
			return true, nil
		}
		if was == "" {
			if was, err = s.mark(ctx, s.inbox, "nx", "px", initFor.Milliseconds()); err != nil || was == "OK" {
				return err == nil, err
			}
		}
		pause := time.NewTimer(initPoll)
		select {
		case <-pause.C:
		case <-ctx.Done():
			pause.Stop()
			return false, fmt.Errorf("%w: another sidecar initialises the store: %w", driver.ErrUnavailable, ctx.Err())
		}
	}
}

// mark sets the store's mark, or with "get" as the option reads it.
func (s *Store) mark(ctx context.Context, value string, options ...any) (was string, err error) {
	key := s.o.Prefix + ":store"
	args := append([]any{"set", key, value}, options...)
	if len(options) == 1 && options[0] == "get" {
		args = []any{"get", key}
	}
	c := &call{ctx: ctx, args: args, urgent: true}
	if s.slots != nil {
		c.slot = slotOf(key)
	}
	var found string
	var failed error
	c.done = func(_ *call, reply []any, err error) { found, failed = fields(reply).text(0), err }
	if err := s.read(ctx, []*call{c}); err != nil {
		return "", err // the call may still be on its way
	}
	return found, failed
}

// stamps reads the stamps of all shards; "" where there is none.
func (s *Store) stamps(ctx context.Context) ([]string, error) {
	found, failed := make([]string, shards), make([]error, shards)
	calls := make([]*call, shards)
	for shard := range shards {
		c := &call{ctx: ctx, args: []any{"get", s.shardPrefix(shard) + "z"}, slot: s.slot(shard), urgent: true}
		c.done = func(_ *call, reply []any, err error) { found[shard], failed[shard] = fields(reply).text(0), err }
		calls[shard] = c
	}
	if err := s.read(ctx, calls); err != nil {
		return nil, err
	}
	return found, firstOf(failed)
}
