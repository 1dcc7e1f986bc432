package redis

import (
	"context"
	"fmt"
	"sync"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// abandoned are the acquires whose callers went while they were on their way,
// by request id. What undoes one of them must not overtake it on another
// connection.
type abandoned struct {
	mu    sync.Mutex
	calls map[string]chan struct{}
}

// add notes an acquire that goes on without its caller until ended is closed.
func (a *abandoned) add(requestID string, ended chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls == nil {
		a.calls = make(map[string]chan struct{})
	}
	a.calls[requestID] = ended
}

// forget ends what add began.
func (a *abandoned) forget(requestID string, ended chan struct{}) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.calls[requestID] == ended {
		delete(a.calls, requestID)
	}
}

// wait waits until no acquire of the request id is on its way, or ctx ends.
func (a *abandoned) wait(ctx context.Context, requestID string) error {
	a.mu.Lock()
	ended := a.calls[requestID]
	a.mu.Unlock()
	if ended == nil {
		return nil
	}
	select {
	case <-ended:
		return nil
	case <-ctx.Done():
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, ctx.Err())
	}
}
