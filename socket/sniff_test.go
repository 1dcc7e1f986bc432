package socket_test

import (
	"bufio"
	"io"
	"net"
	"net/http"
	"testing"

	"github.com/locksidecar/locksidecar/socket"
)

// However the first bytes arrive, the protocol is found; a connection that says
// nothing, or nonsense, disturbs nobody.
func TestProtocolIsFoundByTheFirstBytes(t *testing.T) {
	s := start(t, socket.Options{}, nil)
	for _, first := range []string{"", "P", "PR", "PRI * HTTP/1.1\r\n\r\n", "PRI * HTTP/2.0\r\n\r\nnonsense", "\x16\x03\x01"} {
		c, err := net.Dial("unix", s.path)
		if err != nil {
			t.Fatal(err)
		}
		defer func() { _ = c.Close() }()
		_, _ = io.WriteString(c, first)
	}
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	r := bufio.NewReader(c)
	for range 2 { // the second request comes on a connection that is known
		for _, b := range []byte("POST /locks/a:acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n") {
			if _, err := c.Write([]byte{b}); err != nil {
				t.Fatal(err)
			}
		}
		resp, err := http.ReadResponse(r, nil)
		if err != nil {
			t.Fatal(err)
		}
		if resp.StatusCode != http.StatusOK {
			t.Errorf("answered %s", resp.Status)
		}
		_, _ = io.Copy(io.Discard, resp.Body)
		releaseFirst(t, s)
	}
}

// releaseFirst frees the lock "a".
func releaseFirst(t *testing.T, s *sidecar) {
	t.Helper()
	for _, h := range s.holders(t, "a") {
		if err := s.force(t, "a", h.Token); err != nil {
			t.Fatal(err)
		}
	}
}
