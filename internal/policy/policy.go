package policy

import (
	"fmt"
	"slices"

	"github.com/locksidecar/locksidecar/internal/pattern"
)

// Verb is what a rule grants.
type Verb string

// The verbs. Renewing, releasing and adopting a lease need none.
const (
	// Acquire takes leases.
	Acquire Verb = "acquire"
	// Inspect reads who holds a lock and who waits for it.
	Inspect Verb = "inspect"
	// Force revokes or ends another's lease, and ends or moves another's wait.
	Force Verb = "force"
)

// verbs are all of them, in the order of the documents.
var verbs = []Verb{Acquire, Inspect, Force}

// overflowID is the kernel's "nobody": what it says instead of an id that has
// no meaning in this user namespace. Any number of strangers share it.
const overflowID = 65534

// Subject is who asks, as the kernel says.
type Subject struct {
	// Socket is the path of the socket on which the peer connected.
	Socket string
	// UID and GID are those of the process when it connected, Groups its
	// supplementary groups.
	UID, GID uint32
	Groups   []uint32
}

// Policy is a compiled section. It does not change, and is safe for concurrent
// use.
type Policy struct{ rules []rule }

// rule grants its verbs, and nothing else, for the locks that it matches.
type rule struct {
	name     string
	sockets  []string
	uids     []uint32
	gids     []uint32
	patterns []pattern.Pattern
	may      []Verb
}

// Check says why the subject may not do it, or nil. The error is for the log:
// it names the rule. An empty lock id asks whether there is any lock for which
// the verb is granted.
func (p *Policy) Check(s *Subject, v Verb, lockID string) error {
	if !slices.Contains(verbs, v) {
		return fmt.Errorf("the policy does not know the verb %q", v)
	}
	for i := range p.rules {
		r := &p.rules[i]
		if !r.isAbout(s) {
			continue
		}
		may := slices.Contains(r.may, v)
		switch {
		case lockID == "" && may:
			return nil
		case lockID == "" || !r.matches(lockID):
			continue
		case may:
			return nil
		}
		return fmt.Errorf("%s does not grant %s", r.name, v)
	}
	return fmt.Errorf("no rule grants %s", v)
}

// isAbout reports whether all that the rule says of its peers is true of s.
func (r *rule) isAbout(s *Subject) bool {
	if r.sockets != nil && !slices.Contains(r.sockets, s.Socket) {
		return false
	}
	if r.uids != nil && (s.UID == overflowID || !slices.Contains(r.uids, s.UID)) {
		return false
	}
	return r.gids == nil || r.hasGroup(s)
}

func (r *rule) hasGroup(s *Subject) bool {
	in := func(gid uint32) bool { return gid != overflowID && slices.Contains(r.gids, gid) }
	return in(s.GID) || slices.ContainsFunc(s.Groups, in)
}

func (r *rule) matches(lockID string) bool {
	return slices.ContainsFunc(r.patterns, func(p pattern.Pattern) bool { return p.Match(lockID) })
}
