package postgres

import (
	"cmp"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// micros is a time by the server's clock, in µs since 1970.
type micros int64

// add rounds up: a lease never ends early.
func (m micros) add(d time.Duration) micros {
	return m + micros((d+time.Microsecond-1)/time.Microsecond)
}

func (m micros) sub(n micros) time.Duration { return time.Duration(m-n) * time.Microsecond }

// record is all the state of one lock, as it stands in its row.
type record struct {
	Format int `json:"format"`
	// Last is the highest token granted, Seq the last ticket.
	Last   int64    `json:"last,omitempty"`
	Seq    int64    `json:"seq,omitempty"`
	Leases []*lease `json:"leases,omitempty"`
	// Places are in order.
	Places []*place `json:"places,omitempty"`
	// Ends are the latest ends of holds, the newest last.
	Ends []end `json:"ends,omitempty"`
	// Untold are expired leases that no call has reported yet.
	Untold []driver.Ended `json:"untold,omitempty"`
}

type lease struct {
	Owner    string            `json:"owner"`
	Token    int64             `json:"token"`
	Key      driver.Key        `json:"key"`
	Shared   bool              `json:"shared,omitempty"`
	Holds    []string          `json:"holds"`
	Attach   int64             `json:"attach"`
	TTL      time.Duration     `json:"ttl"`
	Expires  micros            `json:"expires"`
	Revoked  bool              `json:"revoked,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
}

type place struct {
	Owner    string     `json:"owner"`
	Request  string     `json:"request"`
	Key      driver.Key `json:"key"` // of the latest attempt that asked for it
	Ticket   int64      `json:"ticket"`
	Priority int        `json:"priority,omitempty"`
	Shared   bool       `json:"shared,omitempty"`
	Deadline micros     `json:"deadline"`
}

// end is how a hold ended. One that Leave made for a request without a hold has
// no token; Attempt, if not empty, is the key of the only acquires that it ends.
type end struct {
	Request string       `json:"request"`
	Token   int64        `json:"token,omitempty"`
	Key     driver.Key   `json:"key,omitempty"`
	Cause   driver.Cause `json:"cause"`
	Attempt driver.Key   `json:"attempt,omitempty"`
}

func newRecord() *record { return &record{Format: driver.Format} }

func decode(raw string) (*record, error) {
	r := &record{}
	err := json.Unmarshal([]byte(raw), r)
	switch {
	case r.Format > driver.Format: // whatever else it is by then
		return nil, fmt.Errorf("%w: it has format %d", driver.ErrFormat, r.Format)
	case err != nil:
		return nil, fmt.Errorf("%w: it is damaged: %w", driver.ErrUnavailable, err)
	}
	return r, nil
}

// encode always gives the same text for the same record, so that a change shows.
func (r *record) encode() string {
	raw, err := json.Marshal(r)
	if err != nil {
		panic(err) // texts and numbers only
	}
	return string(raw)
}

// until is when the last lease or place runs out, and when the last place does.
func (r *record) until() (busy, waited micros) {
	for _, p := range r.Places {
		waited = max(waited, p.Deadline)
	}
	busy = waited
	for _, l := range r.Leases {
		busy = max(busy, l.Expires)
	}
	return busy, waited
}

// prune drops all that has run out, in one step.
func (r *record) prune(now micros) {
	for _, l := range slices.Clone(r.Leases) {
		if l.Expires <= now {
			r.endLease(l, driver.CauseExpired)
			r.Untold = append(r.Untold, l.ended("", driver.CauseExpired))
		}
	}
	r.Places = slices.DeleteFunc(r.Places, func(p *place) bool { return p.Deadline <= now })
}

func (r *record) endLease(l *lease, cause driver.Cause) {
	r.Leases = slices.DeleteFunc(r.Leases, func(other *lease) bool { return other == l })
	for _, request := range l.Holds {
		r.remember(end{Request: request, Token: l.Token, Key: l.Key, Cause: cause})
	}
}

func (r *record) remember(e end) {
	r.Ends = append(r.Ends, e)
	r.Ends = r.Ends[max(0, len(r.Ends)-driver.RememberedEnds):]
}

// endOf is the latest end that matches, nil if none does.
func (r *record) endOf(match func(end) bool) *end {
	for _, e := range slices.Backward(r.Ends) {
		if match(e) {
			return &e
		}
	}
	return nil
}

// leaseOf is the lease that matches, nil if none does.
func (r *record) leaseOf(match func(*lease) bool) *lease {
	if i := slices.IndexFunc(r.Leases, match); i >= 0 {
		return r.Leases[i]
	}
	return nil
}

// placeOf is the index of a request's place, -1 if it has none.
func (r *record) placeOf(request string) int {
	return slices.IndexFunc(r.Places, func(p *place) bool { return p.Request == request })
}

// dropPlace drops a request's place, if it has one.
func (r *record) dropPlace(request string) {
	r.Places = slices.DeleteFunc(r.Places, func(p *place) bool { return p.Request == request })
}

func comparePlaces(a, b *place) int {
	return cmp.Or(cmp.Compare(driver.OrderKey(a.Ticket, a.Priority), driver.OrderKey(b.Ticket, b.Priority)), cmp.Compare(a.Ticket, b.Ticket))
}

func (l *lease) ended(lockID string, cause driver.Cause) driver.Ended {
	return driver.Ended{LockID: lockID, OwnerID: l.Owner, Token: l.Token, Shared: l.Shared, Cause: cause}
}

// told is the lease as this call proves it to its holder.
func (l *lease) told(lockID string, at moment) *driver.Lease {
	return &driver.Lease{
		LockID: lockID, OwnerID: l.Owner, Token: l.Token, Shared: l.Shared, Holds: slices.Clone(l.Holds), Attach: l.Attach, TTL: l.TTL,
		Remaining: l.Expires.sub(at.now), Origin: at.origin, ExpiresAt: time.UnixMicro(int64(l.Expires)), Metadata: maps.Clone(l.Metadata),
	}
}

// shown is the lease as everybody may see it.
func (l *lease) shown(now micros) *driver.Holder {
	return &driver.Holder{
		OwnerID: l.Owner, Token: l.Token, Shared: l.Shared, HoldCount: len(l.Holds), Attach: l.Attach, TTL: l.TTL, Revoked: l.Revoked,
		Remaining: l.Expires.sub(now), ExpiresAt: time.UnixMicro(int64(l.Expires)), Metadata: maps.Clone(l.Metadata),
	}
}
