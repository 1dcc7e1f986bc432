package socket

import (
	"errors"
	"net"
	"sync"
	"time"
)

// preface begins every HTTP/2 connection of a client that does not ask first
// (RFC 9113, 3.4), and no HTTP/1.1 request.
const preface = "PRI * HTTP/2.0"

// sniff reads until it is certain whether the connection speaks HTTP/2, and
// keeps what it read for the first reads. A connection that says nothing at
// first is given up after the timeout.
func (c *conn) sniff(timeout time.Duration) (http2 bool, err error) {
	if err := c.SetReadDeadline(time.Now().Add(timeout)); err != nil {
		return false, err
	}
	buf := make([]byte, 0, len(preface))
	for len(buf) < len(preface) {
		n, err := c.Conn.Read(buf[len(buf):cap(buf)])
		if err != nil {
			return false, err
		}
		buf = buf[:len(buf)+n]
		if string(buf) != preface[:len(buf)] {
			break
		}
	}
	c.sniffed = buf
	return string(buf) == preface, c.SetReadDeadline(time.Time{})
}

// handover is a listener of connections that were accepted elsewhere.
type handover struct {
	addr  net.Addr
	conns chan net.Conn
	done  chan struct{}
	once  sync.Once
}

func newHandover() *handover {
	return &handover{addr: &net.UnixAddr{Name: "handover", Net: "unix"}, conns: make(chan net.Conn), done: make(chan struct{})}
}

// give hands a connection over; it fails when the listener is closed.
func (h *handover) give(c net.Conn) error {
	select {
	case h.conns <- c:
		return nil
	case <-h.done:
		return net.ErrClosed
	}
}

func (h *handover) Accept() (net.Conn, error) {
	select {
	case c := <-h.conns:
		return c, nil
	case <-h.done:
		return nil, net.ErrClosed
	}
}

func (h *handover) Close() error {
	h.once.Do(func() { close(h.done) })
	return nil
}

func (h *handover) Addr() net.Addr { return h.addr }

// acceptAgain reports whether Accept may be repeated after err: the process or
// the machine is short of something for the moment.
func acceptAgain(err error) bool {
	var temporary interface{ Temporary() bool }
	return !errors.Is(err, net.ErrClosed) && errors.As(err, &temporary) && temporary.Temporary()
}
