// Package pattern matches lock ids against patterns of them, the same for the
// rules of a policy and for routes.
//
// It guarantees that a pattern which is accepted means what it looks like: a *
// is one whole segment, a ** at the end is one segment or more, everything else
// is itself. What would look like a pattern and match nothing is refused.
package pattern

import (
	"errors"
	"fmt"
	"strings"
)

// Pattern is a pattern of lock ids, cut at its slashes.
type Pattern []string

var (
	errStar  = errors.New("a * stands for a whole segment, a ** for the rest: neither may be a part of a segment, and ** stands last")
	errEmpty = errors.New("a lock id has no empty, . or .. segment")
)

// Parse reads a pattern: a lock id in which * stands for one segment and a ** at
// the end for one segment or more.
func Parse(s string) (Pattern, error) {
	p := Pattern(strings.Split(s, "/"))
	for i, segment := range p {
		switch {
		case segment == "", segment == ".", segment == "..":
			return nil, errEmpty
		case segment == "*", segment == "**" && i == len(p)-1:
		case strings.Contains(segment, "*"):
			return nil, errStar
		}
	}
	return p, nil
}

// String is the pattern as it was written.
func (p Pattern) String() string { return strings.Join(p, "/") }

// Match reports whether the lock id is one of the pattern's.
func (p Pattern) Match(lockID string) bool {
	rest, more := lockID, true
	for _, want := range p {
		if !more {
			return false
		}
		if want == "**" {
			return true
		}
		var segment string
		segment, rest, more = strings.Cut(rest, "/")
		if want != "*" && segment != want {
			return false
		}
	}
	return !more
}

// Mismatch says why the lock id is none of the pattern's; it is empty if it is
// one.
func (p Pattern) Mismatch(lockID string) string {
	segments := strings.Split(lockID, "/")
	for i, want := range p {
		switch {
		case i >= len(segments):
			return fmt.Sprintf("it ends before segment %d, %q", i+1, want)
		case want == "**":
			return ""
		case want != "*" && segments[i] != want:
			return fmt.Sprintf("its segment %d is %q, not %q", i+1, segments[i], want)
		}
	}
	if n := len(segments) - len(p); n > 0 {
		return fmt.Sprintf("it goes on after segment %d, with %q", len(p), segments[len(p)])
	}
	return ""
}
