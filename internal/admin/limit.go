package admin

import (
	"net"
	"sync"
)

// MaxConnections bounds the connections of a TCP listener, for operators or for
// metrics: whoever may reach it takes no more of the process, before they have proven
// anything.
const MaxConnections = 64

// Limit returns the listener with the bound. A connection beyond it is closed at once.
func Limit(l net.Listener) net.Listener {
	return &limited{l, make(chan struct{}, MaxConnections)}
}

type limited struct {
	net.Listener
	slots chan struct{}
}

func (l *limited) Accept() (net.Conn, error) {
	for {
		c, err := l.Listener.Accept()
		if err != nil {
			return nil, err
		}
		select {
		case l.slots <- struct{}{}:
			return &connection{c, sync.OnceFunc(func() { <-l.slots })}, nil
		default:
			_ = c.Close()
		}
	}
}

// connection has a slot until it is closed.
type connection struct {
	net.Conn
	left func()
}

func (c *connection) Close() error {
	defer c.left()
	return c.Conn.Close()
}
