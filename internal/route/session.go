package route

import (
	"context"
	"sync"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/renew"
	"github.com/locksidecar/locksidecar/socket"
)

// session is one stream's over all backends: a session of each branch's keeper
// that it needs. Notify is called for one branch's events in order; those of
// different branches may come at the same time.
type session struct {
	r      *Router
	notify func(renew.Event)

	mu    sync.Mutex
	ended renew.End
	parts map[*Branch]*renew.Session
	// requests are those of which an event is still to come.
	requests map[string]*request
}

// request is where an acquire or adopt was led to.
type request struct {
	// b is nil while it waits for the lock to be free elsewhere, or is looked
	// for.
	b       *Branch
	cancel  context.CancelFunc
	granted bool
	// released: it was given up before it was led anywhere.
	released bool
}

// Open starts a session.
func (r *Router) Open(o renew.SessionOptions) socket.Session {
	return &session{r: r, notify: o.Notify, parts: make(map[*Branch]*renew.Session), requests: make(map[string]*request)}
}

// part is the session's part of a branch; nil if the session has ended.
func (s *session) part(b *Branch) *renew.Session {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != 0 {
		return nil
	}
	p := s.parts[b]
	if p == nil {
		p = b.keeper.Open(renew.SessionOptions{Notify: s.told})
		s.parts[b] = p
	}
	return p
}

// told takes an event of a part.
func (s *session) told(e renew.Event) {
	s.mu.Lock()
	if q := s.requests[e.RequestID]; q != nil {
		switch e.Kind {
		case renew.Granted:
			q.granted = true
		case renew.Lost, renew.Released:
			delete(s.requests, e.RequestID)
		case renew.Failed:
			if !q.granted { // else the answer to a release, which may be repeated
				delete(s.requests, e.RequestID)
			}
		}
	}
	over := s.ended != 0
	s.mu.Unlock()
	if !over {
		s.notify(e)
	}
}

// begin enters a request. q is nil if there is nothing to be done for it: the
// session has ended, or its answer will come. to is where it was led to before.
func (s *session) begin(ctx context.Context, requestID string) (_ context.Context, q *request, to *Branch) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.ended != 0 {
		return ctx, nil, nil
	}
	if q := s.requests[requestID]; q != nil {
		if q.b == nil {
			return ctx, nil, nil
		}
		return ctx, q, q.b
	}
	q = &request{}
	s.requests[requestID] = q
	ctx, q.cancel = context.WithCancel(ctx)
	return ctx, q, nil
}

// lead notes the branch of a request; it is too late if the request was given
// up or the session has ended.
func (s *session) lead(q *request, b *Branch) (inTime bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if q.released || s.ended != 0 {
		return false
	}
	q.b = b
	return true
}

// fail answers a request that was led nowhere.
func (s *session) fail(q *request, requestID, lockID string, err error) {
	q.cancel()
	s.mu.Lock()
	if s.requests[requestID] == q {
		delete(s.requests, requestID)
	}
	e := renew.Event{Kind: renew.Failed, RequestID: requestID, LockID: lockID, Err: err}
	if q.released {
		e = renew.Event{Kind: renew.Released, RequestID: requestID, LockID: lockID}
	}
	over := s.ended != 0
	s.mu.Unlock()
	if !over {
		s.notify(e)
	}
}

// Acquire leads an acquire. If the lock is in use on another branch, it waits
// for that in the background.
func (s *session) Acquire(ctx context.Context, req *renew.AcquireRequest) {
	whole := ctx
	ctx, q, to := s.begin(ctx, req.RequestID)
	switch {
	case q == nil:
		return
	case to != nil:
		s.pass(whole, to, req, admission{})
		return
	}
	a, err := s.r.admit(&req.AcquireRequest)
	switch {
	case err != nil:
		s.fail(q, req.RequestID, req.LockID, err)
	case a.blocked != nil:
		s.r.running.Go(func() {
			a, p, err := s.r.enter(ctx, &req.AcquireRequest)
			if err != nil {
				s.fail(q, req.RequestID, req.LockID, err)
				return
			}
			moved := *req
			moved.AcquireRequest = *p
			s.admitted(whole, q, &moved, a)
		})
	default:
		led := *req
		led.AcquireRequest = *a.prepare(&req.AcquireRequest)
		s.admitted(whole, q, &led, a)
	}
}

