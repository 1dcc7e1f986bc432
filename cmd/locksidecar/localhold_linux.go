package main

import (
	"context"
	"fmt"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/internal/app"
	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// localHold is a lease that this process renews itself, without a daemon.
type localHold struct {
	*client.Tenure
	session  *renew.Session
	released chan error
}

// takeLocal acquires a lock, persistently. The wait ends with ctx.
func takeLocal(ctx context.Context, local *app.Local, in *lockpb.AcquireRequest, queued func(*lockpb.Queued)) (*localHold, error) {
	var held *localHold
	err := client.Persist(ctx, in, func(ctx context.Context, in *lockpb.AcquireRequest) (waited bool, err error) {
		h := &localHold{released: make(chan error, 1)}
		held = h
		answers := make(chan error, 1)
		h.session = local.Keeper.Open(renew.SessionOptions{Notify: func(e renew.Event) {
			switch e.Kind {
			case renew.Queued:
				waited = true
				queued(&lockpb.Queued{Position: uint32(e.Position), QueueLength: uint32(e.QueueLength)}) //nolint:gosec // small numbers
			case renew.Granted:
				h.Tenure = client.NewTenure(localLease(e.Lease))
				answers <- nil
			case renew.Renewed:
				h.Renewed(localLease(e.Lease))
			case renew.Lost:
				h.Lose(string(e.Reason))
			case renew.Released:
				h.released <- nil
			case renew.Failed:
				if h.Tenure == nil {
					answers <- e.Err
				} else {
					h.released <- e.Err
				}
			}
		}})
		h.session.Acquire(ctx, &renew.AcquireRequest{AcquireRequest: localRequest(in)})
		err = <-answers // it comes: the wait ends with ctx
		if err == nil && ctx.Err() != nil {
			err = context.Cause(ctx)
		}
		if err != nil {
			h.session.End(renew.EndRequested)
		}
		return waited, err
	})
	return held, err
}

func localRequest(in *lockpb.AcquireRequest) backend.AcquireRequest {
	req := backend.AcquireRequest{
		LockID: in.GetLockId(), OwnerID: in.GetOwnerId(), RequestID: in.GetRequestId(), TTL: in.GetTtl().AsDuration(),
		Wait: backend.Forever, Shared: in.GetShared(), Priority: int(min(in.GetPriority(), 1<<16)), Metadata: in.GetMetadata(),
	}
	if in.GetWait() != nil {
		req.Wait = in.GetWait().AsDuration()
	}
	return req
}

func localLease(l *backend.Lease) *lockpb.Lease {
	return &lockpb.Lease{
		LockId: l.LockID, LeaseId: l.LeaseID, OwnerId: l.OwnerID, FencingToken: l.Token, RequestId: l.RequestID,
		Ttl: durationpb.New(l.TTL), ValidUntilBoottimeNs: int64(l.ValidUntil),
	}
}

// Release gives the lease back, or acknowledges that it was revoked.
func (h *localHold) Release(ctx context.Context) error {
	l := h.Lease()
	h.session.Release(&backend.ReleaseRequest{
		LeaseRef:  backend.LeaseRef{LockID: l.GetLockId(), LeaseID: l.GetLeaseId(), Token: l.GetFencingToken()},
		RequestID: l.GetRequestId(),
	})
	select {
	case err := <-h.released:
		return err
	case <-ctx.Done():
		return fmt.Errorf("the backend did not answer: %w", ctx.Err())
	}
}
