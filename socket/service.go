package socket

import (
	"context"
	"errors"
	"slices"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// Locks is what a Server needs of the portable store; *backend.Store is one. Of
// several stores, an error may tell by a method Backend() string from which it
// comes.
type Locks interface {
	// Name is that of the backend, for errors which do not tell.
	Name() string
	Acquire(ctx context.Context, req *backend.AcquireRequest) (*backend.Lease, error)
	Renew(ctx context.Context, req *backend.RenewRequest) (*backend.Lease, error)
	Leave(ctx context.Context, lockID, requestID string) error
	Undo(l *backend.Lease)
	Get(ctx context.Context, lockID string) (*driver.Lock, error)
	List(ctx context.Context, req *driver.ListRequest) (*driver.ListPage, error)
	ForceRelease(ctx context.Context, req *backend.ForceReleaseRequest) (*backend.ForceReleaseResult, error)
	CancelWaiter(ctx context.Context, req *backend.WaiterRequest) (*driver.Waiter, error)
	Reprioritize(ctx context.Context, req *backend.WaiterRequest) (*driver.Waiter, error)
}

// Sessions is what a Server needs of the keeper of leases: Kept makes one of a
// *renew.Keeper. Release is here because it may end a lease that a session
// holds.
type Sessions interface {
	Open(o renew.SessionOptions) Session
	Release(ctx context.Context, req *backend.ReleaseRequest) (*driver.ReleaseResult, error)
}

// Session is one stream's: a *renew.Session is one.
type Session interface {
	Acquire(ctx context.Context, req *renew.AcquireRequest)
	Adopt(ctx context.Context, req *renew.AdoptRequest)
	Release(req *backend.ReleaseRequest)
	End(how renew.End)
}

// Kept are the sessions of one keeper.
func Kept(k *renew.Keeper) Sessions { return kept{k} }

type kept struct{ *renew.Keeper }

func (k kept) Open(o renew.SessionOptions) Session { return k.Keeper.Open(o) }

// The methods below are the calls of the API, the same for both protocols. They
// return the errors of the layers beneath; describe makes them a client's.

// acquire takes a lease for a caller that renews it itself.
func (s *Server) acquire(ctx context.Context, c *conn, in *lockpb.AcquireRequest) (*lockpb.Lease, error) {
	if in.GetMaxHold() != nil {
		return nil, &backend.InvalidError{Field: "max_hold", Reason: "is set", Limits: "on Hold only: here the caller renews"}
	}
	if in.GetLinger() {
		return nil, &backend.InvalidError{Field: "linger", Reason: "is set", Limits: "on Hold only: here the caller renews"}
	}
	req, err := acquireRequest(in)
	if err != nil {
		return nil, err
	}
	if s.drain.Err() != nil {
		return nil, errDraining
	}
	if err := c.quota.wait(); err != nil {
		return nil, err
	}
	defer c.quota.answered()
	l, err := s.await(ctx, req)
	switch {
	case err == nil && ctx.Err() == nil:
		return leaseMessage(l, s.o.Clock.Now()), nil
	case err == nil:
		s.o.Locks.Undo(l)
		return nil, context.Cause(ctx)
	}
	err = s.forPeer(c, lockpb.LockService_Acquire_FullMethodName, req.LockID, err)
	return nil, &requestError{err, req.RequestID}
}

// await acquires; when the server begins to stop, the waiting ends.
func (s *Server) await(ctx context.Context, req *backend.AcquireRequest) (*backend.Lease, error) {
	if req.Wait == 0 {
		return s.o.Locks.Acquire(ctx, req)
	}
	ctx, cancel := context.WithCancelCause(ctx)
	defer cancel(nil)
	defer context.AfterFunc(s.drain, func() { cancel(errDraining) })()
	l, err := s.o.Locks.Acquire(ctx, req)
	if err != nil && errors.Is(err, context.Canceled) && errors.Is(context.Cause(ctx), errDraining) {
		return nil, errDraining
	}
	return l, err
}

func (s *Server) renew(ctx context.Context, in *lockpb.RenewRequest) (*lockpb.Lease, error) {
	req, err := renewRequest(in)
	if err != nil {
		return nil, err
	}
	l, err := s.o.Locks.Renew(ctx, req)
	if err != nil {
		return nil, err
	}
	return leaseMessage(l, s.o.Clock.Now()), nil
}

func (s *Server) release(ctx context.Context, in *lockpb.ReleaseRequest) (*lockpb.ReleaseResponse, error) {
	if in.GetLeaseId() == "" && in.GetFencingToken() == 0 && in.GetRequestId() != "" {
		if err := s.o.Locks.Leave(ctx, in.GetLockId(), in.GetRequestId()); err != nil {
			return nil, err
		}
		return &lockpb.ReleaseResponse{LockId: in.GetLockId()}, nil
	}
	res, err := s.o.Sessions.Release(ctx, releaseRequest(in))
	if err != nil {
		return nil, err
	}
	return &lockpb.ReleaseResponse{LockId: in.GetLockId(), HoldCount: count(res.HoldCount)}, nil
}

func (s *Server) get(ctx context.Context, in *lockpb.GetRequest) (*lockpb.Lock, error) {
	l, err := s.o.Locks.Get(ctx, in.GetLockId())
	if err != nil {
		return nil, err
	}
	return lockMessage(l), nil
}

// list shows what the peer may inspect of a page of the store: a page may be
// short, or empty, and have a next one.
func (s *Server) list(ctx context.Context, c *conn, in *lockpb.ListRequest) (*lockpb.ListResponse, error) {
	token, err := s.pages.open(in.GetPageToken())
	if err != nil {
		return nil, err
	}
	page, err := s.o.Locks.List(ctx, &driver.ListRequest{
		Prefix: in.GetPrefix(), Contended: in.GetContended(),
		// A greater one is out of range anyway, and must not become negative.
		PageSize: int(min(in.GetPageSize(), 1<<16)), PageToken: token,
	})
	if err != nil {
		return nil, err
	}
	out := &lockpb.ListResponse{NextPageToken: s.pages.seal(page.NextPageToken), Failed: page.Failed}
	for i := range page.Locks {
		if s.ask(c, lockpb.AdminService_List_FullMethodName, VerbInspect, page.Locks[i].LockID) != nil {
			continue
		}
		out.Locks = append(out.Locks, lockMessage(&page.Locks[i]))
	}
	return out, nil
}

func (s *Server) forceRelease(ctx context.Context, c *conn, in *lockpb.ForceReleaseRequest) (*lockpb.ForceReleaseResponse, error) {
	if err := checkReason(in.GetReason(), s.quotas.limits.Reason); err != nil {
		return nil, err
	}
	res, err := s.o.Locks.ForceRelease(ctx, &backend.ForceReleaseRequest{
		LockID: in.GetLockId(), Token: in.GetFencingToken(), Immediate: in.GetImmediate(), Reason: in.GetReason(), By: c.operator(),
	})
	if err != nil {
		return nil, err
	}
	s.o.Logger.Info("force-release", driver.LogLock, in.GetLockId(), driver.LogToken, in.GetFencingToken(), driver.LogNow, in.GetImmediate(),
		driver.LogOperator, c.operator(), driver.LogReason, in.GetReason())
	return &lockpb.ForceReleaseResponse{LockId: in.GetLockId(), Holder: holderMessage(&res.Holder), Ended: res.Ended}, nil
}

// cancelWaiter and reprioritize change another's place in a queue.
func (s *Server) cancelWaiter(ctx context.Context, c *conn, in *lockpb.CancelWaiterRequest) (*lockpb.CancelWaiterResponse, error) {
	w, err := s.edit(ctx, c, "cancel-waiter", s.o.Locks.CancelWaiter, &backend.WaiterRequest{LockID: in.GetLockId(), Ticket: in.GetTicket(), Reason: in.GetReason()})
	if err != nil {
		return nil, err
	}
	return &lockpb.CancelWaiterResponse{LockId: in.GetLockId(), Waiter: waiterMessage(w)}, nil
}

func (s *Server) reprioritize(ctx context.Context, c *conn, in *lockpb.ReprioritizeRequest) (*lockpb.ReprioritizeResponse, error) {
	w, err := s.edit(ctx, c, "reprioritize", s.o.Locks.Reprioritize, &backend.WaiterRequest{
		LockID: in.GetLockId(), Ticket: in.GetTicket(), Priority: int(min(in.GetPriority(), 1<<16)), First: in.GetFirst(), Reason: in.GetReason(),
	})
	if err != nil {
		return nil, err
	}
	return &lockpb.ReprioritizeResponse{LockId: in.GetLockId(), Waiter: waiterMessage(w)}, nil
}

func (s *Server) edit(ctx context.Context, c *conn, what string, call func(context.Context, *backend.WaiterRequest) (*driver.Waiter, error), req *backend.WaiterRequest) (*driver.Waiter, error) {
	if err := checkReason(req.Reason, s.quotas.limits.Reason); err != nil {
		return nil, err
	}
	req.By = c.operator()
	w, err := call(ctx, req)
	if err != nil {
		return nil, err
	}
	s.o.Logger.Info(what, driver.LogLock, req.LockID, driver.LogTicket, req.Ticket,
		driver.LogOperator, c.operator(), driver.LogReason, req.Reason)
	return w, nil
}

func (s *Server) status(ctx context.Context, c *conn, in *lockpb.GetStatusRequest) *lockpb.Status {
	st := s.o.Status(ctx, in)
	st.Deadlocks = slices.DeleteFunc(st.GetDeadlocks(), func(d *lockpb.Deadlock) bool {
		return !s.mayInspect(c, lockpb.AdminService_GetStatus_FullMethodName, d)
	})
	if s.drain.Err() != nil {
		st.Draining = true
	}
	return st
}
