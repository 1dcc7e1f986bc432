package socket

import (
	"context"
	"errors"
	"sync"
	"time"

	"github.com/locksidecar/locksidecar/renew"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// afterlife is how much longer than its longest lease a broken stream's process
// is watched.
const afterlife = 5 * time.Second

// phase is where a request of a stream stands, for the limits and to know when
// nothing is left to tell.
type phase uint8

const (
	waiting phase = iota + 1
	// adopting is exempt from the limit of those who wait.
	adopting
	held
	leaving
)

// hold is one stream of requests and events: a Hold or Drain call, or a :hold or
// :drain request over HTTP. Requests go to a session of the keeper, which answers by events;
// they wait in the outbox for the stream's sender.
type hold struct {
	s       *Server
	c       *conn
	session Session
	// life is the stream's own reference to the process: the connection's ends
	// with the connection.
	life   *life
	outbox outbox
	// over: the peer has too many calls, this one is good for adopting only.
	over bool
	// renewals: the client asked to be told of each.
	renewals bool
	// idle is closed when the client has no more requests and none of its
	// requests is without its last event.
	idle chan struct{}

	mu       sync.Mutex
	requests map[string]phase
	// others are releases of holds that are not this stream's.
	others     int
	longest    time.Duration
	halfClosed bool
	ended      bool
}

func (s *Server) openHold(c *conn, renewals bool) (*hold, error) {
	over, err := c.quota.hold()
	if err != nil {
		return nil, err
	}
	h := &hold{s: s, c: c, over: over, renewals: renewals, idle: make(chan struct{}), life: c.life.keep(), requests: make(map[string]phase)}
	h.outbox.init()
	h.session = s.o.Sessions.Open(renew.SessionOptions{Notify: h.notify})
	return h, nil
}

// acquire passes a request on; events tell the outcome.
func (h *hold) acquire(ctx context.Context, in *lockpb.AcquireRequest) {
	err := h.mayWait(lockpb.LockService_Hold_FullMethodName, VerbAcquire, in.GetLockId())
	var req *renew.AcquireRequest
	if err == nil {
		req, err = heldRequest(in)
	}
	h.begin(ctx, req, in.GetRequestId(), in.GetLockId(), err)
}

// drainLock passes an operator's drain on, as the one acquire of the stream.
func (h *hold) drainLock(ctx context.Context, in *lockpb.DrainRequest) {
	err := h.mayWait(lockpb.AdminService_Drain_FullMethodName, VerbForce, in.GetLockId())
	var req *renew.AcquireRequest
	if err == nil {
		req, err = h.s.drainRequest(in, h.c.operator())
	}
	h.begin(ctx, req, "", in.GetLockId(), err)
}

// mayWait says whether the peer may ask for a lock, and wait for it.
func (h *hold) mayWait(method string, verb Verb, lockID string) error {
	err := h.s.allow(h.c, method, verb, lockID)
	switch {
	case err != nil:
		return err
	case h.c.refused:
		return h.s.tooManyConnections()
	case h.over:
		return h.c.quota.tooManyCalls()
	}
	return nil
}

// begin passes a request on, or answers that it failed.
func (h *hold) begin(ctx context.Context, req *renew.AcquireRequest, requestID, lockID string, err error) {
	if err == nil && h.s.drain.Err() != nil {
		err = errDraining
	}
	if err == nil {
		err = h.admit(req.RequestID, waiting)
	}
	if err != nil {
		h.fail(requestID, lockID, err)
		return
	}
	h.session.Acquire(ctx, req)
}

func (h *hold) adopt(ctx context.Context, in *lockpb.AdoptRequest) {
	req, err := adoptRequest(in)
	if err == nil {
		err = h.admit(req.RequestID, adopting)
	}
	if err != nil {
		h.fail(in.GetRequestId(), in.GetLockId(), err)
		return
	}
	h.session.Adopt(ctx, req)
}

func (h *hold) release(in *lockpb.ReleaseRequest) {
	id := in.GetRequestId()
	h.mu.Lock()
	switch h.requests[id] {
	case 0, leaving:
		h.others++
	case held:
		h.requests[id] = leaving
		h.c.quota.leases.Add(-1)
	}
	h.mu.Unlock()
	h.session.Release(releaseRequest(in))
}

// fail answers a request that is not passed on.
func (h *hold) fail(requestID, lockID string, err error) {
	h.outbox.put(renew.Event{Kind: renew.Failed, RequestID: requestID, LockID: lockID, Err: err})
}

// admit enters a request, one that waits within the limits. A repeated one is
// entered once.
func (h *hold) admit(requestID string, as phase) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.ended || h.requests[requestID] != 0 {
		return nil
	}
	if as == waiting {
		if err := h.c.quota.wait(); err != nil {
			return err
		}
	}
	h.requests[requestID] = as
	return nil
}

