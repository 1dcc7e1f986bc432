package driver

import (
	"context"
	"time"
)

// Measurer is the optional ability to ask the store how it is. The fallback is
// to know nothing of it: no figures are shown, and no alert can rest on them.
type Measurer interface {
	// Measure asks the store's servers. The caller does so every few seconds at
	// most, with a deadline, and never on the way of a lock's own call.
	Measure(ctx context.Context) (Vitals, error)
}

// Vitals are figures about the condition of a store.
type Vitals struct {
	// Replicates: the store tells of its replicas. Else Replicas and
	// ReplicationLag mean nothing.
	Replicates bool
	// Replicas is how many follow their primaries now, of all servers.
	Replicas int
	// ReplicationLag is since when the replica that is the furthest behind has
	// not confirmed what it has, in the store's own resolution; 0 while there is
	// none.
	ReplicationLag time.Duration
	// MemoryUsed is the share of the memory, or of the quota, that is in use, of
	// the server that is the fullest; 0 if the store does not tell.
	MemoryUsed float64
}
