package testenv

import (
	"context"
	"net"
	"strings"
	"sync"
	"testing"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/keepalive"
)

// EtcdProxy stands between clients and a member of an etcd, in the clear, and
// does something to one call among all (FailAt). Where a Proxy breaks whole
// connections, which carry many calls at a time, it meets a single one: what
// goes on beside it goes on.
type EtcdProxy struct {
	listener *conns
	server   *grpc.Server
	upstream *grpc.ClientConn
	ctx      context.Context // ends with the proxy
	done     sync.WaitGroup

	mu      sync.Mutex
	plan    *Injection
	seen    []string
	version string
}

// StartEtcdProxy starts a proxy to the address of a member for the length of a
// test.
func StartEtcdProxy(t testing.TB, target string) *EtcdProxy {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	const most = 64 << 20 // of a message, which etcd bounds more narrowly
	upstream, err := grpc.NewClient("passthrough:///"+target, grpc.WithTransportCredentials(insecure.NewCredentials()),
		grpc.WithDefaultCallOptions(grpc.ForceCodecV2(raw{}), grpc.MaxCallRecvMsgSize(most)), grpc.WithDisableRetry())
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	p := &EtcdProxy{listener: &conns{Listener: l, open: make(map[string]net.Conn)}, upstream: upstream, ctx: ctx}
	p.server = grpc.NewServer(grpc.ForceServerCodecV2(raw{}), grpc.UnknownServiceHandler(p.serve), grpc.MaxRecvMsgSize(most),
		grpc.KeepaliveEnforcementPolicy(keepalive.EnforcementPolicy{MinTime: time.Millisecond, PermitWithoutStream: true}))
	p.done.Go(func() { _ = p.server.Serve(p.listener) })
	t.Cleanup(func() {
		cancel()
		p.server.Stop()
		p.done.Wait()
		_ = upstream.Close()
	})
	return p
}

// Addr is where the proxy listens.
func (p *EtcdProxy) Addr() string { return p.listener.Addr().String() }

// URL is the backend URL through the proxy.
func (p *EtcdProxy) URL() string { return "etcd://" + p.Addr() }

// Cut ends the proxy: nothing more arrives.
func (p *EtcdProxy) Cut() { p.server.Stop() }

// Reset breaks every connection of a client's.
func (p *EtcdProxy) Reset() { p.listener.abort() }

// FailAt does something to the n-th of the requests from now on, the first
// being 1, over all connections. Methods are those that count, by their names
// in etcd's services: Range, Txn, LeaseGrant. Without any, all do. Of a stream,
// Watch and LeaseKeepAlive, each message of the client's is a request, and what
// is done to one is done to the stream. It replaces an earlier fault that has not
// met its request. TearReply is BreakReply here.
func (p *EtcdProxy) FailAt(n int, f Fault, methods ...string) *Injection {
	i := newInjection(n, f, methods)
	p.mu.Lock()
	defer p.mu.Unlock()
	p.plan = i
	return i
}

// Requests are the methods of the requests that came so far, in order, of those
// named or of all.
func (p *EtcdProxy) Requests(methods ...string) (seen []string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	for _, s := range p.seen {
		if len(methods) == 0 {
			seen = append(seen, s)
		}
		for _, m := range methods {
			if s == m {
				seen = append(seen, s)
			}
		}
	}
	return seen
}

// SetVersion makes the member say, to whoever asks for its status from now on,
// that it is of that version.
func (p *EtcdProxy) SetVersion(version string) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.version = version
}

// meet counts a request and is the injection that it meets, mostly none.
func (p *EtcdProxy) meet(method string) *Injection {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.seen = append(p.seen, method)
	i := p.plan
	if !i.meant(strings.ToUpper(method)) {
		return nil
	}
	p.plan = nil
	return i
}

// conns is a listener that knows what it has accepted, by the client's address.
type conns struct {
	net.Listener
	mu   sync.Mutex
	open map[string]net.Conn
}

// Accept waits for a connection.
func (l *conns) Accept() (net.Conn, error) {
	c, err := l.Listener.Accept()
	if err != nil {
		return nil, err
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open[c.RemoteAddr().String()] = c
	return c, nil
}

// abort resets the connections of the clients, all if none is named.
func (l *conns) abort(clients ...string) {
	l.mu.Lock()
	defer l.mu.Unlock()
	if len(clients) == 0 {
		for client := range l.open {
			clients = append(clients, client)
		}
	}
	for _, client := range clients {
		if c, ok := l.open[client].(*net.TCPConn); ok {
			_ = c.SetLinger(0) // by a reset, at once
			_ = c.Close()
		}
		delete(l.open, client)
	}
}
