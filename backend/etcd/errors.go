package etcd

import (
	"context"
	"errors"
	"fmt"
	"sync/atomic"

	"go.etcd.io/etcd/api/v3/v3rpc/rpctypes"
	"google.golang.org/grpc/stats"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// refusals are the answers by which a member says that it did not do the call at
// all. What is not among them, such as a timeout or a change of the leader, leaves
// it open.
var refusals = []error{
	rpctypes.ErrNoLeader, rpctypes.ErrNotLeader, rpctypes.ErrTooManyRequests, rpctypes.ErrNoSpace, rpctypes.ErrRequestTooLarge,
	rpctypes.ErrTooManyOps, rpctypes.ErrPermissionDenied, rpctypes.ErrInvalidAuthToken, rpctypes.ErrUserEmpty, rpctypes.ErrUserNotFound,
	rpctypes.ErrAuthFailed, rpctypes.ErrAuthOldRevision, rpctypes.ErrInvalidAuthMgmt, rpctypes.ErrNotCapable, rpctypes.ErrUnhealthy,
	rpctypes.ErrLeaseNotFound, rpctypes.ErrCompacted, rpctypes.ErrGRPCNotSupportedForLearner,
}

// sent is what a call knows of itself: whether any of it went out.
type sent struct{ atomic.Bool }

type sentKey struct{}

// sending notes for each call that its headers were written. Until then the
// member cannot have seen it. It also counts the connections.
type sending struct{ connections *atomic.Int64 }

// TagRPC keeps the note of a call from a login that is made on its way.
func (sending) TagRPC(ctx context.Context, info *stats.RPCTagInfo) context.Context {
	if info.FullMethodName == "/etcdserverpb.Auth/Authenticate" {
		return context.WithValue(ctx, sentKey{}, (*sent)(nil))
	}
	return ctx
}

func (sending) HandleRPC(ctx context.Context, s stats.RPCStats) {
	if _, ok := s.(*stats.OutHeader); ok {
		if note, _ := ctx.Value(sentKey{}).(*sent); note != nil {
			note.Store(true)
		}
	}
}

// TagConn comes before a connection carries anything.
func (n sending) TagConn(ctx context.Context, _ *stats.ConnTagInfo) context.Context {
	n.connections.Add(1)
	return ctx
}

func (sending) HandleConn(context.Context, stats.ConnStats) {}

// outcome says what an error proves about a write.
func (s *Store) outcome(err error, note *sent) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return driver.ErrClosed
	case !note.Load(), refused(err):
		return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
	}
	return fmt.Errorf("%w: %w", driver.ErrIndeterminate, err)
}

// unread is the error of a call that changes nothing.
func (s *Store) unread(err error) error {
	switch {
	case err == nil:
		return nil
	case s.closed.Load():
		return driver.ErrClosed
	}
	return fmt.Errorf("%w: %w", driver.ErrUnavailable, err)
}

func refused(err error) bool {
	err = rpctypes.Error(err)
	for _, known := range refusals {
		if errors.Is(err, known) {
			return true
		}
	}
	return false
}

// loggedOut says that the member does not know the login any more.
func loggedOut(err error) bool {
	err = rpctypes.Error(err)
	return errors.Is(err, rpctypes.ErrInvalidAuthToken) || errors.Is(err, rpctypes.ErrAuthOldRevision) || errors.Is(err, rpctypes.ErrUserEmpty)
}
