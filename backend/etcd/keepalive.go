package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	pb "go.etcd.io/etcd/api/v3/etcdserverpb"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// errNoLease is of an etcd lease that has ended.
var errNoLease = errors.New("the etcd lease has ended")

// keeper sends the keep-alives of all etcd leases over one stream. A call does not
// wait for that of another lease, and a lease may have several on their way.
type keeper struct {
	s *Store

	mu   sync.Mutex
	open *keepStream
}

// keepStream is the stream, until it fails.
type keepStream struct {
	cancel context.CancelFunc
	// ready says to the sender that there is something in queue.
	ready chan struct{}

	// mu guards what follows.
	mu    sync.Mutex
	queue []int64
	// waiting are the calls for each lease, in the order of their sends.
	waiting map[int64][]chan kept
	failed  error
}

// kept is an answer.
type kept struct {
	ttl time.Duration
	err error
}

func newKeeper(s *Store) *keeper { return &keeper{s: s} }

// keep prolongs an etcd lease to its whole TTL, which it returns: from the moment
// of the call, or later. It fails with errNoLease if the lease has ended.
func (k *keeper) keep(ctx context.Context, id int64) (time.Duration, error) {
	return k.begin(id)(ctx)
}

// begin sends a keep-alive. What it returns waits for the answer, for the driver's
// timeout at most.
func (k *keeper) begin(id int64) (wait func(context.Context) (time.Duration, error)) {
	st, err := k.stream()
	if err != nil {
		return func(context.Context) (time.Duration, error) { return 0, err }
	}
	answer := make(chan kept, 1)
	st.mu.Lock()
	if st.failed != nil {
		answer <- kept{err: st.failed}
	} else {
		st.queue = append(st.queue, id)
		st.waiting[id] = append(st.waiting[id], answer)
	}
	st.mu.Unlock()
	select {
	case st.ready <- struct{}{}:
	default:
	}
	late := time.NewTimer(k.s.o.Timeout)
	return func(ctx context.Context) (time.Duration, error) {
		defer late.Stop()
		select {
		case a := <-answer:
			return a.ttl, a.err
		case <-ctx.Done():
			return 0, fmt.Errorf("%w: %w", driver.ErrIndeterminate, ctx.Err())
		case <-late.C:
			// The member may hang: the next stream goes to another.
			st.fail(fmt.Errorf("%w: a keep-alive was not answered within %v", driver.ErrIndeterminate, k.s.o.Timeout))
			return 0, fmt.Errorf("%w: %w", driver.ErrIndeterminate, context.DeadlineExceeded)
		}
	}
}

// stream is the open one, or a new one.
func (k *keeper) stream() (*keepStream, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	if st := k.open; st != nil && !st.ended() {
		return st, nil
	}
	c, err := k.s.connected()
	if err != nil {
		return nil, k.s.unread(err)
	}
	st := &keepStream{ready: make(chan struct{}, 1), waiting: make(map[int64][]chan kept)}
	ctx, cancel := context.WithCancel(k.s.stopped)
	st.cancel = cancel
	run := func() {
		defer cancel()
		client, err := pb.NewLeaseClient(c.ActiveConnection()).LeaseKeepAlive(ctx)
		if err != nil {
			st.fail(k.s.unread(err)) // nothing was sent
			return
		}
		if !k.s.start(func() { st.send(ctx, client) }) {
			st.fail(driver.ErrClosed)
			return
		}
		for {
			resp, err := client.Recv()
			if err != nil {
				if k.s.closed.Load() {
					err = driver.ErrClosed
				}
				st.fail(fmt.Errorf("%w: the stream of the keep-alives broke: %w", driver.ErrIndeterminate, err))
				return
			}
			st.answer(resp)
		}
	}
	if !k.s.start(run) {
		cancel()
		return nil, driver.ErrClosed
	}
	k.open = st
	return st, nil
}

// send sends what is queued until the stream ends.
func (st *keepStream) send(ctx context.Context, client pb.Lease_LeaseKeepAliveClient) {
	for {
		st.mu.Lock()
		batch := st.queue
		st.queue = nil
		st.mu.Unlock()
		for _, id := range batch {
			if err := client.Send(&pb.LeaseKeepAliveRequest{ID: id}); err != nil {
				return // Recv says why
			}
		}
		if len(batch) > 0 {
			continue
		}
		select {
		case <-st.ready:
		case <-ctx.Done():
			return
		}
	}
}

// answer gives a reply to the oldest call for its lease: the replies come in the
// order of the requests.
func (st *keepStream) answer(resp *pb.LeaseKeepAliveResponse) {
	st.mu.Lock()
	defer st.mu.Unlock()
	calls := st.waiting[resp.ID]
	if len(calls) == 0 {
		return
	}
	a := kept{ttl: time.Duration(resp.TTL) * time.Second}
	if resp.TTL <= 0 {
		a.err = errNoLease
	}
	calls[0] <- a
	if st.waiting[resp.ID] = calls[1:]; len(calls) == 1 {
		delete(st.waiting, resp.ID)
	}
}

// fail ends the stream and every call that waits for an answer.
func (st *keepStream) fail(err error) {
	st.mu.Lock()
	defer st.mu.Unlock()
	if st.failed != nil {
		return
	}
	st.failed = err
	for _, calls := range st.waiting {
		for _, call := range calls {
			call <- kept{err: err}
		}
	}
	st.waiting, st.queue = nil, nil
	st.cancel()
}

func (st *keepStream) ended() bool {
	st.mu.Lock()
	defer st.mu.Unlock()
	return st.failed != nil
}
