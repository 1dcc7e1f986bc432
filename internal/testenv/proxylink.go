package testenv

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
)

// link is a connection of a client's and the one to the server that belongs to
// it. If the client speaks RESP, requests and replies are carried one by one,
// else as they come.
type link struct {
	p              *Proxy
	client, server net.Conn
	resp           atomic.Bool

	mu sync.Mutex
	// due has, for each request whose reply is to come, what is to be done to
	// the reply: nil, or what FailAt asked for.
	due []*Injection
}

func (l *link) carryRequests(from *bufio.Reader) {
	first, err := from.Peek(1)
	if err != nil {
		return
	}
	if first[0] != '*' {
		l.carry(l.server, from, &l.p.DropRequests, &l.p.requestDelay)
		return
	}
	l.resp.Store(true) // before the server can have answered
	for {
		raw, command, err := readRequest(from)
		if err != nil {
			return
		}
		l.p.pause(&l.p.requestDelay)
		if l.p.DropRequests.Load() {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		i := l.p.meet(command)
		switch i.what() {
		case LoseRequest:
			close(i.met)
			_, _ = io.Copy(io.Discard, from)
			return
		case BreakRequest:
			l.abort()
			close(i.met)
			return
		case HoldRequest:
			close(i.met)
			i.wait(l.p.stop)
			i = nil
		case DuplicateRequest:
			l.expect(nil)
			raw = append(raw, raw...)
		}
		l.expect(i)
		if _, err := l.server.Write(raw); err != nil {
			return
		}
	}
}

func (l *link) carryReplies(from *bufio.Reader) {
	if _, err := from.Peek(1); err != nil {
		return
	}
	if !l.resp.Load() {
		l.carry(l.client, from, &l.p.DropReplies, &l.p.replyDelay)
		return
	}
	for {
		raw, push, err := readReply(from)
		if err != nil {
			return
		}
		var i *Injection
		if !push {
			i = l.reply()
		}
		l.p.pause(&l.p.replyDelay)
		if l.p.DropReplies.Load() {
			_, _ = io.Copy(io.Discard, from)
			return
		}
		switch i.what() {
		case LoseReply:
			close(i.met)
			_, _ = io.Copy(io.Discard, from)
			return
		case BreakReply:
			l.abort()
			close(i.met)
			return
		case TearReply:
			_, _ = l.client.Write(raw[:len(raw)/2])
			// No reset: it would overtake what was written.
			_ = l.client.Close()
			close(i.met)
			return
		case HoldReply:
			close(i.met)
			i.wait(l.p.stop)
		case DuplicateRequest:
			close(i.met)
			continue
		}
		if _, err := l.client.Write(raw); err != nil {
			return
		}
	}
}

// carry copies bytes as they come.
func (l *link) carry(to io.Writer, from io.Reader, drop *atomic.Bool, delay *atomic.Int64) {
	buf := make([]byte, 32<<10)
	for {
		n, err := from.Read(buf)
		if n > 0 {
			l.p.pause(delay)
			if drop.Load() {
				_, _ = io.Copy(io.Discard, from)
				return
			}
			if _, werr := to.Write(buf[:n]); werr != nil {
				return
			}
		}
		if err != nil {
			return
		}
	}
}

// expect notes what is to be done to the reply of the request that follows.
func (l *link) expect(i *Injection) {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.due = append(l.due, i)
}

// reply takes what is to be done to the reply that came. A reply that nobody
// asked for, a message of a subscription for instance, passes.
func (l *link) reply() *Injection {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(l.due) == 0 {
		return nil
	}
	i := l.due[0]
	l.due = l.due[1:]
	return i
}

// abort resets the client's connection and the server's.
func (l *link) abort() {
	for _, c := range []net.Conn{l.client, l.server} {
		if tcp, ok := c.(*net.TCPConn); ok {
			_ = tcp.SetLinger(0) // by a reset, at once
		}
		_ = c.Close()
	}
}
