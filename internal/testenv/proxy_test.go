package testenv

import (
	"bufio"
	"context"
	"errors"
	"io"
	"net"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"
)

// patience is how long a client waits that is to be kept waiting.
const patience = 2 * time.Second

// through is a client by way of a proxy, with one connection at a time.
func through(t *testing.T, p *Proxy, patience time.Duration, protocol int) *redis.Client {
	t.Helper()
	c := redis.NewClient(&redis.Options{
		Addr: p.Addr(), MaxRetries: -1, Protocol: protocol, PoolSize: 1,
		ReadTimeout: patience, DialTimeout: startTimeout, PoolTimeout: startTimeout,
	})
	t.Cleanup(func() { _ = c.Close() })
	return c
}

func timedOut(err error) bool {
	var n net.Error
	return errors.As(err, &n) && n.Timeout()
}

// Each fault meets the request that was meant, and no other.
func TestProxyFaults(t *testing.T) {
	server := StartRedisT(t)
	for _, row := range []struct {
		fault Fault
		fails bool
		waits bool // the failure is a timeout
		done  string
	}{
		{LoseRequest, true, true, "1"},
		{BreakRequest, true, false, "1"},
		{LoseReply, true, true, "2"},
		{BreakReply, true, false, "2"},
		{TearReply, true, false, "2"},
		{DuplicateRequest, false, false, "3"},
	} {
		for _, protocol := range []int{2, 3} {
			t.Run(row.fault.String(), func(t *testing.T) {
				server.Must(t, "FLUSHALL")
				p := StartProxy(t, server.Addr())
				keep := startTimeout
				if row.waits {
					keep = patience
				}
				i := p.FailAt(2, row.fault, "incr")
				// The first is patient: a slow machine is no fault.
				if err := through(t, p, startTimeout, protocol).Incr(t.Context(), "n").Err(); err != nil || i.Happened() {
					t.Fatalf("the first request: %v, and happened is %v", err, i.Happened())
				}
				c := through(t, p, startTimeout, protocol)
				if err := c.Get(t.Context(), "n").Err(); err != nil {
					t.Fatalf("a request that does not count: %v", err)
				}
				err := c.WithTimeout(keep).Incr(t.Context(), "n").Err()
				if (err != nil) != row.fails || timedOut(err) != row.waits {
					t.Errorf("the client got %v", err)
				}
				<-i.Met()
				expect(t, "the server has", get(t, server, "n"), row.done)
				if err := through(t, p, startTimeout, protocol).Incr(t.Context(), "n").Err(); err != nil {
					t.Errorf("the request after it: %v", err)
				}
			})
		}
	}
}

func TestProxyHolds(t *testing.T) {
	server := StartRedisT(t)
	for fault, before := range map[Fault]string{HoldRequest: "", HoldReply: "1"} {
		t.Run(fault.String(), func(t *testing.T) {
			server.Must(t, "FLUSHALL")
			p := StartProxy(t, server.Addr())
			i := p.FailAt(1, fault, "INCR")
			got := make(chan error, 1)
			c := through(t, p, time.Minute, 3)
			go func() { got <- c.Incr(context.Background(), "n").Err() }()
			<-i.Met()
			expect(t, "meanwhile", get(t, server, "n"), before)
			select {
			case err := <-got:
				t.Fatalf("the client has its reply: %v", err)
			default:
			}
			i.Release()
			if err := <-got; err != nil {
				t.Error(err)
			}
			expect(t, "in the end", get(t, server, "n"), "1")
		})
	}
}

// A request that arrives when its client has given up is still done.
func TestProxyDeliversLate(t *testing.T) {
	server := StartRedisT(t)
	p := StartProxy(t, server.Addr())
	i := p.FailAt(1, HoldRequest, "INCR")
	c := through(t, p, startTimeout, 3)
	c.Ping(t.Context())
	if err := c.WithTimeout(patience).Incr(t.Context(), "n").Err(); !timedOut(err) {
		t.Fatalf("got %v, want a timeout", err)
	}
	expect(t, "before", get(t, server, "n"), "")
	i.Release()
	wait(t, "the request does not arrive", func(context.Context) error {
		if get(t, server, "n") != "1" {
			return errors.New("there is no key")
		}
		return nil
	})
}

func TestProxyDelaysByDirection(t *testing.T) {
	server := StartRedisT(t)
	p := StartProxy(t, server.Addr())
	c := through(t, p, startTimeout, 3)
	c.Ping(t.Context())
	for _, d := range [][2]time.Duration{{patience, 0}, {0, patience}} {
		p.SetDelay(d[0], d[1])
		start := time.Now()
		if err := c.Ping(t.Context()).Err(); err != nil {
			t.Error(err)
		}
		if took := time.Since(start); took < patience {
			t.Errorf("a delay of %v took %v", d, took)
		}
	}
}