func (s *session) admitted(ctx context.Context, q *request, req *renew.AcquireRequest, a admission) {
	defer s.r.uses.end(a.b, req.LockID, req.RequestID)
	if !s.lead(q, a.b) {
		s.fail(q, req.RequestID, req.LockID, context.Canceled)
		return
	}
	defer q.cancel()
	s.pass(ctx, a.b, req, a)
}

// pass hands the request on within the route's bound, which is for applications
// that hang: an operator's drain lasts as long as the operator says.
func (s *session) pass(ctx context.Context, b *Branch, req *renew.AcquireRequest, a admission) {
	if req.Drain == nil && a.maxHold > 0 && (req.MaxHold == 0 || req.MaxHold > a.maxHold) {
		bounded := *req
		bounded.MaxHold = a.maxHold
		req = &bounded
	}
	if p := s.part(b); p != nil {
		p.Acquire(ctx, req)
	}
}

// Adopt attaches the session to a lease, wherever it is.
func (s *session) Adopt(ctx context.Context, req *renew.AdoptRequest) {
	whole := ctx
	ctx, q, to := s.begin(ctx, req.RequestID)
	switch {
	case q == nil:
		return
	case to != nil:
		if p := s.part(to); p != nil {
			p.Adopt(whole, req)
		}
		return
	}
	s.r.running.Go(func() {
		b, err := s.r.locate(ctx, req.LockID, req.Token)
		if err == nil && !s.lead(q, b) {
			err = context.Canceled
		}
		if err != nil {
			s.fail(q, req.RequestID, req.LockID, err)
			return
		}
		defer q.cancel()
		led := *req
		if to := s.r.table.Load().route(req.LockID); to != nil {
			if led.TTL == 0 {
				led.TTL = to.TTL
			}
			if to.MaxHold > 0 && (led.MaxHold == 0 || led.MaxHold > to.MaxHold) {
				led.MaxHold = to.MaxHold
			}
		}
		if p := s.part(b); p != nil {
			p.Adopt(whole, &led)
		}
	})
}

// Release ends a hold where it is, or gives up a request.
func (s *session) Release(req *backend.ReleaseRequest) {
	s.mu.Lock()
	var to *Branch
	if q := s.requests[req.RequestID]; q != nil {
		if to = q.b; to == nil && req.LeaseID == "" {
			q.released = true
			q.cancel()
			s.mu.Unlock()
			return
		}
	}
	s.mu.Unlock()
	if to != nil {
		s.releaseAt(to, req)
		return
	}
	if b := s.r.uses.holder(req.LockID, req.Token); b != nil {
		s.releaseAt(b, req)
		return
	}
	s.r.running.Go(func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*lookTimeout)
		defer cancel()
		b, err := s.r.locate(ctx, req.LockID, req.Token)
		if err != nil {
			s.told(renew.Event{Kind: renew.Failed, RequestID: req.RequestID, LockID: req.LockID, Err: err})
			return
		}
		s.releaseAt(b, req)
	})
}

func (s *session) releaseAt(b *Branch, req *backend.ReleaseRequest) {
	if p := s.part(b); p != nil {
		p.Release(req)
	}
}

// End ends the session on every branch.
func (s *session) End(how renew.End) {
	s.mu.Lock()
	s.ended = max(s.ended, how)
	parts := make([]*renew.Session, 0, len(s.parts))
	for _, p := range s.parts {
		parts = append(parts, p)
	}
	for _, q := range s.requests {
		if q.b == nil {
			q.cancel()
		}
	}
	s.mu.Unlock()
	for _, p := range parts {
		p.End(how)
	}
}
