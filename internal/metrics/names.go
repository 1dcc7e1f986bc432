package metrics

import (
	"context"
	"errors"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The names of the metrics.
const (
	Acquires          = "locksidecar_acquires_total"
	AcquireWait       = "locksidecar_acquire_wait_seconds"
	ContendedAcquires = "locksidecar_contended_acquires_total"
	QueueLength       = "locksidecar_queue_length"
	Waiters           = "locksidecar_waiters"
	OldestWait        = "locksidecar_oldest_wait_seconds"
	LeasesHeld        = "locksidecar_leases_held"
	LeaseHold         = "locksidecar_lease_hold_seconds"
	LeasesLost        = "locksidecar_leases_lost_total"
	LeasesExpired     = "locksidecar_leases_expired_total"
	Renewals          = "locksidecar_renewals_total"
	RenewalMargin     = "locksidecar_renewal_margin_ratio"

	BackendReady          = "locksidecar_backend_ready"
	BackendCalls          = "locksidecar_backend_calls_total"
	BackendCallTime       = "locksidecar_backend_call_seconds"
	BackendReplicas       = "locksidecar_backend_replicas"
	BackendReplicationLag = "locksidecar_backend_replication_lag_seconds"
	BackendMemoryUsed     = "locksidecar_backend_memory_used_ratio"
	BreakerState          = "locksidecar_breaker_state"
	QuarantineRemaining   = "locksidecar_quarantine_remaining_seconds"

	Deadlocks         = "locksidecar_deadlocks"
	DeadlocksDetected = "locksidecar_deadlocks_detected_total"
	DeadlocksBroken   = "locksidecar_deadlocks_broken_total"
	EventsDelivered   = "locksidecar_events_delivered_total"
	EventsDropped     = "locksidecar_events_dropped_total"
	EventRetries      = "locksidecar_event_retries_total"
	LimitsHit         = "locksidecar_limits_hit_total"
	ConfigReloads     = "locksidecar_config_reloads_total"
	ConfigCurrent     = "locksidecar_config_current"
	ConfigLoaded      = "locksidecar_config_last_load_timestamp_seconds"
	BuildInfo         = "locksidecar_build_info"
)

// The results of a reload.
const (
	ReloadOK      = "ok"
	ReloadRefused = "refused"
)

// SinkWatch names the streams of Watch among those who are told events.
const SinkWatch = "watch"

// result is that of an acquire.
type result uint8

const (
	granted result = iota
	held
	cancelled
	unavailable
	invalid
	deadlocked
	failed
	results
)

var resultNames = [results]string{"granted", "held", "cancelled", "unavailable", "invalid", "deadlock", "error"}

// resultOf looks at the errors of contexts last: a store wraps them where its own
// time for a call is over, which is not the caller's leaving.
func resultOf(err error) result {
	switch {
	case err == nil:
		return granted
	case errors.Is(err, driver.ErrHeld):
		return held
	case errors.Is(err, driver.ErrDeadlock):
		return deadlocked
	case errors.Is(err, driver.ErrInvalid):
		return invalid
	case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate), errors.Is(err, driver.ErrQuarantined):
		return unavailable
	case errors.Is(err, context.Canceled), errors.Is(err, context.DeadlineExceeded):
		return cancelled
	}
	return failed
}

// outcome is that of a call to a store.
type outcome uint8

const (
	// callOK: the store did what was asked, or gave a place in the queue.
	callOK outcome = iota
	// callRefused: the store decided against it.
	callRefused
	callQuarantined
	// callLimit: the store has no capacity for it.
	callLimit
	// callUnavailable: certainly not done.
	callUnavailable
	// callUnknown: it may be done.
	callUnknown
	// callLeft: its caller left, or had no more time.
	callLeft
	outcomes
)

var outcomeNames = [outcomes]string{"ok", "refused", "quarantined", "limit", "unavailable", "unknown", "left"}

// decided are the sentinels by which a store says no.
var decided = []error{
	driver.ErrHeld, driver.ErrLost, driver.ErrNotOwner, driver.ErrStaleToken, driver.ErrAmbiguousHold, driver.ErrDeadlock,
	driver.ErrUnsupported, driver.ErrInvalid, driver.ErrFormat,
}

func outcomeOf(ctx context.Context, err error) outcome {
	if err == nil {
		return callOK
	}
	for _, s := range decided {
		if errors.Is(err, s) {
			return callRefused
		}
	}
	switch {
	case errors.Is(err, driver.ErrQuarantined):
		return callQuarantined
	case ctx.Err() != nil, errors.Is(err, context.Canceled), errors.Is(err, driver.ErrClosed):
		return callLeft
	case errors.Is(err, driver.ErrIndeterminate):
		return callUnknown
	case errors.Is(err, driver.ErrLimit):
		return callLimit
	case errors.Is(err, driver.ErrUnavailable):
		return callUnavailable
	}
	return callUnknown
}

// operation is a call to a store.
type operation uint8

const (
	opAcquire operation = iota
	opRenew
	opRelease
	opLeave
	opAdopt
	opEvict
	opRevoke
	opInspect
	opList
	opSweep
	opTold
	opPing
	operations
)

var operationNames = [operations]string{
	"acquire", "renew", "release", "leave", "adopt", "evict", "revoke", "inspect", "list", "sweep", "told", "ping",
}

// breakerStates are those of a circuit breaker.
var breakerStates = []string{"closed", "half-open", "open"}

// breakerCalls are the calls that circuit breakers guard.
var breakerCalls = []string{"acquire", "read"}
