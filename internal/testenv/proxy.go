package testenv

import (
	"bufio"
	"io"
	"net"
	"sync"
	"sync/atomic"
	"testing"
	"time"
)

// Proxy stands between a client and a server on loopback. It can be slow, lose
// what either sends, swallow new connections, and do something to one request
// among all (FailAt). A direction of a connection that has lost bytes carries
// nothing ever after: TCP loses no bytes out of the middle of a stream.
type Proxy struct {
	listener net.Listener
	target   atomic.Pointer[string]
	// DropReplies loses what the server sends, DropRequests what the client
	// sends; the connections stay open.
	DropReplies, DropRequests atomic.Bool
	// BlackHole accepts new connections and carries nothing on them, ever.
	BlackHole atomic.Bool

	requestDelay, replyDelay atomic.Int64

	mu    sync.Mutex
	conns map[net.Conn]struct{}
	plan  *Injection
	stop  chan struct{}
	done  sync.WaitGroup
}

// StartProxy starts a proxy to the address for the length of a test.
func StartProxy(t testing.TB, target string) *Proxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	p := &Proxy{listener: l, conns: make(map[net.Conn]struct{}), stop: make(chan struct{})}
	p.Retarget(target)
	p.done.Go(p.accept)
	t.Cleanup(func() {
		_ = l.Close()
		close(p.stop)
		p.Reset()
		p.done.Wait()
	})
	return p
}

// Retarget sends the connections that come from now on to another server, as a
// name or a virtual address does after a failover.
func (p *Proxy) Retarget(target string) { p.target.Store(&target) }

// Addr is where the proxy listens.
func (p *Proxy) Addr() string { return p.listener.Addr().String() }

// SetDelay makes what is sent from now on arrive so much later, by direction.
// A piece waits for the one before it: it is latency for a client that waits
// for its reply, and less for one that does not.
func (p *Proxy) SetDelay(requests, replies time.Duration) {
	p.requestDelay.Store(int64(requests))
	p.replyDelay.Store(int64(replies))
}

// Cut breaks every connection and lets none be made any more.
func (p *Proxy) Cut() {
	p.Retarget("127.0.0.1:1") // where nobody listens
	p.Reset()
}

// Reset breaks every connection.
func (p *Proxy) Reset() {
	p.mu.Lock()
	defer p.mu.Unlock()
	for c := range p.conns {
		_ = c.Close()
	}
}

func (p *Proxy) accept() {
	for {
		client, err := p.listener.Accept()
		if err != nil {
			return
		}
		if p.BlackHole.Load() {
			if p.keep(client) {
				p.done.Go(func() {
					_, _ = io.Copy(io.Discard, client)
					p.close(client)
				})
			}
			continue
		}
		server, err := net.Dial("tcp", *p.target.Load())
		if err != nil {
			_ = client.Close()
			continue
		}
		if !p.keep(client, server) {
			return
		}
		l := &link{p: p, client: client, server: server}
		p.done.Go(func() { defer p.close(client, server); l.carryRequests(bufio.NewReader(client)) })
		p.done.Go(func() { defer p.close(client, server); l.carryReplies(bufio.NewReader(server)) })
	}
}

// keep notes connections for Reset; it closes them if the proxy has ended.
func (p *Proxy) keep(conns ...net.Conn) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	select {
	case <-p.stop:
		for _, c := range conns {
			_ = c.Close()
		}
		return false
	default:
	}
	for _, c := range conns {
		p.conns[c] = struct{}{}
	}
	return true
}

func (p *Proxy) close(conns ...net.Conn) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, c := range conns {
		_ = c.Close()
		delete(p.conns, c)
	}
}

// pause waits for a delay, at most until the proxy ends.
func (p *Proxy) pause(d *atomic.Int64) {
	if d.Load() == 0 {
		return
	}
	timer := time.NewTimer(time.Duration(d.Load()))
	defer timer.Stop()
	select {
	case <-timer.C:
	case <-p.stop:
	}
}
