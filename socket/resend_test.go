package socket_test

import (
	"context"
	"strconv"
	"testing"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/socket"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// A client whose connection broke while it waited asks again on a new one under
// the same request id, at once. What undoes the old stream's attempt must not
// take the lease that the new stream was told of, whichever of the two reaches
// the store first.
func TestAcquireSentAgainOnANewConnectionIsItsOwn(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	holder := dial(t, s.path)
	told, streams := make(map[string]int64), []stream(nil)
	for i := range 60 {
		lock, request := "again/"+strconv.Itoa(i), "request-"+strconv.Itoa(i)
		held, err := holder.Acquire(within(t), &lockpb.AcquireRequest{LockId: lock, Ttl: longerThanPatience})
		if err != nil {
			t.Fatal(err)
		}
		ask := &lockpb.AcquireRequest{LockId: lock, RequestId: request, Ttl: longerThanPatience}
		broken := dial(t, s.path)
		broken.hold(t).acquire(ask)
		eventually(t, "the first attempt waits", func() bool { return s.waiters(t, lock) == 1 })
		again := dial(t, s.path).hold(t)
		_ = broken.conn.Close()
		again.acquire(ask)
		if _, err := holder.Release(within(t), &lockpb.ReleaseRequest{LockId: lock, LeaseId: held.GetLeaseId(), FencingToken: held.GetFencingToken()}); err != nil {
			t.Fatal(err)
		}
		told[lock] = again.granted().GetFencingToken()
		streams = append(streams, again)
	}
	// The undo of the last round has had no time; those of the others have.
	for lock, token := range told {
		if holders := s.holders(t, lock); len(holders) != 1 || holders[0].Token != token {
			t.Errorf("%s: told of token %d, the lock has %+v", lock, token, holders)
		}
	}
	for i, st := range streams {
		st.release(&lockpb.ReleaseRequest{RequestId: "request-" + strconv.Itoa(i)})
		if r := st.next(); r.GetReleased() == nil {
			t.Errorf("round %d: the release was answered %v", i, r)
		}
	}
}

// afterGrant are Locks whose first grant is told late.
type afterGrant struct {
	socket.Locks
	calls *int
	late  func(ctx context.Context)
}

func (a afterGrant) Acquire(ctx context.Context, req *backend.AcquireRequest) (*backend.Lease, error) {
	l, err := a.Locks.Acquire(ctx, req)
	if *a.calls++; *a.calls == 1 {
		a.late(ctx)
	}
	return l, err
}

// leaves is a driver that tells when a grant was undone.
type leaves struct {
	driver.Driver
	done chan error
}

func (l leaves) Leave(ctx context.Context, req *driver.LeaveRequest) error {
	err := l.Driver.Leave(ctx, req)
	l.done <- err
	return err
}

// A caller that leaves as it is granted and asks again under the same request
// id keeps what it gets then: the undoing of the first grant comes too late.
func TestAcquireSentAgainOutlivesTheUndoOfTheFirst(t *testing.T) {
	left := leaves{done: make(chan error, 1)}
	granted, again, calls := make(chan struct{}), make(chan struct{}), 0
	s := startServer(t, socket.Options{}, func(d driver.Driver) driver.Driver { left.Driver = d; return left }, func(o socket.Options) *socket.Server {
		o.Locks = afterGrant{o.Locks, &calls, func(ctx context.Context) {
			close(granted)
			<-ctx.Done()
			<-again
		}}
		return socket.New(o)
	})
	c, ask := dial(t, s.path), &lockpb.AcquireRequest{LockId: "a", RequestId: "r", Ttl: longerThanPatience}
	ctx, leave := contextWithCancel(t)
	gone := make(chan struct{})
	go func() {
		defer close(gone)
		_, _ = c.Acquire(ctx, ask)
	}()
	<-granted
	leave()
	<-gone
	l, err := c.Acquire(within(t), ask)
	if err != nil {
		t.Fatal(err)
	}
	close(again)
	if err := <-left.done; err != nil {
		t.Fatal(err)
	}
	if _, err := c.Renew(within(t), &lockpb.RenewRequest{LockId: "a", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()}); err != nil {
		t.Errorf("the lease that the caller was told of: %v", err)
	}
}
