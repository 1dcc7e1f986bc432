package socket

import (
	"sync"

	"github.com/locksidecar/locksidecar/renew"
)

// The bounds of what waits for a client that does not read.
const (
	outboxEvents = 1 << 15
	outboxBytes  = 4 << 20
)

// outbox holds the events of one stream until its sender takes them, all at
// once. It never blocks who puts: a client that does not read loses its stream.
type outbox struct {
	// ready has a value when events may wait.
	ready chan struct{}
	// full is closed when the bound was exceeded.
	full chan struct{}

	mu     sync.Mutex
	events []renew.Event
	bytes  int
	closed bool
}

func (o *outbox) init() {
	o.ready = make(chan struct{}, 1)
	o.full = make(chan struct{})
}

func (o *outbox) put(e renew.Event) {
	o.mu.Lock()
	if o.closed {
		o.mu.Unlock()
		return
	}
	o.bytes += weight(&e)
	if len(o.events) >= outboxEvents || o.bytes > outboxBytes {
		o.closed, o.events = true, nil
		close(o.full)
		o.mu.Unlock()
		return
	}
	first := len(o.events) == 0
	o.events = append(o.events, e)
	o.mu.Unlock()
	if first {
		select {
		case o.ready <- struct{}{}:
		default:
		}
	}
}

// take returns what waits and keeps the emptied slice for what comes next.
func (o *outbox) take(emptied []renew.Event) []renew.Event {
	clear(emptied)
	o.mu.Lock()
	defer o.mu.Unlock()
	events := o.events
	o.events, o.bytes = emptied[:0], 0
	return events
}

// weight is about what the event occupies.
func weight(e *renew.Event) int {
	n := 192 + len(e.RequestID) + len(e.LockID)
	if l := e.Lease; l != nil {
		n += 256 + len(l.OwnerID)
		for k, v := range l.Metadata {
			n += 32 + len(k) + len(v)
		}
	}
	return n
}