// notify takes an event of the session.
func (h *hold) notify(e renew.Event) {
	h.mu.Lock()
	h.account(&e)
	h.mu.Unlock()
	if e.Kind != renew.Renewed || h.renewals {
		h.outbox.put(e)
	}
	h.settle()
}

func (h *hold) account(e *renew.Event) {
	if h.ended {
		return
	}
	was := h.requests[e.RequestID]
	switch e.Kind {
	case renew.Granted:
		h.longest = max(h.longest, e.Lease.TTL)
		if was == adopting {
			h.c.kept.Store(true)
		}
		if was == waiting || was == adopting {
			h.drop(e.RequestID, was)
			h.requests[e.RequestID] = held
			h.c.quota.leases.Add(1)
		}
	case renew.Lost:
		h.drop(e.RequestID, was)
		if was == leaving {
			h.others++ // the release will be answered too
		}
	case renew.Released, renew.Failed:
		if was == 0 || was == held {
			// The answer to a release that did not name a request of the stream.
			if h.others == 0 {
				return
			}
			h.others--
		}
		h.drop(e.RequestID, was)
	}
}

// drop takes a request out of the count.
func (h *hold) drop(requestID string, was phase) {
	switch was {
	case waiting:
		h.c.quota.answered()
	case held:
		h.c.quota.leases.Add(-1)
	}
	delete(h.requests, requestID)
}

// halfClose notes that the client sends no more requests.
func (h *hold) halfClose() {
	h.mu.Lock()
	h.halfClosed = true
	h.mu.Unlock()
	h.settle()
}

// settle closes idle when nothing can happen any more.
func (h *hold) settle() {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.halfClosed && !h.ended && len(h.requests) == 0 && h.others == 0 {
		select {
		case <-h.idle:
		default:
			close(h.idle)
		}
	}
}

// errCut is the cause of a stream that the sidecar cut off.
var errCut = errors.New("stream was cut off")

// drained is the cause of a stream that ends because the server stops.
func (s *Server) drained() error {
	if errors.Is(context.Cause(s.drain), errLeaving) {
		return errCut // what is held stands, to be adopted
	}
	return errDraining
}

// end ends the session by what became of the stream: nil and a cancelled
// context are the client's wish, a dead process and a broken connection are
// what they are, and so is a sidecar that stops. A process that dies after its
// connection broke still counts.
func (h *hold) end(cause error) {
	stood := h.close()
	switch {
	case h.life.isOver():
		h.session.End(renew.EndDead)
	case errors.Is(cause, errBroken) || errors.Is(cause, errCut):
		h.session.End(renew.EndBroken)
		if stood && h.life != nil {
			h.watch()
			return
		}
	case errors.Is(cause, errDraining):
		h.session.End(renew.EndDrained)
	default:
		h.session.End(renew.EndRequested)
	}
	h.life.release()
}

// close gives back what the stream counts, and reports whether it had a lease.
func (h *hold) close() (stood bool) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.ended = true
	h.c.quota.hangUp()
	for id, was := range h.requests {
		stood = stood || was == held || was == leaving
		h.drop(id, was)
	}
	return stood
}

// watch waits for the death of a process whose connection broke, for as long
// as its leases can stand.
func (h *hold) watch() {
	forgo := h.life.mourn(func() { h.session.End(renew.EndDead) })
	h.s.mourning.after(h.longest+afterlife, func() {
		forgo()
		h.life.release()
	})
}

// response is an event as the client gets it, with the time that is left now.
func (h *hold) response(e *renew.Event) *lockpb.HoldResponse {
	r := &lockpb.HoldResponse{RequestId: e.RequestID, LockId: e.LockID}
	switch e.Kind {
	case renew.Queued:
		r.Event = &lockpb.HoldResponse_Queued{Queued: &lockpb.Queued{Position: count(e.Position), QueueLength: count(e.QueueLength)}}
	case renew.Granted:
		r.Event = &lockpb.HoldResponse_Granted{Granted: leaseMessage(e.Lease, h.s.o.Clock.Now())}
	case renew.Renewed:
		r.Event = &lockpb.HoldResponse_Renewed{Renewed: leaseMessage(e.Lease, h.s.o.Clock.Now())}
	case renew.AtRisk:
		r.Event = &lockpb.HoldResponse_AtRisk{AtRisk: atRiskMessage(e.Lease, h.s.o.Clock.Now())}
	case renew.Lost:
		r.Event = &lockpb.HoldResponse_Lost{Lost: &lockpb.Lost{FencingToken: e.Token, Reason: string(e.Reason)}}
	case renew.Released:
		r.Event = &lockpb.HoldResponse_Released{Released: &lockpb.ReleaseResponse{LockId: e.LockID, HoldCount: count(e.HoldCount)}}
	case renew.Failed:
		err := h.s.forPeer(h.c, lockpb.LockService_Hold_FullMethodName, e.LockID, e.Err)
		r.Event = &lockpb.HoldResponse_Error{Error: h.s.explain(&requestError{err, e.RequestID}).event()}
	}
	return r
}
