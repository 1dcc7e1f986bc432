package metrics

import (
	"slices"

	"github.com/locksidecar/locksidecar/internal/pattern"
)

// OtherClass is the class of the locks that no pattern names.
const OtherClass = "other"

// Class names the locks of some patterns. Classes are labels in place of lock
// ids, of which there may be any number.
type Class struct {
	Match []pattern.Pattern
	Name  string
}

// classes find the class of a lock: the first that matches.
type classes struct {
	rules []rule
	// names are the classes, each once; the first is OtherClass.
	names []string
}

type rule struct {
	match pattern.Pattern
	class int
}

func newClasses(list []Class) *classes {
	c := &classes{names: []string{OtherClass}}
	for _, one := range list {
		i := slices.Index(c.names, one.Name)
		if i < 0 {
			i = len(c.names)
			c.names = append(c.names, one.Name)
		}
		for _, p := range one.Match {
			c.rules = append(c.rules, rule{p, i})
		}
	}
	return c
}

// of is the index of the lock's class.
func (c *classes) of(lockID string) int {
	for i := range c.rules {
		if c.rules[i].match.Match(lockID) {
			return c.rules[i].class
		}
	}
	return 0
}
