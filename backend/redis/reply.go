package redis

import (
	"crypto/sha1" //nolint:gosec // as the scripts' redis.sha1hex: it names, it does not protect
	"encoding/hex"
	"encoding/json"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The separators of the record, which no id contains.
const (
	holdSeparator   = "\x1d"
	recordSeparator = "\x1e"
	fieldSeparator  = "\x1f"
)

// requestHash is what the record's ends keep of a request id.
func requestHash(requestID string) string { return endHash(requestID) }

// attemptHash is what they keep of a request that was left under a key: an end
// for attempts with that key only.
func attemptHash(requestID string, key driver.Key) string {
	if key == "" {
		return requestHash(requestID)
	}
	return endHash(requestID, fieldSeparator, string(key))
}

func endHash(parts ...string) string {
	text := make([]byte, 0, 256) // more than an id, a separator and a key
	for _, part := range parts {
		text = append(text, part...)
	}
	sum := sha1.Sum(text) //nolint:gosec // see the import
	var digits [32]byte
	hex.Encode(digits[:], sum[:16])
	return string(digits[:])
}

// fields is a script's reply: its first element names the outcome.
type fields []any

func (f fields) text(i int) string {
	if i >= len(f) {
		return ""
	}
	s, _ := f[i].(string)
	return s
}

func (f fields) integer(i int) int64 {
	if i < len(f) {
		if n, ok := f[i].(int64); ok {
			return n
		}
	}
	return 0
}

func (f fields) list(i int) fields {
	if i >= len(f) {
		return nil
	}
	l, _ := f[i].([]any)
	return l
}

// texts are a reply's elements.
func texts(reply []any) []string {
	list := make([]string, 0, len(reply))
	for _, e := range reply {
		if text, ok := e.(string); ok {
			list = append(list, text)
		}
	}
	return list
}

// integer reads a number inside text, which a script wrote by its int().
func integer(s string) int64 {
	n, err := strconv.ParseInt(s, 10, 64)
	if err != nil {
		return 0
	}
	return n
}

// refusal is the error of a reply that is not the hoped-for one. token is the
// one that the request proved.
func (s *Store) refusal(r fields, token int64) error {
	switch r.text(0) {
	case "held":
		holders, err := parseHolders(r.text(3), r.integer(4))
		if err != nil {
			return err
		}
		e := &driver.HeldError{QueueLength: int(r.integer(2)), BySelf: r.text(1) != "", OtherMode: r.text(1) == "mode"}
		if len(holders) > 0 {
			e.Holder = &holders[0]
		}
		return e
	case "lost":
		return driver.Lost(driver.Cause(r.text(1)))
	case "notowner":
		return driver.ErrNotOwner
	case "stale":
		return &driver.TokenError{Expected: r.integer(1), Actual: token}
	case "ambiguous":
		return driver.ErrAmbiguousHold
	case "format":
		return fmt.Errorf("%w: it has format %s, this version reads format %d", driver.ErrFormat, r.text(1), driver.Format)
	}
	return fmt.Errorf("%w: a script answered %q", driver.ErrIndeterminate, r.text(0))
}

// lease reads a script's lease: token, attach, expires, now, ttl, shared, owner,
// metadata, holds.
func (s *Store) lease(lockID string, r fields, sent driver.Instant) (*driver.Lease, error) {
	metadata, err := parseMetadata(r.text(8))
	if err != nil {
		return nil, err
	}
	expires := r.integer(3)
	return &driver.Lease{
		LockID: lockID, OwnerID: r.text(7), Token: r.integer(1), Shared: r.text(6) == "1",
		Holds: strings.Split(strings.Trim(r.text(9), holdSeparator), holdSeparator), Attach: r.integer(2),
		TTL: time.Duration(r.integer(5)) * time.Microsecond, Remaining: time.Duration(expires-r.integer(4)) * time.Microsecond,
		Origin: sent, ExpiresAt: time.UnixMicro(expires), Metadata: metadata,
	}, nil
}

// parseHolders reads holders as record.lua writes them.
func parseHolders(blob string, now int64) (holders []driver.Holder, err error) {
	for record := range strings.SplitSeq(blob, recordSeparator) {
		if record == "" {
			continue
		}
		f := strings.Split(record, fieldSeparator)
		if len(f) != 10 {
			return nil, fmt.Errorf("%w: a holder has %d fields instead of 10", driver.ErrFormat, len(f))
		}
		expires := integer(f[3])
		if expires <= now {
			continue
		}
		metadata, err := parseMetadata(f[8])
		if err != nil {
			return nil, err
		}
		holders = append(holders, driver.Holder{
			OwnerID: f[7], Token: integer(f[0]), Shared: strings.Contains(f[5], "s"), Revoked: strings.Contains(f[5], "r"),
			HoldCount: strings.Count(f[9], holdSeparator) - 1, Attach: integer(f[2]), TTL: time.Duration(integer(f[4])) * time.Microsecond,
			Remaining: time.Duration(expires-now) * time.Microsecond, ExpiresAt: time.UnixMicro(expires), Metadata: metadata,
		})
	}
	return holders, nil
}

func parseMetadata(raw string) (m map[string]string, err error) {
	if raw == "" {
		return nil, nil
	}
	if err := json.Unmarshal([]byte(raw), &m); err != nil {
		return nil, fmt.Errorf("%w: metadata cannot be read: %w", driver.ErrFormat, err)
	}
	return m, nil
}

// ended reads the expired leases that a script evicted.
func ended(lockID, blob string) (evicted []driver.Ended, err error) {
	for record := range strings.SplitSeq(blob, recordSeparator) {
		if record == "" {
			continue
		}
		f := strings.Split(record, fieldSeparator)
		if len(f) != 3 {
			return nil, fmt.Errorf("%w: an evicted lease has %d fields instead of 3", driver.ErrFormat, len(f))
		}
		evicted = append(evicted, driver.Ended{LockID: lockID, Token: integer(f[0]), Shared: f[1] == "1", OwnerID: f[2], Cause: driver.CauseExpired})
	}
	return evicted, nil
}
