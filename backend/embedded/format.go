package embedded

import (
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"maps"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// A record in the file, format 1. Numbers are varints (zigzag, so that an
// instant may be negative), texts and lists start with their length.
//
//	format      1 byte, 1
//	checksum    4 bytes, big endian: CRC-32C of the lock id, a zero byte and what follows
//	written     the instant at which the record was made
//	keep until  µs since 1970, of a free lock; else 0
//	last token, last ticket
//	leases      owner, token, key, flags (1 shared, 2 revoked), attach number, TTL in
//	            ns, expiry (an instant), holds, metadata (names in order, each with its value)
//	waiters     in order: owner, request, ticket, priority, flags (1 shared), key, ns for
//	            which the place lasts
//	ends        the newest last: request, token, key, cause, attempt
//	untold      ends that nobody has told yet: owner, token, flags (1 shared), cause
//
// Instants are readings of the store's clock, comparable within one boot (see
// Options.Boot). A place has no deadline in the file: whoever asked for it could
// not ask while the process was down, so its time starts again with the process.
const (
	checksumAt = 1
	bodyAt     = 5

	flagShared  = 1
	flagRevoked = 2
)

var castagnoli = crc32.MakeTable(crc32.Castagnoli)

func checksum(lockID string, body []byte) uint32 {
	return crc32.Update(crc32.Checksum(append([]byte(lockID), 0), castagnoli), castagnoli, body)
}

// encode is the record as it stands in the file.
func (r *record) encode(now driver.Instant) []byte {
	w := writer{b: make([]byte, bodyAt, 256)}
	keep := int64(0)
	if !r.busy() {
		keep = r.keepUntil.UnixMicro()
	}
	w.numbers(int64(now), keep, r.last, r.seq)
	w.numbers(int64(len(r.holders)))
	for _, h := range r.holders {
		w.texts(h.owner)
		w.numbers(h.token)
		w.texts(string(h.key))
		w.numbers(bitIf(h.shared, flagShared)|bitIf(h.revoked, flagRevoked), h.attach, int64(h.ttl), int64(h.expires), int64(len(h.holds)))
		w.texts(h.holds...)
		w.numbers(int64(len(h.metadata)))
		for _, name := range slices.Sorted(maps.Keys(h.metadata)) {
			w.texts(name, h.metadata[name])
		}
	}
	w.numbers(int64(len(r.waiters)))
	for _, p := range r.waiters {
		w.texts(p.owner, p.request)
		w.numbers(p.ticket, int64(p.priority), bitIf(p.shared, flagShared))
		w.texts(string(p.key))
		w.numbers(int64(p.lasts))
	}
	w.numbers(int64(len(r.ends)))
	for _, e := range r.ends {
		w.texts(e.request)
		w.numbers(e.token)
		w.texts(string(e.key), string(e.cause), string(e.attempt))
	}
	w.numbers(int64(len(r.evicted)))
	for _, e := range r.evicted {
		w.texts(e.OwnerID)
		w.numbers(e.Token, bitIf(e.Shared, flagShared))
		w.texts(string(e.Cause))
	}
	w.b[0] = driver.Format
	binary.BigEndian.PutUint32(w.b[checksumAt:], checksum(r.id, w.b[bodyAt:]))
	return w.b
}

// decode reads a record, and when it was written. The places' deadlines count
// from now.
func decode(lockID string, raw []byte, now driver.Instant) (r *record, written driver.Instant, err error) {
	switch {
	case len(raw) > 0 && raw[0] > driver.Format:
		return nil, 0, newer(fmt.Sprintf("the record of %q", lockID), int64(raw[0]))
	case len(raw) < bodyAt || raw[0] != driver.Format:
		return nil, 0, fmt.Errorf("the record of %q is cut off", lockID)
	case binary.BigEndian.Uint32(raw[checksumAt:]) != checksum(lockID, raw[bodyAt:]):
		return nil, 0, fmt.Errorf("the record of %q has another checksum than it says", lockID)
	}
	b := reader{b: raw[bodyAt:]}
	r = newRecord(lockID)
	written = driver.Instant(b.number())
	if keep := b.number(); keep != 0 {
		r.keepUntil = time.UnixMicro(keep)
	}
	r.last, r.seq = b.number(), b.number()
	for range b.count() {
		h := &holder{owner: b.text(), token: b.number(), key: driver.Key(b.text())}
		flags := b.number()
		h.shared, h.revoked = flags&flagShared != 0, flags&flagRevoked != 0
		h.attach, h.ttl, h.expires = b.number(), time.Duration(b.number()), driver.Instant(b.number())
		for range b.count() {
			h.holds = append(h.holds, b.text())
		}
		for range b.count() {
			if h.metadata == nil {
				h.metadata = make(map[string]string)
			}
			name := b.text()
			h.metadata[name] = b.text()
		}
		r.holders = append(r.holders, h)
	}
	for range b.count() {
		w := &waiter{owner: b.text(), request: b.text(), ticket: b.number(), priority: int(b.number())}
		w.shared = b.number()&flagShared != 0
		w.key, w.lasts = driver.Key(b.text()), time.Duration(b.number())
		w.order, w.deadline = driver.OrderKey(w.ticket, w.priority), now.Add(w.lasts)
		r.enqueue(w)
	}
	for range b.count() {
		r.ends = append(r.ends, end{
			request: b.text(), token: b.number(), key: driver.Key(b.text()), cause: driver.Cause(b.text()), attempt: driver.Key(b.text()),
		})
	}
	for range b.count() {
		e := untold{Ended: driver.Ended{LockID: lockID, OwnerID: b.text(), Token: b.number()}}
		e.Shared, e.Cause = b.number()&flagShared != 0, driver.Cause(b.text())
		r.evicted = append(r.evicted, e)
	}
	if b.bad || len(b.b) > 0 {
		return nil, 0, fmt.Errorf("the record of %q is not well-formed", lockID)
	}
	r.changed = false
	return r, written, nil
}

// newer is the refusal of what a later version has written.
func newer(what string, format int64) error {
	return fmt.Errorf("%s has format %d, this version reads format %d: %w", what, format, driver.Format, driver.ErrFormat)
}

func bitIf(set bool, bit int64) int64 {
	if set {
		return bit
	}
	return 0
}

// writer appends the parts of a record.
type writer struct{ b []byte }

func (w *writer) numbers(all ...int64) {
	for _, n := range all {
		w.b = binary.AppendVarint(w.b, n)
	}
}

func (w *writer) texts(all ...string) {
	for _, s := range all {
		w.b = append(binary.AppendVarint(w.b, int64(len(s))), s...)
	}
}

// reader takes the parts of a record; after one that is not there it is bad and
// gives zeros.
type reader struct {
	b   []byte
	bad bool
}

func (r *reader) number() int64 {
	n, size := binary.Varint(r.b)
	if size <= 0 {
		r.bad, r.b = true, nil
		return 0
	}
	r.b = r.b[size:]
	return n
}

// count is the length of a list or a text, each element of which has a byte at
// least.
func (r *reader) count() int {
	n := r.number()
	if n < 0 || n > int64(len(r.b)) {
		r.bad, r.b = true, nil
		return 0
	}
	return int(n)
}

func (r *reader) text() string {
	n := r.count()
	s := string(r.b[:n])
	r.b = r.b[n:]
	return s
}
