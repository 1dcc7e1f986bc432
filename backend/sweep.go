package backend

import (
	"context"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// sweepEvery is the pace of the sweeps; what one costs is the driver's
	// promise.
	sweepEvery = 250 * time.Millisecond
	// sweepTimeout bounds one sweep with its acknowledgement.
	sweepTimeout = 2 * time.Second
	// maxTold bounds the ends that wait to be acknowledged. What exceeds it is
	// reported again, under the same name.
	maxTold = 4096
)

// ends are those that the observer knows and the store still keeps.
type ends struct {
	// kept: the store keeps ends until they are told, and here is who tells them.
	kept bool
	mu   sync.Mutex
	told []driver.Ended
}

// tell reports ends to the observer, with what is known beside them.
func (s *Store) tell(about Event, ended ...driver.Ended) {
	for i := range ended {
		e := &ended[i]
		about.Kind, about.LockID, about.OwnerID, about.Token, about.Shared, about.Cause = Ended, e.LockID, e.OwnerID, e.Token, e.Shared, e.Cause
		s.o.Observer.Happened(about)
	}
	if !s.ends.kept || len(ended) == 0 {
		return
	}
	s.ends.mu.Lock()
	defer s.ends.mu.Unlock()
	if len(s.ends.told)+len(ended) <= maxTold {
		s.ends.told = append(s.ends.told, ended...)
	}
}

// sweep looks for expired leases until the store is closed.
func (s *Store) sweep(w driver.Sweeper) {
	t := time.NewTicker(sweepEvery)
	defer t.Stop()
	failing := false
	for {
		select {
		case <-t.C:
		case <-s.stopped.Done():
			ctx, cancel := context.WithTimeout(context.Background(), sweepTimeout)
			defer cancel()
			_ = s.acknowledge(ctx, w) // else they are reported again
			return
		}
		ctx, cancel := context.WithTimeout(s.stopped, sweepTimeout)
		found, err := w.Sweep(ctx)
		s.tell(Event{}, found...)
		if told := s.acknowledge(ctx, w); err == nil {
			err = told
		}
		cancel()
		if s.stopped.Err() == nil && failing != (err != nil) {
			failing = err != nil
			if failing {
				s.o.Logger.Warn("expired leases for which nobody waits are not found", driver.LogBackend, s.o.Name, driver.LogError, err)
			} else {
				s.o.Logger.Info("expired leases for which nobody waits are found again", driver.LogBackend, s.o.Name)
			}
		}
	}
}

// acknowledge tells the store to forget what the observer knows.
func (s *Store) acknowledge(ctx context.Context, w driver.Sweeper) error {
	s.ends.mu.Lock()
	told := s.ends.told
	s.ends.told = nil
	s.ends.mu.Unlock()
	if len(told) == 0 {
		return nil
	}
	err := w.Told(ctx, told)
	if err != nil {
		s.ends.mu.Lock()
		defer s.ends.mu.Unlock()
		if len(s.ends.told)+len(told) <= maxTold {
			s.ends.told = append(s.ends.told, told...)
		}
	}
	return err
}
