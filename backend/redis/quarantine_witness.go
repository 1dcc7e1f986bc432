package redis

import (
	"fmt"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// errUnwitnessed is of a lease that a server gave which may be primary no more.
var errUnwitnessed = fmt.Errorf("%w: nobody says that the server still was the primary", driver.ErrIndeterminate)

// word is what the witnesses last said of who the primary is; without witnesses
// it vouches for every server.
type word struct {
	witness

	needed bool
}

func (s *Store) word() word {
	if s.sentinels == nil {
		return word{}
	}
	return word{s.sentinels.witnessed(), true}
}

// vouches says that what was sent to the server at an instant counts: a majority
// named it primary at most the margin before. Another one is named by a majority
// later than that, and so opens only when the lease has ended.
func (w word) vouches(n *node, sent driver.Instant) bool { return w.within(n, sent, margin) }

func (w word) within(n *node, sent driver.Instant, age time.Duration) bool {
	return !w.needed || w.Primary == n.addr && sent.Sub(w.At) <= age
}

func (c *call) needsWitness() bool { return c.grants || c.script == renewScript }

// witnessed asks the witnesses again if what they said is old, and returns the
// calls that may be sent: not those which would need their word.
func (n *node) witnessed(batch []*call) []*call {
	needed := false
	for _, c := range batch {
		needed = needed || c.needsWitness()
	}
	if !needed || n.s.word().within(n, n.s.o.Clock.Now(), margin/2) {
		return batch
	}
	err := n.s.topology.refresh(n.s.stopped)
	if n.s.word().vouches(n, n.s.o.Clock.Now()) {
		return batch
	}
	vouched := batch[:0]
	for _, c := range batch {
		switch {
		case !c.needsWitness():
			vouched = append(vouched, c)
		case err == nil && c.redirects < maxRedirects && n.s.topology.route(c.slot) != n:
			c.redirects++
			n.s.submit(c, false)
		case err == nil:
			c.complete(nil, fmt.Errorf("%w: no majority of the witnesses named %s the primary in time", driver.ErrUnavailable, n.addr))
		default:
			c.complete(nil, fmt.Errorf("%w: %w", driver.ErrUnavailable, err))
		}
	}
	return vouched
}
