package embedded

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"slices"
	"sync"
	"sync/atomic"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxBatch bounds the locks whose changes wait for the disk; beyond it calls are
// refused. Calls that gave up waiting on a disk that hangs leave their changes
// behind.
const maxBatch = 1 << 16

// disk puts changes into the file, those that came while it was writing in one
// transaction. It owns one goroutine, run, until close.
type disk struct {
	// write makes the values durable, nil meaning that the record is deleted. It
	// fails with errUncertain if they may be, with anything else if they are not.
	write func(values map[string][]byte) error
	// shut closes the file.
	shut func() error

	mu      sync.Mutex
	next    *batch
	closing bool
	// kick has room for one: a change waits.
	kick  chan struct{}
	ended chan struct{}
	// broken is why nothing is written any more.
	broken atomic.Pointer[error]
}

// errUncertain: a transaction may or may not be durable, and the file is not to
// be written any more.
var errUncertain = errors.New("whether the last write is on the disk is unknown")

// batch is one transaction.
type batch struct {
	entries map[string]*entry
	// done is closed when the fate of each entry is known.
	done chan struct{}
}

// entry is the newest state of a lock in a batch.
type entry struct {
	batch *batch
	shard *shard
	value []byte
	// err is guarded by the shard's mutex until the batch is done.
	err error
}

func newBatch() *batch {
	return &batch{entries: make(map[string]*entry), done: make(chan struct{})}
}

func newDisk(write func(map[string][]byte) error, shut func() error) *disk {
	d := &disk{write: write, shut: shut, next: newBatch(), kick: make(chan struct{}, 1), ended: make(chan struct{})}
	go d.run()
	return d
}

// refuses says why no change can be made durable now.
func (d *disk) refuses() error {
	if why := d.broken.Load(); why != nil {
		return fmt.Errorf("%w: %w; restart the daemon once the disk is in order", driver.ErrUnavailable, *why)
	}
	d.mu.Lock()
	defer d.mu.Unlock()
	switch {
	case d.closing:
		return driver.ErrClosed
	case len(d.next.entries) >= maxBatch:
		return fmt.Errorf("%w: %d changes wait for the disk", driver.ErrUnavailable, maxBatch)
	}
	return nil
}

// join adds the lock's newest state to the next transaction. The shard's mutex
// is held, so that the states of a lock come in their order.
func (d *disk) join(s *shard, lockID string, value []byte) *entry {
	d.mu.Lock()
	defer d.mu.Unlock()
	b := d.next
	if d.closing { // nobody will write it
		b = newBatch()
		close(b.done)
		return &entry{batch: b, shard: s, err: driver.ErrClosed}
	}
	e := b.entries[lockID]
	if e == nil {
		e = &entry{batch: b, shard: s}
		b.entries[lockID] = e
	}
	e.value = value
	select {
	case d.kick <- struct{}{}:
	default:
	}
	return e
}

// run writes batches until close. A change alone waits for no company: what
// comes while it is written goes together.
func (d *disk) run() {
	defer close(d.ended)
	for range d.kick {
		d.mu.Lock()
		b, last := d.next, d.closing
		d.next = newBatch()
		d.mu.Unlock()
		d.commit(b)
		if last {
			return
		}
	}
}

// commit writes a batch and settles it: what is not written is taken back in
// memory, before anybody is answered.
func (d *disk) commit(b *batch) {
	values := make(map[string][]byte, len(b.entries))
	for id, e := range b.entries {
		values[id] = e.value
	}
	err := d.try(values)
	for _, id := range slices.Sorted(maps.Keys(b.entries)) {
		e := b.entries[id]
		e.shard.mu.Lock()
		switch {
		case err == nil:
			e.shard.written(id, e)
		case errors.Is(err, errUncertain):
			e.err = fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
			e.shard.written(id, e)
		default:
			e.err = fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
			e.shard.takeBack(d, id, e)
		}
		e.shard.mu.Unlock()
	}
	close(b.done)
}

// try writes, unless an earlier write left the file uncertain.
func (d *disk) try(values map[string][]byte) error {
	if why := d.broken.Load(); why != nil {
		return fmt.Errorf("nothing is written any more, because of an earlier failure: %v", *why) //nolint:errorlint // this write is certainly not done
	}
	if len(values) == 0 {
		return nil
	}
	err := d.write(values)
	if errors.Is(err, errUncertain) {
		d.broken.Store(&err)
	}
	return err
}

// forget takes a lock's state out of the next transaction.
func (d *disk) forget(lockID string) {
	d.mu.Lock()
	defer d.mu.Unlock()
	delete(d.next.entries, lockID)
}

// close writes what waits and closes the file.
func (d *disk) close() error {
	d.mu.Lock()
	closed := d.closing
	d.closing = true
	select {
	case d.kick <- struct{}{}:
	default:
	}
	d.mu.Unlock()
	<-d.ended
	if closed {
		return nil
	}
	return d.shut()
}

// wait returns once the entry is durable, or why it is not; nil is.
func (e *entry) wait(ctx context.Context, timeout time.Duration) error {
	if e == nil {
		return nil
	}
	select {
	case <-e.batch.done:
		return e.err
	default:
	}
	t := time.NewTimer(timeout)
	defer t.Stop()
	select {
	case <-e.batch.done:
		return e.err
	case <-ctx.Done():
		return fmt.Errorf("%w: %w while the disk was written", driver.ErrIndeterminate, ctx.Err())
	case <-t.C:
		return fmt.Errorf("%w: the disk has not answered for %v", driver.ErrIndeterminate, timeout)
	}
}

// deliver passes hints on. No mutex is held.
func deliver(hints []addressed) {
	for _, h := range hints {
		if h.to != nil {
			h.to.hint(h.Hint)
		}
	}
}
