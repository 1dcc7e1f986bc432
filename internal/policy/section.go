package policy

import (
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strconv"
	"strings"

	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/pattern"
)

// Section is the policy as written: a mapping with the one key "rules". It may
// be a document of its own or a part of one; it is read strictly however the
// rest of the document is.
type Section struct{ rules []yaml.Node }

// UnmarshalYAML reads the section.
func (s *Section) UnmarshalYAML(n *yaml.Node) error {
	return mapping(n, "the policy", map[string]func(*yaml.Node) error{
		"rules": func(n *yaml.Node) error {
			items, err := sequence(n, "rules")
			for _, item := range items {
				s.rules = append(s.rules, *item)
			}
			return err
		},
	})
}

// Lookup finds the number of a user's or a group's name.
type Lookup struct {
	User, Group func(name string) (uint32, error)
}

// Compile turns the section into a policy. A section without rules denies
// everything.
func (s *Section) Compile(names Lookup) (*Policy, error) {
	p := &Policy{}
	for i := range s.rules {
		r, err := names.rule(&s.rules[i])
		if err != nil {
			return nil, err
		}
		p.rules = append(p.rules, *r)
	}
	return p, nil
}

// maxFile bounds a policy file.
const maxFile = 1 << 20

// Load reads a file that has the section and nothing else.
func Load(path string) (*Policy, error) {
	f, err := os.Open(path)
	if err != nil {
		return nil, fmt.Errorf("policy: %w", err)
	}
	defer func() { _ = f.Close() }()
	raw, err := io.ReadAll(io.LimitReader(f, maxFile+1))
	if err == nil && len(raw) > maxFile {
		err = fmt.Errorf("it has more than %d bytes", maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	p, err := Parse(raw, System)
	if err != nil {
		return nil, fmt.Errorf("policy %s: %w", path, err)
	}
	return p, nil
}

// Parse reads one document that has the section and nothing else.
func Parse(raw []byte, names Lookup) (*Policy, error) {
	d := yaml.NewDecoder(strings.NewReader(string(raw)))
	var s Section
	if err := d.Decode(&s); err != nil {
		if errors.Is(err, io.EOF) {
			return nil, errors.New("it is empty; to deny everything, write: rules: []")
		}
		return nil, err
	}
	if err := d.Decode(new(yaml.Node)); !errors.Is(err, io.EOF) {
		return nil, errors.New("it has more than one document")
	}
	return s.Compile(names)
}

// rule reads one rule.
func (names Lookup) rule(n *yaml.Node) (*rule, error) {
	r := &rule{name: fmt.Sprintf("the rule of line %d", n.Line)}
	given := map[string]bool{}
	note := func(key string, read func(*yaml.Node) error) func(*yaml.Node) error {
		return func(n *yaml.Node) error {
			given[key] = true
			return read(n)
		}
	}
	err := mapping(n, "a rule", map[string]func(*yaml.Node) error{
		"who": func(n *yaml.Node) error { return names.who(n, r) },
		"locks": note("locks", func(n *yaml.Node) error {
			return each(n, "locks", func(n *yaml.Node) error {
				p, err := pattern.Parse(n.Value)
				r.patterns = append(r.patterns, p)
				return at(n, err)
			})
		}),
		"may": note("may", func(n *yaml.Node) error {
			return each(n, "may", func(n *yaml.Node) error {
				v := Verb(n.Value)
				if !slices.Contains(verbs, v) {
					return at(n, fmt.Errorf("unknown verb %q; known: acquire, inspect, force", n.Value))
				}
				r.may = append(r.may, v)
				return nil
			})
		}),
	})
	for _, key := range []string{"locks", "may"} {
		if err == nil && !given[key] {
			err = at(n, fmt.Errorf("a rule needs %q", key))
		}
	}
	return r, err
}

// who reads what a rule says of its peers. Each key narrows it; a key without
// a value would match nobody and is refused.
func (names Lookup) who(n *yaml.Node, r *rule) error {
	return mapping(n, "who", map[string]func(*yaml.Node) error{
		"socket": func(n *yaml.Node) error {
			r.sockets = []string{}
			return some(n, "socket", func(n *yaml.Node) error {
				r.sockets = append(r.sockets, n.Value)
				if !strings.HasPrefix(n.Value, "/") {
					return at(n, fmt.Errorf("socket %q: want the absolute path, as serve's --socket has it", n.Value))
				}
				return nil
			})
		},
		"uid": func(n *yaml.Node) error {
			r.uids = []uint32{}
			return some(n, "uid", func(n *yaml.Node) error {
				id, err := resolve(n, "user", names.User)
				r.uids = append(r.uids, id)
				return at(n, err)
			})
		},
		"gid": func(n *yaml.Node) error {
			r.gids = []uint32{}
			return some(n, "gid", func(n *yaml.Node) error {
				id, err := resolve(n, "group", names.Group)
				r.gids = append(r.gids, id)
				return at(n, err)
			})
		},
	})
}

// resolve is the number that a scalar names.
func resolve(n *yaml.Node, what string, lookup func(string) (uint32, error)) (uint32, error) {
	var id uint32
	if got, err := strconv.ParseUint(n.Value, 10, 32); err == nil {
		id = uint32(got)
	} else if id, err = lookup(n.Value); err != nil {
		return 0, fmt.Errorf("%s %q: %w", what, n.Value, err)
	}
	if id == overflowID {
		return 0, fmt.Errorf("%s %q is %d, by which the kernel means anybody whom it cannot name: it identifies nobody", what, n.Value, overflowID)
	}
	return id, nil
}
