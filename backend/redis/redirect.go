package redis

import (
	"errors"
	"math/rand/v2"
	"net"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/redis/go-redis/v9"
)

const (
	// maxRedirects bounds how often a call is sent to another server: a Cluster
	// that moves a slot redirects twice.
	maxRedirects = 5
	// tryAgain is the longest first pause after a server said that it has some
	// of a call's keys only.
	tryAgain = 10 * time.Millisecond
)

// redirect sends a call elsewhere if the error proves that it was not done here,
// and that another server would do it.
func (t *topology) redirect(from *node, c *call, err error) bool {
	if t.learn == nil || t.s.closed.Load() {
		return false
	}
	text := err.Error()
	var reply redis.Error
	isReply := errors.As(err, &reply)
	var moved, ask, again bool
	switch {
	case errors.Is(err, redis.ErrClosed): // the server was retired before the send
	case isReply && strings.HasPrefix(text, "MOVED "):
		moved = true
	case isReply && strings.HasPrefix(text, "ASK "):
		ask = true
	case isReply && strings.HasPrefix(text, "TRYAGAIN"):
		again = true
	default:
		t.kick()
		return false
	}
	if c.redirects == 0 {
		c.began = c.sent
	}
	c.redirects++
	if again {
		// The keys are on their way from one server to another.
		c.asking = false
		if t.s.o.Clock.Now().Sub(c.began) > t.s.o.Timeout {
			return false
		}
		pause := rand.N(tryAgain << min(c.redirects, 3))
		time.AfterFunc(pause, func() { t.s.submit(c, false) })
		return true
	}
	if c.redirects > maxRedirects && t.s.o.Clock.Now().Sub(c.began) > t.s.o.Timeout/4 {
		return false
	}
	c.asking = false
	if !moved && !ask {
		t.s.submit(c, false)
		return true
	}
	n := t.named(from, text, moved)
	if n == nil {
		return false
	}
	c.asking = ask
	n.lane(c).submit(c, false)
	return true
}

// redirection reads "MOVED 3999 host:port", in which an IPv6 address has no
// brackets and a server that does not know its own name leaves the host out.
func redirection(text string) (slot int, host, port string, ok bool) {
	f := strings.Fields(text)
	if len(f) != 3 {
		return 0, "", "", false
	}
	slot, err := strconv.Atoi(f[1])
	colon := strings.LastIndexByte(f[2], ':')
	if err != nil || slot < 0 || slot >= slots || colon < 0 || colon == len(f[2])-1 {
		return 0, "", "", false
	}
	host = strings.Trim(f[2][:colon], "[]")
	if host == "?" {
		host = ""
	}
	return slot, host, f[2][colon+1:], true
}

// named is the server that a redirection names. One that moved has the slot from
// now on.
func (t *topology) named(from *node, text string, moved bool) *node {
	slot, host, port, ok := redirection(text)
	if !ok {
		return nil
	}
	if host == "" {
		host = from.host()
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	old := t.table.Load()
	if t.ended {
		return nil
	}
	n := t.node(net.JoinHostPort(host, port))
	if moved && len(old.slots) > 1 && old.slots[slot] != n {
		next := &table{slots: slices.Clone(old.slots), all: old.all}
		next.slots[slot] = n
		if !slices.Contains(next.all, n) {
			next.all = append(slices.Clone(next.all), n)
		}
		t.table.Store(next)
		t.kick()
	}
	return n
}
