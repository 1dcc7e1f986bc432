package deadlock

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// MaxLocks bounds the contended locks of one store that are looked at.
	MaxLocks = 10_000
	// pageSize is how many of them are read at a time.
	pageSize = 500
	// readTimeout bounds the reading of one store.
	readTimeout = 2 * time.Second
	// again is how many locks are read a second time at once.
	again = 16
)

// Store is what is needed of a store to find deadlocks; *backend.Store is one.
type Store interface {
	Name() string
	List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error)
	Get(ctx context.Context, lockID string) (*driver.Lock, error)
}

// Deadlock is a cycle of owners that wait for each other.
type Deadlock struct {
	// ID names the deadlock: whoever finds it gives it the same id.
	ID string
	// Waits are the cycle: each owner waits for the next one, the last for the
	// first. It begins with the least owner id.
	Waits []backend.Wait
	// Victim is the index of the wait that is to end if the deadlock is to be
	// broken.
	Victim int

	// stores are the numbers of the stores of Waits; victim is the victim's step.
	stores []int
	victim step
}

// identify makes the id of what every sidecar knows alike: not of the backends'
// names.
func identify(waits []backend.Wait) string {
	sum := sha256.New()
	for _, w := range waits {
		_, _ = fmt.Fprintf(sum, "%s\x00%s\x00%d\x00%s\x00%d\x00", w.LockID, w.OwnerID, w.Ticket, w.For, w.Token) // it never fails
	}
	return hex.EncodeToString(sum.Sum(nil)[:8])
}

// Finding is what one look found.
type Finding struct {
	Deadlocks []Deadlock
	// Locks is how many contended locks were looked at, Waiters how many places
	// with an owner who was named were in their queues.
	Locks, Waiters int
	// Truncated: a limit was reached (MaxLocks, MaxSteps or MaxFound); there may be
	// more.
	Truncated bool
	// Failed are the names of the stores that could not be read.
	Failed []string
	// Err says why.
	Err error
}

// Find looks for deadlocks over the stores. Settle is the pause between its two
// readings, in which what is about to end by itself may do so.
func Find(ctx context.Context, stores []Store, settle time.Duration) *Finding {
	return find(ctx, stores, settle, again)
}

func find(ctx context.Context, stores []Store, settle time.Duration, atOnce int) *Finding {
	f := &Finding{}
	g := newGraph(f.list(ctx, stores))
	f.Truncated = f.Truncated || g.truncated
	knots := g.knots(all)
	if len(knots) == 0 {
		return f
	}
	t := time.NewTimer(settle)
	defer t.Stop()
	select {
	case <-t.C:
	case <-ctx.Done():
		f.Err = ctx.Err()
		return f
	}
	later := f.reread(ctx, stores, g.knotted(knots), atOnce)
	g.keep(func(s *step) bool { return s.in(later) })
	f.Deadlocks = g.deadlocks()
	f.Truncated = f.Truncated || len(f.Deadlocks) >= MaxFound
	for i := range f.Deadlocks {
		d := &f.Deadlocks[i]
		for j, store := range d.stores {
			d.Waits[j].Backend = stores[store].Name()
		}
	}
	return f
}

func all(int) bool { return true }

// list reads the contended locks of all stores.
func (f *Finding) list(ctx context.Context, stores []Store) reading {
	r := make(reading)
	for n, s := range stores {
		if err := f.listOne(ctx, n, s, r); err != nil {
			f.failed(s, err)
		}
	}
	f.Locks = len(r)
	for _, l := range r {
		for i := range l.Waiters {
			if !backend.IsAnonymous(l.Waiters[i].OwnerID) {
				f.Waiters++
			}
		}
	}
	return r
}

func (f *Finding) listOne(ctx context.Context, n int, s Store, r reading) error {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	req := &driver.ListRequest{Contended: true, PageSize: pageSize}
	for read := 0; ; {
		page, err := s.List(ctx, req)
		var invalid *backend.InvalidError
		if errors.As(err, &invalid) && req.PageSize > 1 { // a smaller limit is configured
			req.PageSize /= 2
			continue
		}
		if err != nil {
			return err
		}
		for i := range page.Locks {
			if read == MaxLocks {
				f.Truncated = true
				return nil
			}
			r[location{n, page.Locks[i].LockID}] = &page.Locks[i]
			read++
		}
		if req.PageToken = page.NextPageToken; req.PageToken == "" {
			return nil
		}
	}
}

func (f *Finding) failed(s Store, err error) {
	f.Failed = append(f.Failed, s.Name())
	f.Err = errors.Join(f.Err, fmt.Errorf("%s: %w", s.Name(), err))
}

// reread reads the locks at which somebody in a knot waits once more. One that
// cannot be read counts as free.
func (f *Finding) reread(ctx context.Context, stores []Store, ats []location, atOnce int) reading {
	ctx, cancel := context.WithTimeout(ctx, readTimeout)
	defer cancel()
	locks, failed := make([]*driver.Lock, len(ats)), make([]error, len(ats))
	var readers sync.WaitGroup
	next := make(chan int)
	for range min(atOnce, len(ats)) {
		readers.Go(func() {
			for i := range next {
				locks[i], failed[i] = stores[ats[i].store].Get(ctx, ats[i].lock)
			}
		})
	}
	for i := range ats {
		next <- i
	}
	close(next)
	readers.Wait()
	r := make(reading, len(ats))
	told := make(map[int]bool)
	for i, at := range ats {
		if failed[i] == nil {
			r[at] = locks[i]
		} else if !told[at.store] {
			told[at.store] = true
			f.failed(stores[at.store], failed[i])
		}
	}
	return r
}
