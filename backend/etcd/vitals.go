package etcd

import (
	"context"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Measure tells how much of its quota each member had used when it was last asked
// who it is, which is at most once a minute: each question is a connection of its
// own. A member says so since 3.6.
func (s *Store) Measure(ctx context.Context) (v driver.Vitals, err error) {
	if err := s.check(ctx); err != nil {
		return v, err
	}
	s.members.look(s)
	s.members.mu.Lock()
	defer s.members.mu.Unlock()
	for _, used := range s.members.used {
		v.MemoryUsed = max(v.MemoryUsed, used)
	}
	return v, nil
}
