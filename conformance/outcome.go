package conformance

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The outcomes as texts, of the model and of a driver.
const (
	notOwner   = "not the owner"
	staleToken = "stale token"
	ambiguous  = "ambiguous hold"
	// noLease: LOST and stale are both allowed.
	noLease = "no lease with the token"
)

func lost(c driver.Cause) string { return "lost: " + string(c) }

func left(holds int) string { return fmt.Sprintf("released, %d left", holds) }

func heldText(bySelf, otherMode bool, queue int) string {
	return fmt.Sprintf("held by self %v, other mode %v, queue %d", bySelf, otherMode, queue)
}

func leaseText(token int64, shared bool, holds int, attach int64) string {
	return fmt.Sprintf("lease %d shared %v holds %d attach %d", token, shared, holds, attach)
}

func (h *modelHolder) String() string { return leaseText(h.token, h.shared, len(h.holds), h.attach) }

// leaseOf is a driver's lease; what an endpoint hides is taken from the model.
func (t *T) leaseOf(l *driver.Lease, m *model) string {
	attach := l.Attach
	if h := m.holder(func(h *modelHolder) bool { return h.token == l.Token }); h != nil && !t.can(NeedAttach) {
		attach = h.attach
	}
	return leaseText(l.Token, l.Shared, len(l.Holds), attach)
}

func errorText(err error) string {
	var held *driver.HeldError
	var gone *driver.LostError
	switch {
	case errors.As(err, &held):
		return heldText(held.BySelf, held.OtherMode, held.QueueLength)
	case errors.As(err, &gone):
		return lost(gone.Cause)
	case errors.Is(err, driver.ErrNotOwner):
		return notOwner
	case errors.Is(err, driver.ErrStaleToken):
		return staleToken
	case errors.Is(err, driver.ErrAmbiguousHold):
		return ambiguous
	}
	return "error: " + err.Error()
}

// goneText is the error of an evict or revoke.
func goneText(err error) string {
	if errors.Is(err, driver.ErrLost) || errors.Is(err, driver.ErrStaleToken) {
		return noLease
	}
	return errorText(err)
}

// state is the model's lock as Inspect should show it.
func (m *model) state(attach bool) string {
	l := driver.Lock{Token: m.last}
	for _, h := range m.holders {
		l.Holders = append(l.Holders, driver.Holder{
			OwnerID: h.owner, Token: h.token, Shared: h.shared, HoldCount: len(h.holds), Attach: h.attach, Revoked: h.revoked,
		})
	}
	for i, p := range m.waiters {
		l.Waiters = append(l.Waiters, driver.Waiter{OwnerID: p.req.OwnerID, Position: i + 1, Priority: p.req.Priority, Shared: p.req.Shared})
	}
	return stateText(&l, attach)
}

func stateText(l *driver.Lock, attach bool) string {
	var b strings.Builder
	fmt.Fprintf(&b, "token %d;", l.Token)
	holders := slices.Clone(l.Holders)
	slices.SortFunc(holders, func(a, b driver.Holder) int { return cmp.Compare(a.Token, b.Token) })
	for _, h := range holders {
		if !attach {
			h.Attach = 0
		}
		fmt.Fprintf(&b, " holder %s %d shared %v holds %d attach %d revoked %v;", h.OwnerID, h.Token, h.Shared, h.HoldCount, h.Attach, h.Revoked)
	}
	for _, w := range l.Waiters {
		fmt.Fprintf(&b, " waiter %s at %d priority %d shared %v;", w.OwnerID, w.Position, w.Priority, w.Shared)
	}
	return b.String()
}
