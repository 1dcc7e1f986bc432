package policy

import (
	"errors"
	"strings"
)

// pattern is a pattern of lock ids, cut at its slashes.
type pattern []string

// errStar refuses what would look like a pattern and match nothing.
var errStar = errors.New("a * stands for a whole segment, a ** for the rest: neither may be a part of a segment, and ** stands last")

// parsePattern reads a pattern: a lock id in which * stands for one segment and
// a ** at the end for one segment or more.
func parsePattern(s string) (pattern, error) {
	p := pattern(strings.Split(s, "/"))
	for i, segment := range p {
		switch {
		case segment == "", segment == ".", segment == "..":
			return nil, errors.New("a lock id has no empty, . or .. segment")
		case segment == "*", segment == "**" && i == len(p)-1:
		case strings.Contains(segment, "*"):
			return nil, errStar
		}
	}
	return p, nil
}

// match reports whether the lock id is one of the pattern's.
func (p pattern) match(lockID string) bool {
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
