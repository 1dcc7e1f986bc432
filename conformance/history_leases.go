package conformance

import (
	"context"
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

func (h *history) renew(l *historyLock, d driver.Driver) { h.prolong(l, "renew", d.Renew, false) }

func (h *history) adopt(l *historyLock, d driver.Driver) { h.prolong(l, "adopt", d.Adopt, true) }

func (h *history) release(l *historyLock, d driver.Driver) {
	ref, request, ok := h.ref(l)
	if !ok || request == "" && !slices.ContainsFunc(l.holders, func(o *modelHolder) bool { return o.token == ref.Token }) {
		return
	}
	want, got := l.model.release(ref, request), ""
	if res, err := d.Release(h.t.ctx, &driver.ReleaseRequest{LeaseRef: ref, RequestID: request}); err != nil {
		got = errorText(err)
	} else {
		got = left(res.HoldCount)
	}
	if got == lost(driver.CauseUnknown) && l.overtaken(ref) {
		want = got
	}
	h.compare(l, fmt.Sprintf("release hold %q of %d (attach %d, key %.4s)", request, ref.Token, ref.Attach, ref.Key), got, want)
}

func (h *history) prolong(l *historyLock, what string, call func(context.Context, *driver.RenewRequest) (*driver.Lease, error), adopt bool) {
	ref, _, ok := h.ref(l)
	if !ok {
		return
	}
	if adopt {
		ref.Attach = 0
	}
	lease, err := call(h.t.ctx, &driver.RenewRequest{LeaseRef: ref, TTL: lasting})
	want, got := l.model.prolong(ref, adopt), ""
	if err != nil {
		got = errorText(err)
	} else {
		got = h.t.leaseOf(lease, &l.model)
	}
	if got == lost(driver.CauseUnknown) && l.overtaken(ref) {
		want = got
	}
	h.compare(l, fmt.Sprintf("%s %d (attach %d, key %.4s)", what, ref.Token, ref.Attach, ref.Key), got, want)
}

// leave is of a known request, or of one that never came; of all of it, or of
// one attempt at it.
func (h *history) leave(l *historyLock, d driver.Driver) {
	request := h.known(l)
	if request == "" || h.rng.IntN(4) == 0 {
		request = h.request(l).RequestID
	}
	var key driver.Key
	if h.t.can(NeedKeys) {
		keys := []driver.Key{"", h.requests[request].Key}
		if holder := l.holding(request); holder != nil {
			keys = append(keys, holder.key)
		}
		key = pick(h.rng, keys)
	}
	l.model.leave(request, key)
	h.left[attempt{request, key}] = true
	got := "left"
	if err := d.Leave(h.t.ctx, &driver.LeaveRequest{LockID: l.id, RequestID: request, Key: key}); err != nil {
		got = errorText(err)
	}
	h.compare(l, fmt.Sprintf("leave %s (key %.4s)", request, key), got, "left")
}

func (h *history) revoke(l *historyLock, d driver.Driver) {
	ref, _, ok := h.ref(l)
	if !ok || h.rng.IntN(3) > 0 {
		return
	}
	want, got := l.model.revoke(ref.Token), ""
	if holder, err := d.Revoke(h.t.ctx, &driver.EvictRequest{LockID: l.id, Token: ref.Token, Cause: driver.CauseForced}); err != nil {
		got = goneText(err)
	} else {
		got = fmt.Sprintf("revoked %s %d", holder.OwnerID, holder.Token)
	}
	h.compare(l, fmt.Sprint("revoke ", ref.Token), got, want)
}

func (h *history) evict(l *historyLock, d driver.Driver) {
	ref, _, ok := h.ref(l)
	if !ok {
		return
	}
	cause := pick(h.rng, []driver.Cause{driver.CauseForced, driver.CauseDeadlock, driver.CauseExpired})
	want, got := l.model.evict(ref.Token, cause), ""
	if e, err := d.Evict(h.t.ctx, &driver.EvictRequest{LockID: l.id, Token: ref.Token, Cause: cause}); err != nil {
		got = goneText(err)
	} else {
		got = fmt.Sprintf("ended %s %d %s", e.OwnerID, e.Token, e.Cause)
	}
	h.compare(l, fmt.Sprintf("evict %d as %s", ref.Token, cause), got, want)
}
