package etcd

import (
	"encoding/json"
	"fmt"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The stored forms are JSON, so that etcdctl shows them. A key that this version
// does not know is dropped at the next write; what must not be dropped needs a
// new major format.

// record is what is kept of a lock although nobody holds it.
type record struct {
	Format int `json:"format"`
	// Last is the highest token granted, Seq the last ticket.
	Last int64 `json:"last"`
	Seq  int64 `json:"seq,omitempty"`
	// Ends are the latest ends of holds, the newest last.
	Ends []ending `json:"ends,omitempty"`
	// Touched is when it was last written, in µs, by the clock of who did.
	Touched int64 `json:"touched"`
}

// ending remembers how a hold ended; that of a Leave has no token and no key.
type ending struct {
	Request string       `json:"request"`
	Token   int64        `json:"token,omitempty"`
	Key     driver.Key   `json:"key,omitempty"`
	Cause   driver.Cause `json:"cause"`
	// Attempt, if not empty, is the key of the attempt that was left: others at
	// the request have not ended.
	Attempt driver.Key `json:"attempt,omitempty"`
}

// ends says whether an acquire is one of those that e ended.
func (e ending) ends(request string, key driver.Key) bool {
	return e.Request == request && (e.Attempt == "" || e.Attempt == key)
}

// holder is a lease, under its token.
type holder struct {
	Format   int               `json:"format"`
	Owner    string            `json:"owner"`
	Key      driver.Key        `json:"key"`
	Shared   bool              `json:"shared,omitempty"`
	Holds    []string          `json:"holds"`
	Attach   int64             `json:"attach"`
	TTL      int64             `json:"ttl_ms"`
	Revoked  bool              `json:"revoked,omitempty"`
	Metadata map[string]string `json:"metadata,omitempty"`
	// Lease is the etcd lease, To the inbox of the driver that it is attached to.
	Lease int64  `json:"lease"`
	To    string `json:"to"`

	token int64
	// rev is the revision of its key.
	rev int64
}

func (h *holder) ttl() time.Duration { return time.Duration(h.TTL) * time.Millisecond }

// place is a waiter, under its order and ticket.
type place struct {
	Format   int        `json:"format"`
	Owner    string     `json:"owner"`
	Request  string     `json:"request"`
	Key      driver.Key `json:"key"`
	Ticket   int64      `json:"ticket"`
	Priority int        `json:"priority,omitempty"`
	Shared   bool       `json:"shared,omitempty"`
	// Lasts is how long the place stands after each time that it was written.
	Lasts int64 `json:"lasts_ms"`

	// key and rev are those of its key in the store, under the etcd lease that has
	// the key.
	key   string
	rev   int64
	under int64
}

func (p *place) order() int64 { return driver.OrderKey(p.Ticket, p.Priority) }

func (p *place) lasts() time.Duration { return time.Duration(p.Lasts) * time.Millisecond }

// untold is an end that nobody has told yet, under its lock and token.
type untold struct {
	Format int          `json:"format"`
	Owner  string       `json:"owner"`
	Shared bool         `json:"shared,omitempty"`
	Cause  driver.Cause `json:"cause"`
}

func encode(v any) string {
	b, err := json.Marshal(v)
	if err != nil {
		panic("etcd: " + err.Error()) // none of the stored types can fail
	}
	return string(b)
}

// stored is a value with the major version of its format.
type stored interface{ format() int }

func (r *record) format() int { return r.Format }
func (h *holder) format() int { return h.Format }
func (p *place) format() int  { return p.Format }
func (u *untold) format() int { return u.Format }
func (s *stamp) format() int  { return s.Format }

// decode reads a stored value, and refuses that of a newer major format, whether
// or not it can be read.
func decode(key string, value []byte, into stored) error {
	err := json.Unmarshal(value, into)
	format := into.format()
	if err != nil {
		var head struct {
			Format int `json:"format"`
		}
		if json.Unmarshal(value, &head) == nil {
			format = head.Format
		}
	}
	if format > driver.Format {
		return fmt.Errorf("%w: %q has the format %d, this version knows %d", driver.ErrFormat, key, format, driver.Format)
	}
	if err != nil {
		return fmt.Errorf("%w: %q cannot be read: %w", driver.ErrFormat, key, err)
	}
	return nil
}

// remember adds ends and drops the oldest beyond what is remembered.
func (r *record) remember(ends ...ending) {
	r.Ends = append(slices.Clone(r.Ends), ends...)
	if n := len(r.Ends) - driver.RememberedEnds; n > 0 {
		r.Ends = r.Ends[n:]
	}
}

// endings are those of all holds of the lease.
func (h *holder) endings(cause driver.Cause) []ending {
	ends := make([]ending, len(h.Holds))
	for i, request := range h.Holds {
		ends[i] = ending{Request: request, Token: h.token, Key: h.Key, Cause: cause}
	}
	return ends
}

func (h *holder) ended(lockID string, cause driver.Cause) driver.Ended {
	return driver.Ended{LockID: lockID, OwnerID: h.Owner, Token: h.token, Shared: h.Shared, Cause: cause}
}

func (h *holder) untold(cause driver.Cause) string {
	return encode(untold{Format: driver.Format, Owner: h.Owner, Shared: h.Shared, Cause: cause})
}