func TestProxyLosesAndSwallows(t *testing.T) {
	server := StartRedisT(t)
	p := StartProxy(t, server.Addr())
	old := through(t, p, startTimeout, 3)
	old.Ping(t.Context())
	p.BlackHole.Store(true)
	if err := through(t, p, patience, 3).Ping(t.Context()).Err(); !timedOut(err) {
		t.Errorf("a new connection: %v, want a timeout", err)
	}
	if err := old.Ping(t.Context()).Err(); err != nil {
		t.Errorf("an old connection: %v", err)
	}
	p.BlackHole.Store(false)

	p.DropReplies.Store(true)
	if err := old.WithTimeout(patience).Incr(t.Context(), "n").Err(); !timedOut(err) {
		t.Errorf("without its reply: %v, want a timeout", err)
	}
	wait(t, "the request does not arrive", func(context.Context) error {
		if get(t, server, "n") != "1" {
			return errors.New("there is no key")
		}
		return nil
	})
	p.DropReplies.Store(false)
	p.DropRequests.Store(true)
	if err := through(t, p, patience, 3).Incr(t.Context(), "n").Err(); !timedOut(err) {
		t.Errorf("without its request: %v, want a timeout", err)
	}
	p.DropRequests.Store(false)
	expect(t, "the server has", get(t, server, "n"), "1")
	c := through(t, p, startTimeout, 3)
	c.Ping(t.Context())
	p.Reset()
	if err := c.Ping(t.Context()).Err(); err != nil && timedOut(err) {
		t.Errorf("after a reset: %v, want no timeout", err)
	}
}

// What is not RESP passes as it is: TLS, a monitor.
func TestProxyCarriesOtherProtocols(t *testing.T) {
	ca := NewAuthority(t)
	server := StartRedisWith(t, RedisOptions{TLS: &RedisTLS{Authority: ca, Server: ca.Server(t)}})
	config, err := ca.Config()
	if err != nil {
		t.Fatal(err)
	}
	config.ServerName = "127.0.0.1"
	c := redis.NewClient(&redis.Options{Addr: StartProxy(t, server.Addr()).Addr(), TLSConfig: config, MaxRetries: -1})
	defer func() { _ = c.Close() }()
	if err := c.Ping(t.Context()).Err(); err != nil {
		t.Error(err)
	}

	conn, err := net.Dial("tcp", StartProxy(t, StartRedisT(t).Addr()).Addr())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = conn.Close() }()
	if _, err := io.WriteString(conn, "PING\r\n"); err != nil {
		t.Fatal(err)
	}
	line, err := bufio.NewReader(conn).ReadString('\n')
	if err != nil && !errors.Is(err, os.ErrDeadlineExceeded) {
		t.Error(err)
	}
	expect(t, "an inline command", line, "+PONG\r\n")
}

// A subscription's messages pass, in both versions of the protocol.
func TestProxyCarriesMessages(t *testing.T) {
	server := StartRedisT(t)
	for _, protocol := range []int{2, 3} {
		s := through(t, StartProxy(t, server.Addr()), startTimeout, protocol).Subscribe(t.Context(), "a", "b")
		for range 2 {
			if _, err := s.Receive(t.Context()); err != nil {
				t.Fatal(err)
			}
		}
		server.Must(t, "PUBLISH", "a", "text")
		m, err := s.ReceiveMessage(t.Context())
		if err != nil {
			t.Fatal(err)
		}
		expect(t, "message", m.Payload, "text")
		_ = s.Close()
	}
}

func TestReadReplyFindsItsEnd(t *testing.T) {
	for _, row := range []struct {
		reply string
		push  bool
	}{
		{"+OK\r\n", false},
		{":-1\r\n", false},
		{"$-1\r\n", false},
		{"$0\r\n\r\n", false},
		{"$4\r\na\r\nb\r\n", false},
		{"*-1\r\n", false},
		{"*2\r\n*1\r\n$1\r\na\r\n_\r\n", false},
		{"%1\r\n+k\r\n~2\r\n#t\r\n,1.5\r\n", false},
		{"|1\r\n+k\r\n+v\r\n*0\r\n", false},
		{"=7\r\ntxt:abc\r\n", false},
		{">2\r\n+message\r\n(12345678901234567890\r\n", true},
	} {
		raw, push, err := readReply(bufio.NewReader(strings.NewReader(row.reply + "+next\r\n")))
		if string(raw) != row.reply || push != row.push || err != nil {
			t.Errorf("%q: got %q, push %v, %v", row.reply, raw, push, err)
		}
	}
	for _, wrong := range []string{"", "\r\n", "?1\r\n", "$x\r\n", "$9\r\nshort\r\n", "*1\r\n", "$999999999999\r\n"} {
		if raw, _, err := readReply(bufio.NewReader(strings.NewReader(wrong))); err == nil {
			t.Errorf("%q: got %q, want an error", wrong, raw)
		}
	}
}
