package config

import (
	"errors"
	"fmt"
	"io/fs"
	"regexp"
	"strconv"
	"time"

	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/pattern"
)

// Duration is a length of time as Go writes it, such as 1m30s.
type Duration time.Duration

const durationForm = `^([0-9]+(\.[0-9]+)?(ms|s|m|h))+$`

var durations = regexp.MustCompile(durationForm)

// UnmarshalYAML reads it. A number without a unit is refused.
func (d *Duration) UnmarshalYAML(n *yaml.Node) error {
	s, err := text(n)
	if err != nil || !durations.MatchString(s) {
		return at(n, fmt.Errorf("want a length of time, such as 30s or 1m30s"))
	}
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return at(n, fmt.Errorf("want a length of time above 0, such as 30s"))
	}
	*d = Duration(v)
	return nil
}

// Mode is a file's mode.
type Mode fs.FileMode

const modeForm = `^0[0-7]{3}$`

var modes = regexp.MustCompile(modeForm)

// UnmarshalYAML reads it.
func (m *Mode) UnmarshalYAML(n *yaml.Node) error {
	s, err := text(n)
	if err == nil {
		*m, err = parseMode(s)
	}
	if err != nil {
		return at(n, fmt.Errorf(`want an octal mode in quotes, such as "0660"`))
	}
	return nil
}

func parseMode(s string) (Mode, error) {
	if !modes.MatchString(s) {
		return 0, errors.New("no octal mode")
	}
	v, err := strconv.ParseUint(s, 8, 32)
	return Mode(v), err
}

// Name is what something is called.
type Name string

// UnmarshalYAML reads it.
func (m *Name) UnmarshalYAML(n *yaml.Node) error {
	s, err := text(n)
	if *m = Name(s); err != nil || !names.MatchString(s) {
		return at(n, fmt.Errorf("want up to 63 lower-case letters, digits, - and _"))
	}
	return nil
}

// Leases says what becomes of the leases at the end of the process.
type Leases string

// The policies of a drain.
const (
	// Release gives everything back.
	Release Leases = "release"
	// Leave lets everything stand, to be adopted.
	Leave Leases = "leave"
)

// UnmarshalYAML reads it.
func (l *Leases) UnmarshalYAML(n *yaml.Node) error {
	s, err := text(n)
	if *l = Leases(s); err != nil || *l != Release && *l != Leave {
		return at(n, fmt.Errorf("want %s or %s", Release, Leave))
	}
	return nil
}

// Switch is a boolean whose default need not be false.
type Switch string

// On and Off are the values of a Switch that was set.
const (
	On  Switch = "true"
	Off Switch = "false"
)

// UnmarshalYAML reads it.
func (s *Switch) UnmarshalYAML(n *yaml.Node) error {
	if *s = Switch(n.Value); n.Kind != yaml.ScalarNode || n.Tag != "!!bool" || *s != On && *s != Off {
		return at(n, fmt.Errorf("want true or false"))
	}
	return nil
}

// Resolve says what becomes of a deadlock.
type Resolve string

// The policies of a deadlock.
const (
	// ResolveNone tells it.
	ResolveNone Resolve = "none"
	// ResolveYoungest refuses the waiter whose lease in it is the youngest.
	ResolveYoungest Resolve = "youngest-waiter"
)

// UnmarshalYAML reads it.
func (r *Resolve) UnmarshalYAML(n *yaml.Node) error {
	s, err := text(n)
	if *r = Resolve(s); err != nil || *r != ResolveNone && *r != ResolveYoungest {
		return at(n, fmt.Errorf("want %s or %s", ResolveNone, ResolveYoungest))
	}
	return nil
}

// Patterns are those of a route.
type Patterns []pattern.Pattern

// UnmarshalYAML reads one pattern, or a list of one or more.
func (p *Patterns) UnmarshalYAML(n *yaml.Node) error {
	items := []*yaml.Node{n}
	if n.Kind == yaml.SequenceNode {
		items = n.Content
	}
	if len(items) == 0 {
		return at(n, fmt.Errorf("want a pattern, or a list of one or more"))
	}
	for _, item := range items {
		item = target(item)
		s, err := text(item)
		if err != nil {
			return at(item, fmt.Errorf("want a pattern of lock ids: %w", err))
		}
		one, err := pattern.Parse(s)
		if err != nil {
			return at(item, fmt.Errorf("the pattern %q: %w", s, err))
		}
		*p = append(*p, one)
	}
	return nil
}
