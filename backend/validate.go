package backend

import (
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"math"
	"strings"
	"time"
	"unicode"
	"unicode/utf8"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// The limits of a request, where no other are configured.
const (
	DefaultTTL       = 15 * time.Second
	MinTTL           = time.Second
	MaxLockID        = 255
	MaxOwnerID       = 128
	MaxRequestID     = 128
	MaxMetadataKeys  = 16
	MaxMetadataBytes = 4096
	DefaultPageSize  = 100
	MaxPageSize      = 1000
)

// Limits bound the fields of a request. Zero values mean the defaults.
type Limits struct {
	// OwnerID is in bytes: MaxOwnerID by default.
	OwnerID int
	// MetadataKeys is a number, MetadataBytes the sum of keys and values:
	// MaxMetadataKeys and MaxMetadataBytes by default.
	MetadataKeys, MetadataBytes int
	// PageSize is of a listing: MaxPageSize by default.
	PageSize int
}

func (l Limits) withDefaults() Limits {
	for _, f := range []struct {
		field    *int
		standard int
	}{
		{&l.OwnerID, MaxOwnerID}, {&l.MetadataKeys, MaxMetadataKeys}, {&l.MetadataBytes, MaxMetadataBytes}, {&l.PageSize, MaxPageSize},
	} {
		if *f.field <= 0 {
			*f.field = f.standard
		}
	}
	return l
}

// lockIDBytes are the allowed bytes of a lock id beside letters and digits.
const lockIDBytes = "._-/:@=+~%{}"

// InvalidError is a request that was refused before it reached a store.
type InvalidError struct {
	// Field is the field's name in the API: "lock_id".
	Field string
	// Reason says what is wrong with the value, Limits what is allowed.
	Reason, Limits string
}

func (e *InvalidError) Error() string {
	return fmt.Sprintf("%s %s; allowed: %s", e.Field, e.Reason, e.Limits)
}

// Is makes an InvalidError a driver.ErrInvalid.
func (e *InvalidError) Is(target error) bool { return target == driver.ErrInvalid }

// ValidLockID says what is wrong with a lock id, or nil.
func ValidLockID(id string) error {
	invalid := func(format string, args ...any) error {
		return &InvalidError{"lock_id", fmt.Sprintf(format, args...), fmt.Sprintf(
			"1 to %d bytes of ASCII letters, digits and %s, no empty, \".\" or \"..\" segment, no slash at either end",
			MaxLockID, strings.Join(strings.Split(lockIDBytes, ""), " "))}
	}
	switch {
	case id == "":
		return invalid("is empty")
	case len(id) > MaxLockID:
		return invalid("has %d bytes", len(id))
	}
	for i := range len(id) {
		c := id[i]
		if c-'a' < 26 || c-'A' < 26 || c-'0' < 10 || strings.IndexByte(lockIDBytes, c) >= 0 {
			continue
		}
		return invalid("has the byte %q at offset %d", c, i)
	}
	for rest, more := id, true; more; {
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		switch segment {
		case "":
			return invalid("has an empty segment or a slash at an end")
		case ".", "..":
			return invalid("has the segment %q", segment)
		}
	}
	return nil
}

// validText checks an id that a caller chose freely.
func validText(field, s string, limit int) error {
	reason := ""
	switch {
	case len(s) > limit:
		reason = fmt.Sprintf("has %d bytes", len(s))
	case !utf8.ValidString(s):
		reason = "is not UTF-8"
	case strings.ContainsFunc(s, func(r rune) bool { return !unicode.IsPrint(r) }):
		reason = "has a character that cannot be printed"
	default:
		return nil
	}
	return &InvalidError{field, reason, fmt.Sprintf("at most %d bytes of printable UTF-8", limit)}
}

func (l *Limits) validMetadata(m map[string]string) error {
	size := 0
	for k, v := range m {
		if !utf8.ValidString(k) || !utf8.ValidString(v) {
			return &InvalidError{"metadata", "is not UTF-8", "UTF-8"}
		}
		size += len(k) + len(v)
	}
	if len(m) > l.MetadataKeys || size > l.MetadataBytes {
		return &InvalidError{"metadata", fmt.Sprintf("has %d keys and %d bytes", len(m), size),
			fmt.Sprintf("at most %d keys and %d bytes of keys and values", l.MetadataKeys, l.MetadataBytes)}
	}
	return nil
}

// validTTL fills and checks a TTL; the driver rounds up what is below its own
// smallest one.
func (s *Store) validTTL(ttl time.Duration) (time.Duration, error) {
	if ttl == 0 {
		ttl = DefaultTTL
	}
	if ttl < s.o.MinTTL || ttl > s.caps.MaxTTL {
		return 0, &InvalidError{"ttl", fmt.Sprintf("is %v", ttl), fmt.Sprintf("%v to %v", s.o.MinTTL, s.caps.MaxTTL)}
	}
	return max(ttl, s.caps.MinTTL), nil
}

// attempt turns a request into what is sent to the driver, with a lease id of
// its own unless the request names the lease to re-enter.
func (s *Store) attempt(req *AcquireRequest) (*driver.AcquireRequest, string, error) {
	if err := ValidLockID(req.LockID); err != nil {
		return nil, "", err
	}
	limits := s.o.Limits
	if req.Drain != nil {
		// A drain's owner and metadata are the sidecar's own, and bounded by what its
		// reason may be: a limit for applications must not keep an operator out.
		limits = Limits{OwnerID: MaxOwnerID, MetadataKeys: MaxMetadataKeys, MetadataBytes: math.MaxInt}
	}
	if err := validText("owner_id", req.OwnerID, limits.OwnerID); err != nil {
		return nil, "", err
	}
	if err := validText("request_id", req.RequestID, MaxRequestID); err != nil {
		return nil, "", err
	}
	if err := limits.validMetadata(req.Metadata); err != nil {
		return nil, "", err
	}
	ttl, err := s.validTTL(req.TTL)
	if err != nil {
		return nil, "", err
	}
	if err := validPriority(req.Priority); err != nil {
		return nil, "", err
	}
	switch {
	case req.TokenFloor < 0 || req.TokenFloor >= driver.MaxClockToken:
		return nil, "", &InvalidError{"token_floor", fmt.Sprintf("is %d", req.TokenFloor), fmt.Sprintf("0 to %d", driver.MaxClockToken-1)}
	case req.Shared && !s.caps.Shared:
		return nil, "", fmt.Errorf("shared leases are %w", driver.ErrUnsupported)
	case req.Drain != nil && !s.caps.EditQueue:
		return nil, "", fmt.Errorf("changing a queue is %w", driver.ErrUnsupported)
	}
	a := &driver.AcquireRequest{
		LockID: req.LockID, OwnerID: req.OwnerID, RequestID: req.RequestID, TTL: ttl, Shared: req.Shared,
		Reentrant: req.Reentrant, Enqueue: req.Wait != 0, Priority: req.Priority, PlaceTTL: placePolls * s.caps.Poll,
		TokenFloor: req.TokenFloor, Metadata: req.Metadata,
	}
	if a.RequestID == "" {
		a.RequestID = NewSecret()
	}
	if a.OwnerID == "" {
		a.OwnerID = anonymous(a.RequestID)
	}
	leaseID := req.LeaseID
	if leaseID == "" {
		leaseID = NewSecret()
	}
	a.Key = driver.KeyOf(leaseID)
	return a, leaseID, nil
}

// NewSecret returns 128 random bits in hexadecimal, for lease and request ids.
func NewSecret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails: crypto/rand ends the process instead
	return hex.EncodeToString(b[:])
}

// anonymous is the owner of a request that names none. It is derived from the
// request id, so that a repeat does not meet itself as a stranger, by a hash,
// because the owner is no secret and the request id is one.
func anonymous(requestID string) string {
	sum := sha256.Sum256([]byte("owner of " + requestID))
	return anonymousPrefix + hex.EncodeToString(sum[:8])
}

const anonymousPrefix = "anon-"

// IsAnonymous says whether an owner id is one that was made for a request which
// named none. An owner may call itself so too.
func IsAnonymous(ownerID string) bool {
	return strings.HasPrefix(ownerID, anonymousPrefix) && len(ownerID) == len(anonymousPrefix)+16
}
