package admin

import (
	"errors"
	"io"
	"net"
	"testing"
	"time"
)

// Those who hold connections open and say nothing do not get any number of them.
func TestConnectionsAreBounded(t *testing.T) {
	tcp, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	l := Limit(tcp)
	accepted := make(chan net.Conn, MaxConnections+2)
	go func() {
		defer close(accepted)
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			accepted <- c
		}
	}()
	dial := func() net.Conn {
		c, err := net.Dial("tcp", tcp.Addr().String())
		if err != nil {
			t.Fatal(err)
		}
		t.Cleanup(func() { _ = c.Close() })
		_ = c.SetReadDeadline(time.Now().Add(10 * time.Second))
		return c
	}
	var first net.Conn
	for range MaxConnections {
		dial()
		if c := <-accepted; first == nil {
			first = c
		}
	}
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one more: %v, want that it is closed", err)
	}
	_ = first.Close()
	_ = first.Close() // its slot is free once
	dial()
	<-accepted
	if _, err := dial().Read(make([]byte, 1)); !errors.Is(err, io.EOF) {
		t.Errorf("one more, after one has left and come: %v, want that it is closed", err)
	}
	_ = l.Close()
	for range accepted { // until the accepting has ended
	}
}
