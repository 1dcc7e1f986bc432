package socket

import (
	"errors"
	"net"
	"os"
	"sync"
	"sync/atomic"
	"time"
)

// errBroken is the cause of what ends because its connection did.
var errBroken = errors.New("connection is broken")

// conn is an accepted connection. It notes that it broke before any reader or
// writer learns it, so that a stream which was cancelled can be told from one
// whose connection is gone: the transport cancels both.
type conn struct {
	net.Conn
	peer Peer
	// admin names an operator who came by another listener, where there is no peer.
	admin string
	quota *quota
	life  *life
	// refused: the peer has too many connections. Such a one is closed after a
	// while, unless it is kept, because a lease was adopted on it.
	refused bool
	kept    atomic.Bool
	// parting is that of the server.
	parting time.Duration
	// sniffed was read to find out the protocol and is read again.
	sniffed []byte
	closed  func()

	mu        sync.Mutex
	broken    bool
	nextID    int
	followers map[int]func()
	closing   sync.Once
}

// Read reads what was sniffed first.
func (c *conn) Read(p []byte) (int, error) {
	if len(c.sniffed) > 0 {
		n := copy(p, c.sniffed)
		if c.sniffed = c.sniffed[n:]; len(c.sniffed) == 0 {
			c.sniffed = nil
		}
		return n, nil
	}
	n, err := c.Conn.Read(p)
	if err != nil {
		c.noteError(err)
	}
	return n, err
}

func (c *conn) Write(p []byte) (int, error) {
	n, err := c.Conn.Write(p)
	if err != nil {
		c.noteError(err)
	}
	return n, err
}

// noteError takes every error but an expired deadline for the end.
func (c *conn) noteError(err error) {
	if !errors.Is(err, os.ErrDeadlineExceeded) {
		c.breaks()
	}
}

// Close also tells the followers.
func (c *conn) Close() error {
	c.breaks()
	err := net.ErrClosed
	c.closing.Do(func() {
		err = c.Conn.Close()
		c.life.release()
		c.closed()
	})
	return err
}

// breaks tells the followers, once, before it returns.
func (c *conn) breaks() {
	c.mu.Lock()
	c.broken = true
	followers := c.followers
	c.followers = nil
	c.mu.Unlock()
	for _, f := range followers {
		f()
	}
}

// partingTime is how long after the end of a stream the end of its connection
// still counts as the cause.
const partingTime = 20 * time.Millisecond

// cancelled is the cause of the end of a stream. A client that gives its
// connection up resets the streams on it first, and this process may have been
// stopped meanwhile: that is no wish to release. Only a reset that the
// connection outlives is one.
func (c *conn) cancelled(cause error) error {
	if errors.Is(cause, errBroken) {
		return cause
	}
	broke := make(chan struct{})
	defer c.follow(sync.OnceFunc(func() { close(broke) }))()
	timer := time.NewTimer(c.parting)
	defer timer.Stop()
	select {
	case <-broke:
		return errBroken
	case <-timer.C:
		return cause
	}
}

// follow calls f when the connection breaks, at once if it is broken, until
// unfollow.
func (c *conn) follow(f func()) (unfollow func()) {
	c.mu.Lock()
	if c.broken {
		c.mu.Unlock()
		f()
		return func() {}
	}
	defer c.mu.Unlock()
	if c.followers == nil {
		c.followers = make(map[int]func())
	}
	c.nextID++
	id := c.nextID
	c.followers[id] = f
	return func() {
		c.mu.Lock()
		defer c.mu.Unlock()
		delete(c.followers, id)
	}
}
