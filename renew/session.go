package renew

import (
	"context"
	"fmt"
	"slices"
	"sync"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// End says how a session ended, and so what becomes of its leases.
type End uint8

const (
	// EndBroken: the connection broke. Nothing is renewed any more, and
	// nothing is released: the application may still be inside its
	// valid-until, and may adopt its leases. EndDead may follow.
	EndBroken End = iota + 1
	// EndDrained: this sidecar stops. Its leases are released, except those
	// that linger: their application goes on, and adopts them from the sidecar
	// that comes next.
	EndDrained
	// EndDead: the application's process is proven dead. Its leases are
	// released, except those that linger.
	EndDead
	// EndRequested: the application ended the session. Everything is released.
	EndRequested
)

// SessionOptions configure a session.
type SessionOptions struct {
	// Notify is told the session's events, one at a time and in order. It must
	// not block; it may call the session.
	Notify func(Event)
}

// Session is one application's open stream of requests. It is safe for
// concurrent use.
type Session struct {
	k      *Keeper
	notify func(Event)

	mu      sync.Mutex
	ended   End
	pending map[string]*pending
	// holds finds the lease of a hold, byOwner that of an owner.
	holds   map[string]*lease
	byOwner map[lockOwner]*lease
	// events wait for the goroutine that notifies; after waits for the mutex
	// to be free.
	events    []Event
	notifying bool
	after     []func()
}

type lockOwner struct{ lockID, ownerID string }

// pending is an acquire or adopt that has not been answered.
type pending struct {
	cancel context.CancelFunc
	// released: the application gave it up by a release.
	released bool
	// adopts is the lease id, if it is an adopt.
	adopts string
}

// Open starts a session.
func (k *Keeper) Open(o SessionOptions) *Session {
	s := &Session{
		k: k, notify: o.Notify, pending: make(map[string]*pending),
		holds: make(map[string]*lease), byOwner: make(map[lockOwner]*lease),
	}
	k.mu.Lock()
	defer k.mu.Unlock()
	if k.closed {
		s.ended = EndRequested
	} else {
		k.sessions[s] = struct{}{}
	}
	return s
}

// update runs f under the session's mutex, then, without it, what f left to be
// done and the events that it emitted.
func (s *Session) update(f func()) {
	s.mu.Lock()
	f()
	for len(s.after) > 0 || len(s.events) > 0 && !s.notifying {
		after := s.after
		s.after = nil
		var events []Event
		if !s.notifying {
			events, s.events = s.events, nil
			s.notifying = len(events) > 0
		}
		mine := len(events) > 0
		s.mu.Unlock()
		for _, f := range after {
			f()
		}
		for _, e := range events {
			s.notify(e)
		}
		s.mu.Lock()
		if mine {
			s.notifying = false
		}
	}
	s.mu.Unlock()
}

func (s *Session) emit(e Event) {
	if s.ended == 0 {
		s.events = append(s.events, e)
	}
}

// background releases a hold once the mutex is free.
func (s *Session) background(req *backend.ReleaseRequest) {
	s.after = append(s.after, func() { s.k.giveBack(req) })
}

// begin enters a request, unless the session has ended or the request is under
// way already (its answer will come).
func (s *Session) begin(ctx context.Context, requestID string) (_ context.Context, p *pending) {
	s.update(func() {
		switch {
		case s.ended != 0:
		case s.pending[requestID] != nil:
		default:
			p = &pending{}
			ctx, p.cancel = context.WithCancel(ctx)
			s.pending[requestID] = p
			s.k.background.Add(1)
		}
	})
	return ctx, p
}

// Acquire asks for a lease. It returns at once; events tell what became of it.
// The request id must be set. The wait ends with ctx.
func (s *Session) Acquire(ctx context.Context, req *AcquireRequest) {
	r := req.AcquireRequest
	ctx, p := s.begin(ctx, r.RequestID)
	if p == nil {
		return
	}
	if r.LeaseID == "" {
		r.LeaseID = s.leaseIDFor(&r)
	}
	r.OnQueued = func(position, length int) {
		s.update(func() {
			s.emit(Event{Kind: Queued, RequestID: r.RequestID, LockID: r.LockID, Position: position, QueueLength: length})
		})
	}
	h := &hold{id: r.RequestID, store: []string{r.RequestID}, linger: req.Linger}
	s.k.store.AcquireAsync(ctx, &r, func(l *backend.Lease, err error) {
		if req.MaxHold > 0 {
			h.until = s.k.o.Clock.Now().Add(req.MaxHold)
		}
		s.answered(p, h, r.LockID, l, err)
	})
}

// leaseIDFor is the secret of the session's own lease, if the request repeats
// one of its holds or re-enters.
func (s *Session) leaseIDFor(r *backend.AcquireRequest) string {
	s.mu.Lock()
	defer s.mu.Unlock()
	l := s.holds[r.RequestID]
	if l == nil && r.Reentrant {
		l = s.byOwner[lockOwner{r.LockID, r.OwnerID}]
	}
	if l == nil || l.phase != live || l.LockID != r.LockID {
		return ""
	}
	return l.LeaseID
}

// Adopt attaches the session to a lease that stands. It returns at once.
func (s *Session) Adopt(ctx context.Context, req *AdoptRequest) {
	ctx, p := s.begin(ctx, req.RequestID)
	if p == nil {
		return
	}
	s.update(func() { p.adopts = req.LeaseID })
	go func() {
		ref := req.LeaseRef
		ref.Attach = 0
		l, err := s.k.store.Adopt(ctx, &backend.RenewRequest{LeaseRef: ref, TTL: req.TTL})
		h := &hold{id: req.RequestID, linger: req.Linger, adopted: true}
		if err == nil {
			h.store = l.Holds
			for _, id := range l.Holds {
				if id == req.RequestID {
					h.store = []string{id}
				}
			}
		}
		if req.MaxHold > 0 {
			h.until = s.k.o.Clock.Now().Add(req.MaxHold)
		}
		s.answered(p, h, req.LockID, l, err)
	}()
}

// answered takes the outcome of an acquire or adopt.
func (s *Session) answered(p *pending, h *hold, lockID string, l *backend.Lease, err error) {
	defer s.k.background.Done()
	p.cancel()
	var older *lease
	s.update(func() {
		delete(s.pending, h.id)
		switch {
		case err != nil && p.released:
			s.emit(Event{Kind: Released, RequestID: h.id, LockID: lockID})
		case err != nil:
			s.emit(Event{Kind: Failed, RequestID: h.id, LockID: lockID, Err: err})
		case s.ended != 0 && !p.released && s.known(h, l):
			// The application may still rely on what it was told before.
		case s.ended != 0 || p.released || s.k.o.Clock.Now() >= l.ValidUntil:
			// Nobody was told of the grant, or it came too late to be one.
			if !h.adopted && !p.released {
				s.after = append(s.after, func() { s.k.store.Undo(l) })
			} else {
				for _, id := range h.store {
					s.background(&backend.ReleaseRequest{LeaseRef: l.Ref(true), RequestID: id})
				}
			}
			if p.released {
				s.emit(Event{Kind: Released, RequestID: h.id, LockID: lockID})
			} else {
				s.emit(Event{Kind: Failed, RequestID: h.id, LockID: lockID, Err: fmt.Errorf("acquire %q: %w", lockID, driver.Lost(driver.CauseExpired))})
			}
		default:
			older = s.granted(h, l)
		}
	})
	if older != nil {
		older.s.update(func() { older.lose(ReasonReattached) })
	}
}

// known says whether the application may have been told of the lease already,
// on another stream: it adopted it, or repeated an acquire that had been
// answered. Then the end of this session says nothing about its use, unless the
// process is dead.
func (s *Session) known(h *hold, l *backend.Lease) bool {
	return (h.adopted || l.Attach > 1) && (s.ended != EndDead || h.linger)
}

// granted enters the hold, and returns the lease of the older attachment, if
// another session has one: it is lost.
func (s *Session) granted(h *hold, l *backend.Lease) (older *lease) {
	owner := lockOwner{l.LockID, l.OwnerID}
	held := s.byOwner[owner]
	if held == nil || held.Token != l.Token || held.phase != live {
		held = &lease{Lease: *l, s: s, since: s.k.o.Clock.Now(), renewAt: nextRenewal(l.Origin, l.TTL)}
		s.byOwner[owner] = held
		s.k.held.Add(1)
		s.k.o.Observer.Held(HeldObservation{LockID: l.LockID, Shared: l.Shared, Delta: 1})
	} else {
		// Answers may come in another order than the store gave them.
		until, attach := max(held.ValidUntil, l.ValidUntil), max(held.Attach, l.Attach)
		held.Lease = *l
		held.ValidUntil, held.Attach = until, attach
	}
	held.ttl = max(held.ttl, l.TTL)
	if s.holds[h.id] == held {
		for _, known := range held.holds {
			if known.id == h.id {
				*known = *h
			}
		}
	} else {
		held.holds = append(held.holds, h)
		s.holds[h.id] = held
	}
	older = s.k.index.put(held)
	s.emit(Event{Kind: Granted, RequestID: h.id, LockID: l.LockID, Lease: held.answer(h.id)})
	held.schedule()
	return older
}

// Cancel gives up a pending acquire or adopt; its last event is Released.
func (s *Session) Cancel(requestID string) {
	s.update(func() {
		if p := s.pending[requestID]; p != nil {
			p.released = true
			s.after = append(s.after, p.cancel)
		}
	})
}

// Release ends a hold. It returns at once; Released or Failed tells the
// outcome. LeaseID and Token may be left out for a hold of this session. A
// pending acquire is given up.
func (s *Session) Release(req *backend.ReleaseRequest) {
	r := *req
	answerTo := r.RequestID
	s.update(func() {
		if p := s.pending[r.RequestID]; p != nil && r.LeaseID == "" {
			p.released = true
			s.after = append(s.after, p.cancel)
			return
		}
		l, h := s.find(&r)
		if s.ended != 0 {
			return
		}
		s.k.background.Add(1)
		if l == nil {
			s.after = append(s.after, func() { s.forward(&r, answerTo) })
			return
		}
		if answerTo == "" {
			answerTo = h.id
		}
		h.leaving = true
		if l.phase == live && !slices.ContainsFunc(l.holds, func(h *hold) bool { return !h.leaving }) {
			l.unhold(leaving) // not renewed from here on, whatever the store answers
			l.schedule()
		}
		s.after = append(s.after, func() { s.release(l, h, answerTo) })
	})
}

// find returns the session's own hold that the request names, if what it
// proves is that hold's lease.
func (s *Session) find(r *backend.ReleaseRequest) (*lease, *hold) {
	l := s.holds[r.RequestID]
	if l == nil && r.RequestID == "" && r.Token != 0 {
		if named := s.k.index.find(r.LockID, r.Token); named != nil && named.s == s && len(named.holds) == 1 {
			l = named
			r.RequestID = l.holds[0].id
		}
	}
	if l == nil || r.LockID != "" && r.LockID != l.LockID || r.LeaseID != "" && r.LeaseID != l.LeaseID || r.Token != 0 && r.Token != l.Token {
		return nil, nil
	}
	for _, h := range l.holds {
		if h.id == r.RequestID {
			return l, h
		}
	}
	return nil, nil
}

// forward passes on a release that is about no hold of this session.
func (s *Session) forward(r *backend.ReleaseRequest, answerTo string) {
	ctx, cancel := context.WithTimeout(s.k.ctx, releaseTimeout)
	s.k.store.ReleaseAsync(ctx, r, func(res *driver.ReleaseResult, err error) {
		defer s.k.background.Done()
		cancel()
		s.update(func() { s.tellRelease(answerTo, r.LockID, res, err) })
	})
}

func (s *Session) tellRelease(requestID, lockID string, res *driver.ReleaseResult, err error) {
	e := Event{Kind: Released, RequestID: requestID, LockID: lockID, Err: err}
	if err != nil {
		e.Kind = Failed
	} else {
		e.HoldCount = res.HoldCount
	}
	s.emit(e)
}

// release ends what the store knows of a hold, one request id after the other.
func (s *Session) release(l *lease, h *hold, answerTo string) {
	ctx, cancel := context.WithTimeout(s.k.ctx, releaseTimeout)
	ids := h.store
	ref := l.Ref(true)
	var next func(res *driver.ReleaseResult, err error)
	next = func(res *driver.ReleaseResult, err error) {
		if err == nil && len(ids) > 0 {
			id := ids[0]
			ids = ids[1:]
			s.k.store.ReleaseAsync(ctx, &backend.ReleaseRequest{LeaseRef: ref, RequestID: id}, next)
			return
		}
		defer s.k.background.Done()
		cancel()
		s.update(func() {
			if _, decided := reasonOf(err); err == nil || decided {
				l.drop(h)
				if len(l.holds) == 0 && l.phase != gone {
					l.forget()
				}
			}
			s.tellRelease(answerTo, l.LockID, res, err)
		})
	}
	next(nil, nil)
}

// End ends the session; no event follows. It returns at once. A session that
// broke may still end as dead.
func (s *Session) End(how End) {
	s.update(func() {
		if how <= s.ended {
			return
		}
		s.ended = how
		s.events = nil
		for _, p := range s.pending {
			s.after = append(s.after, p.cancel)
		}
		for _, l := range s.leases() {
			switch how {
			case EndBroken:
				l.unhold(leaving)
				l.schedule() // forgotten at its valid-until
				continue
			case EndDrained, EndDead, EndRequested:
				for _, h := range l.holds {
					if how == EndRequested || !h.linger {
						l.giveBack(h)
					}
				}
			}
			l.forget()
		}
		s.leaveKeeper()
	})
}

// leaveKeeper forgets a session that has ended and has no lease left.
func (s *Session) leaveKeeper() {
	if s.ended != 0 && len(s.holds) == 0 {
		s.k.mu.Lock()
		delete(s.k.sessions, s)
		s.k.mu.Unlock()
	}
}

// drain ends a session that is open; one that broke keeps its leases for
// adoption.
func (s *Session) drain() {
	s.mu.Lock()
	open := s.ended == 0
	s.mu.Unlock()
	if open {
		s.End(EndDrained)
	}
}

// leases are the session's, each once.
func (s *Session) leases() []*lease {
	seen := make(map[*lease]bool, len(s.holds))
	var leases []*lease
	for _, l := range s.holds {
		if !seen[l] {
			seen[l] = true
			leases = append(leases, l)
		}
	}
	return leases
}
