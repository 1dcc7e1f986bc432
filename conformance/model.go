package conformance

import (
	"cmp"
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// model is one lock by the words of package driver, without time: no lease of
// it expires and no place runs out. Its outcomes are texts, so that they can be
// compared with a driver's and read.
type model struct {
	last, seq int64
	holders   []*modelHolder
	waiters   []*modelPlace
	// ends are the latest ones, the newest last.
	ends []modelEnd
}

type modelHolder struct {
	owner   string
	token   int64
	key     driver.Key
	shared  bool
	holds   []string
	attach  int64
	revoked bool
}

type modelPlace struct {
	req    *driver.AcquireRequest
	ticket int64
	// key is the latest attempt's.
	key driver.Key
}

type modelEnd struct {
	request string
	token   int64
	key     driver.Key
	cause   driver.Cause
	// attempt, if not empty, is the key of the only acquires that it ends.
	attempt driver.Key
}

func (e modelEnd) ends(request string, key driver.Key) bool {
	return e.request == request && (e.attempt == "" || e.attempt == key)
}

func (m *model) holding(request string) *modelHolder {
	return m.holder(func(h *modelHolder) bool { return slices.Contains(h.holds, request) })
}

func (m *model) holder(match func(*modelHolder) bool) *modelHolder {
	if i := slices.IndexFunc(m.holders, match); i >= 0 {
		return m.holders[i]
	}
	return nil
}

// end is the latest one that matches.
func (m *model) end(match func(modelEnd) bool) (modelEnd, bool) {
	for _, e := range slices.Backward(m.ends) {
		if match(e) {
			return e, true
		}
	}
	return modelEnd{}, false
}

func (m *model) remember(e modelEnd) {
	m.ends = append(m.ends, e)
	m.ends = m.ends[max(0, len(m.ends)-driver.RememberedEnds):]
}

func (m *model) position(request string) int {
	return slices.IndexFunc(m.waiters, func(p *modelPlace) bool { return p.req.RequestID == request }) + 1
}

func (m *model) leaveQueue(request string) bool {
	before := len(m.waiters)
	m.waiters = slices.DeleteFunc(m.waiters, func(p *modelPlace) bool { return p.req.RequestID == request })
	return len(m.waiters) < before
}

func (m *model) admits(shared bool) bool {
	return len(m.holders) == 0 || shared && m.holders[0].shared
}

// ahead says whether a living waiter stands before the request's place.
func (m *model) ahead(r *driver.AcquireRequest) bool {
	for _, p := range m.waiters {
		if p.req.RequestID == r.RequestID {
			return false
		}
		if !r.Shared || !p.req.Shared {
			return true
		}
	}
	return len(m.waiters) > 0
}

// acquire follows the steps of driver.Driver.Acquire. A new grant gets the
// token that the driver gave, if that one rises.
func (m *model) acquire(r *driver.AcquireRequest, token int64) string {
	if h := m.holding(r.RequestID); h != nil {
		if h.revoked {
			return lost(driver.CauseForced)
		}
		if h.key != r.Key {
			h.key = r.Key
			h.attach++
		}
		return h.String()
	}
	if e, ok := m.end(func(e modelEnd) bool { return e.ends(r.RequestID, r.Key) }); ok {
		return lost(e.cause)
	}
	if h := m.holder(func(h *modelHolder) bool { return h.owner == r.OwnerID }); h != nil {
		m.leaveQueue(r.RequestID)
		if !r.Reentrant || h.key != r.Key || h.shared != r.Shared || h.revoked {
			return heldText(true, h.shared != r.Shared, len(m.waiters))
		}
		h.holds = append(h.holds, r.RequestID)
		return h.String()
	}
	if m.position(r.RequestID) == 0 && r.Enqueue {
		m.seq++
		m.waiters = append(m.waiters, &modelPlace{r, m.seq, r.Key})
		slices.SortFunc(m.waiters, func(a, b *modelPlace) int {
			return cmp.Or(cmp.Compare(driver.OrderKey(a.ticket, a.req.Priority), driver.OrderKey(b.ticket, b.req.Priority)), cmp.Compare(a.ticket, b.ticket))
		})
	}
	switch {
	case !m.ahead(r) && m.admits(r.Shared):
		m.leaveQueue(r.RequestID)
		if token <= m.last {
			return fmt.Sprintf("a lease with a token above %d", m.last)
		}
		m.last = token
		h := &modelHolder{owner: r.OwnerID, token: token, key: r.Key, shared: r.Shared, holds: []string{r.RequestID}, attach: 1}
		m.holders = append(m.holders, h)
		return h.String()
	case r.Enqueue:
		m.waiters[m.position(r.RequestID)-1].key = r.Key
		return fmt.Sprintf("place %d of %d", m.position(r.RequestID), len(m.waiters))
	}
	m.leaveQueue(r.RequestID)
	return heldText(false, false, len(m.waiters))
}

// find is the comparison of driver.LeaseRef; the text is why it failed.
func (m *model) find(ref driver.LeaseRef) (*modelHolder, string) {
	h := m.holder(func(h *modelHolder) bool { return h.token == ref.Token })
	switch {
	case h == nil && m.holder(func(h *modelHolder) bool { return h.key == ref.Key }) != nil:
		return nil, staleToken
	case h == nil:
		e, _ := m.end(func(e modelEnd) bool { return e.token == ref.Token && e.key == ref.Key })
		return nil, lost(cmp.Or(e.cause, driver.CauseUnknown))
	case h.key != ref.Key:
		return nil, notOwner
	case ref.Attach != 0 && ref.Attach != h.attach:
		return nil, lost(driver.CauseReattached)
	}
	return h, ""
}

// overtaken says that the request by whose end a lease is known to have ended has
// ended again since: a driver may keep the latest end of a request alone.
func (m *model) overtaken(ref driver.LeaseRef) bool {
	e, ok := m.end(func(e modelEnd) bool { return e.token == ref.Token && e.key == ref.Key })
	latest, _ := m.end(func(o modelEnd) bool { return o.request == e.request })
	return ok && latest != e
}

func (m *model) prolong(ref driver.LeaseRef, adopt bool) string {
	h, why := m.find(ref)
	switch {
	case h == nil:
		return why
	case h.revoked:
		return lost(driver.CauseForced)
	case adopt:
		h.attach++
	}
	return h.String()
}

func (m *model) release(ref driver.LeaseRef, request string) string {
	h, why := m.find(ref)
	own, _ := m.end(func(e modelEnd) bool { return e.request == request && e.token == ref.Token && e.key == ref.Key })
	stands := m.holder(func(h *modelHolder) bool { return h.token == ref.Token || h.key == ref.Key }) != nil
	switch {
	case why == lost(driver.CauseReleased), !stands && own.cause == driver.CauseReleased:
		return left(0) // repeated
	case h == nil:
		return why
	case request == "" && len(h.holds) > 1:
		return ambiguous
	case request == "":
		request = h.holds[0]
	}
	return left(m.dropHold(h, request))
}

func (m *model) dropHold(h *modelHolder, request string) int {
	if !slices.Contains(h.holds, request) {
		return len(h.holds)
	}
	h.holds = slices.DeleteFunc(h.holds, func(r string) bool { return r == request })
	m.remember(modelEnd{request: request, token: h.token, key: h.key, cause: driver.CauseReleased})
	if len(h.holds) == 0 {
		m.remove(h)
	}
	return len(h.holds)
}

func (m *model) remove(h *modelHolder) {
	m.holders = slices.DeleteFunc(m.holders, func(o *modelHolder) bool { return o == h })
}

// leave is of the attempt with the key, or of the whole request.
func (m *model) leave(request string, key driver.Key) {
	mine := func(k driver.Key) bool { return key == "" || k == key }
	if i := m.position(request) - 1; i >= 0 && mine(m.waiters[i].key) {
		m.leaveQueue(request)
	}
	if h := m.holding(request); h != nil {
		if mine(h.key) {
			m.dropHold(h, request)
			m.ends[len(m.ends)-1].attempt = key
		}
	} else if _, ok := m.end(func(e modelEnd) bool { return e.ends(request, key) }); !ok {
		m.remember(modelEnd{request: request, cause: driver.CauseReleased, attempt: key})
	}
}

// evict ends the lease that has the token, or refuses if that is to be expired.
func (m *model) evict(token int64, cause driver.Cause) string {
	h := m.holder(func(h *modelHolder) bool { return h.token == token })
	switch {
	case h == nil:
		return noLease
	case cause == driver.CauseExpired:
		return heldText(false, false, len(m.waiters))
	}
	for _, request := range h.holds {
		m.remember(modelEnd{request: request, token: h.token, key: h.key, cause: cause})
	}
	m.remove(h)
	return fmt.Sprintf("ended %s %d %s", h.owner, h.token, cause)
}

func (m *model) revoke(token int64) string {
	h := m.holder(func(h *modelHolder) bool { return h.token == token })
	if h == nil {
		return noLease
	}
	h.revoked = true
	return fmt.Sprintf("revoked %s %d", h.owner, h.token)
}
