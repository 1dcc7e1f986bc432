package backend

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/cenkalti/backoff/v4"

	"github.com/locksidecar/locksidecar/backend/driver"
)

const (
	// maxUndos bounds the undos under way. What exceeds it ends by its TTL.
	maxUndos = 4096
	// undoTimeout bounds one call.
	undoTimeout = 2 * time.Second
	// closeTimeout bounds how long Close waits for undos.
	closeTimeout = 3 * time.Second
)

// undos gives back, in the background, what acquires have left behind: each
// repeats Leave until the store has answered or the lease must have ended. The
// Store owns its goroutines, and waits at its end for them and for the acquires
// that wait in a queue, which may still have something to undo.
type undos struct {
	s      *Store
	ctx    context.Context
	cancel context.CancelFunc

	mu sync.Mutex
	// n counts undos and waiting acquires, waiting the latter.
	n, waiting int
	closed     bool
	idle       chan struct{} // closed, once, when closed and n is 0
	once       sync.Once
}

func (u *undos) start(s *Store) {
	u.s = s
	u.idle = make(chan struct{})
	u.ctx, u.cancel = context.WithCancel(context.Background())
}

// hold counts an acquire that waits until done.
func (u *undos) hold() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n++
	u.waiting++
}

// drop ends a hold.
func (u *undos) drop() {
	u.mu.Lock()
	u.waiting--
	u.mu.Unlock()
	u.done()
}

// add starts an undo.
func (u *undos) add(req *driver.LeaveRequest) {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.closed && u.n == 0 || u.n-u.waiting >= maxUndos {
		u.s.o.Logger.Warn("an acquire is not undone, it ends by its TTL: too many are under way", driver.LogBackend, u.s.o.Name, driver.LogLock, req.LockID, driver.LogCount, u.n)
		return
	}
	u.n++
	go u.run(req)
}

func (u *undos) run(req *driver.LeaveRequest) {
	defer u.done()
	b := backoff.NewExponentialBackOff(
		backoff.WithInitialInterval(50*time.Millisecond),
		backoff.WithMaxInterval(5*time.Second),
		backoff.WithMaxElapsedTime(u.s.caps.MaxTTL),
	)
	err := backoff.Retry(func() error {
		ctx, cancel := context.WithTimeout(u.ctx, undoTimeout)
		defer cancel()
		err := u.s.d.Leave(ctx, req)
		if errors.Is(err, driver.ErrClosed) || errors.Is(err, driver.ErrFormat) {
			return backoff.Permanent(err)
		}
		return err
	}, backoff.WithContext(b, u.ctx))
	if err != nil {
		u.s.o.Logger.Warn("undoing an acquire failed, it ends by its TTL", driver.LogBackend, u.s.o.Name, driver.LogLock, req.LockID, driver.LogError, err)
	}
}

func (u *undos) done() {
	u.mu.Lock()
	defer u.mu.Unlock()
	u.n--
	u.signal()
}

func (u *undos) signal() {
	if u.closed && u.n == 0 {
		u.once.Do(func() { close(u.idle) })
	}
}

// finish refuses further undos and waits a bounded time for those under way.
func (u *undos) finish() {
	u.mu.Lock()
	if u.closed {
		u.mu.Unlock()
		return
	}
	u.closed = true
	u.signal()
	u.mu.Unlock()
	t := time.NewTimer(closeTimeout)
	defer t.Stop()
	select {
	case <-u.idle:
	case <-t.C:
	}
	u.cancel()
	<-u.idle
}
