package renew

import (
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/driver"
)

// phase is where a lease stands in its life. It only moves forward.
type phase uint8

const (
	// live: held and renewed.
	live phase = iota
	// leaving: its last hold is being released, or its session broke; it is
	// not renewed any more, but still known.
	leaving
	// revoked: lost by force; its release is the acknowledgement.
	revoked
	// gone: lost, released or forgotten.
	gone
)

// lease is a lease held for a session; the session's mutex guards it.
type lease struct {
	entry
	backend.Lease
	s     *Session
	phase phase
	holds []*hold
	// since is when it was entered here.
	since driver.Instant
	// ttl is what renewals ask for.
	ttl     time.Duration
	renewAt driver.Instant
	// attempts are the renewals of this round that are in flight. A round ends
	// with a success; what is still unanswered of it counts for nothing.
	attempts, round int
	// again: a hint came while a renewal was in flight.
	again      bool
	failures   int
	toldAtRisk bool
}

// hold is one acquire or adopt that holds the lease.
type hold struct {
	id string
	// store are the request ids by which the store knows it.
	store  []string
	until  driver.Instant // max_hold; 0 means no bound
	linger bool
	// adopted: the lease was granted to another attachment.
	adopted bool
	// leaving: its release is under way.
	leaving bool
}

// tell emits an event with the lease for each of its holds.
func (l *lease) tell(kind Kind) {
	for _, h := range l.holds {
		l.s.emit(Event{Kind: kind, RequestID: h.id, LockID: l.LockID, Lease: l.answer(h.id)})
	}
}

// answer is the lease as the answer to one of its holds.
func (l *lease) answer(requestID string) *backend.Lease {
	a := l.Lease
	a.RequestID = requestID
	return &a
}

// look does what is due for the lease, and reports whether it is to be renewed.
func (l *lease) look() (a attempt, renew bool) {
	l.s.update(func() {
		now := l.s.k.o.Clock.Now()
		switch {
		case l.phase == gone:
			return
		case now.Add(slot) >= l.ValidUntil && l.phase == live:
			// Within a slot of the end no renewal can be waited for.
			l.lose(ReasonUnreachable)
			return
		case now >= l.ValidUntil:
			l.forget()
			return
		case l.phase != live:
			l.schedule()
			return
		}
		for _, h := range slices.Clone(l.holds) {
			if h.until != 0 && now.Add(slot) >= h.until {
				l.loseHold(h, ReasonMaxHold)
				l.giveBack(h)
			}
		}
		if len(l.holds) == 0 {
			l.forget()
			return
		}
		if l.attempts < maxAttempts && now.Add(slot) >= l.renewAt {
			if l.attempts > 0 {
				l.failures++ // as good as failed, unless it is answered after all
			}
			l.attempts++
			a, renew = attempt{l, l.round}, true
			l.renewAt = now.Add(patience(l.ttl))
		}
		if l.failures > 0 && !l.toldAtRisk && l.ValidUntil.Sub(now) < l.TTL/renewShare {
			l.toldAtRisk = true
			l.tell(AtRisk)
		}
		l.schedule()
	})
	return a, renew
}

// schedule puts the lease on the wheel for the earliest thing that is due.
func (l *lease) schedule() {
	next := l.ValidUntil
	if l.phase == live {
		if l.attempts < maxAttempts {
			next = min(next, l.renewAt)
		}
		if !l.toldAtRisk {
			if atRisk := l.ValidUntil.Add(-l.TTL / renewShare); atRisk > l.s.k.o.Clock.Now() {
				next = min(next, atRisk+driver.Instant(slot))
			} else if l.failures > 0 {
				next = 0
			}
		}
		for _, h := range l.holds {
			if h.until != 0 {
				next = min(next, h.until)
			}
		}
	}
	l.s.k.wheel.set(l, next)
}

// lose ends the lease: every hold is told. What the store may still keep is
// given back, except after a force-release, whose acknowledgement is the
// application's.
func (l *lease) lose(reason Reason) {
	if l.phase == gone || l.phase == revoked {
		return
	}
	wasLive := l.phase == live
	if wasLive {
		for _, h := range l.holds {
			l.s.emit(Event{Kind: Lost, RequestID: h.id, LockID: l.LockID, Token: l.Token, Reason: reason})
		}
		l.s.k.o.Observer.Lost(l.loss("", reason))
	}
	switch reason {
	case ReasonForced:
		l.unhold(revoked)
		l.schedule()
		return
	case ReasonUnreachable:
		for _, h := range l.holds {
			l.giveBack(h)
		}
	}
	l.forget()
}

// loseHold ends one hold of a lease that goes on.
func (l *lease) loseHold(h *hold, reason Reason) {
	l.s.emit(Event{Kind: Lost, RequestID: h.id, LockID: l.LockID, Token: l.Token, Reason: reason})
	l.s.k.o.Observer.Lost(l.loss(h.id, reason))
	l.drop(h)
}

func (l *lease) loss(requestID string, reason Reason) LostObservation {
	return LostObservation{
		LockID: l.LockID, OwnerID: l.OwnerID, Token: l.Token, Shared: l.Shared, Attach: l.Attach, RequestID: requestID, Reason: reason,
		ValidUntil: l.ValidUntil,
	}
}

func (l *lease) drop(h *hold) {
	l.holds = slices.DeleteFunc(l.holds, func(other *hold) bool { return other == h })
	delete(l.s.holds, h.id)
}

// giveBack releases, in the background, what the store knows of a hold.
func (l *lease) giveBack(h *hold) {
	for _, id := range h.store {
		l.s.background(&backend.ReleaseRequest{LeaseRef: l.Ref(true), RequestID: id})
	}
}

// unhold leaves the live phase, in which the lease counts as held.
func (l *lease) unhold(to phase) {
	if l.phase == live {
		l.s.k.held.Add(-1)
		l.s.k.o.Observer.Held(HeldObservation{
			LockID: l.LockID, Shared: l.Shared, Delta: -1, For: l.s.k.o.Clock.Now().Sub(l.since),
		})
	}
	l.phase = to
}

// forget takes the lease out of everything.
func (l *lease) forget() {
	l.unhold(gone)
	l.s.k.wheel.remove(l)
	l.s.k.index.remove(l)
	for _, h := range l.holds {
		if l.s.holds[h.id] == l {
			delete(l.s.holds, h.id)
		}
	}
	if owner := (lockOwner{l.LockID, l.OwnerID}); l.s.byOwner[owner] == l {
		delete(l.s.byOwner, owner)
	}
	l.s.leaveKeeper()
}
