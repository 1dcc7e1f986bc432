package driver

import "time"

// ClockSource says whose clock a driver reads for tokens and expiry.
type ClockSource string

// The sources.
const (
	// ClockStore: the store's own clock decides; clients' clocks do not matter.
	ClockStore ClockSource = "store"
	// ClockProposer: tokens are proposed from the sidecar's wall clock,
	// conditionally on the previous one; expiry never depends on it.
	ClockProposer ClockSource = "proposer"
)

// Durability says what of the leases survives.
type Durability string

// The degrees.
const (
	// DurabilityProcess: nothing survives the process that keeps the store.
	DurabilityProcess Durability = "process"
	// DurabilityAsync: a crash or failover may lose the latest writes.
	DurabilityAsync Durability = "async"
	// DurabilityDisk: an acknowledged write survives a crash of the process.
	DurabilityDisk Durability = "disk"
	// DurabilityQuorum: an acknowledged write survives the loss of a minority.
	DurabilityQuorum Durability = "quorum"
)

// Capabilities is what a driver promises. Everything that the contract allows
// to differ between stores stands here, and nothing else.
type Capabilities struct {
	// Name is the driver's, as in the URL's scheme: "redis".
	Name string `json:"name"`
	// MinTTL is the smallest TTL; a smaller one is rounded up and reported.
	MinTTL time.Duration `json:"min_ttl"`
	// MaxTTL is the longest TTL of the store.
	MaxTTL time.Duration `json:"max_ttl"`
	// Lateness bounds how long after its expiry a lease may still keep the
	// next one out while someone polls. A lease never ends early. Without
	// ExpiryAtOnce it may bound only a driver that has polled since the lease
	// was last renewed: one that has not may need the lease's TTL more.
	Lateness time.Duration `json:"lateness"`
	// Poll bounds how long a waiter sleeps when hints are lost.
	Poll time.Duration `json:"poll"`
	// Shared: shared leases are supported; else Shared requests fail with
	// ErrUnsupported.
	Shared bool `json:"shared"`
	// MaxWaiters bounds the places of a lock; 0 means memory is the bound.
	MaxWaiters int `json:"max_waiters"`
	// Watch: hints are sent; else Watch fails with ErrUnsupported.
	Watch bool `json:"watch"`
	// ExpiryAtOnce: renewing an expired lease fails from the moment of its
	// expiry. Else it fails once the lease was evicted; before that no rival
	// was granted.
	ExpiryAtOnce bool `json:"expiry_at_once"`
	// ExpiryEvents: an expiry is found and told although nobody asks for the
	// lock (the driver is a Sweeper).
	ExpiryEvents bool `json:"expiry_events"`
	// EditQueue: an operator can change the places of others (the driver is a
	// QueueEditor).
	EditQueue bool `json:"edit_queue"`
	// Clock is whose clock is read.
	Clock ClockSource `json:"clock"`
	// Durability is what survives.
	Durability Durability `json:"durability"`
	// Retention is how long the record of a free lock is kept; 0 means for
	// ever.
	Retention time.Duration `json:"retention"`
}
