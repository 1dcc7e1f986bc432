package events

import "time"

// Counter counts what becomes of the events of one sink. It is used by several
// goroutines.
type Counter interface {
	// Delivered counts events that the sink has taken.
	Delivered(n uint64)
	// Dropped counts events that it will never get.
	Dropped(n uint64)
	// Retried counts attempts after the first one.
	Retried(n uint64)
}

// RetryEvery bounds the pause between two attempts of a sink.
const RetryEvery = 5 * time.Second
