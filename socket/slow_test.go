package socket_test

import (
	"io"
	"net"
	"strings"
	"testing"
	"time"
)

// Whoever does not finish what it begins is given up, whatever it was.
func TestSlowClientsAreGivenUp(t *testing.T) {
	s := startImpatient(t, time.Second)
	for name, begins := range map[string]string{
		"nothing":         "",
		"half a preface":  "PRI * HT",
		"half a head":     "GET /locks/a HTTP/1.1\r\nHos",
		"half a body":     "POST /locks/a:acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"half a hold":     "POST /locks/a:hold HTTP/1.1\r\nHost: x\r\nContent-Length: 100\r\n\r\n{",
		"a preface alone": "PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
		"a drop a moment": "drip",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			c, err := net.Dial("unix", s.path)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = c.Close() }()
			if begins == "drip" { // never silent, never done
				go func() {
					_, err := io.WriteString(c, "POST /locks/a:acquire HTTP/1.1\r\nHost: x\r\nContent-Length: 10000\r\n\r\n")
					for err == nil {
						_, err = io.WriteString(c, " ")
						time.Sleep(20 * time.Millisecond)
					}
				}()
			} else if _, err := io.WriteString(c, begins); err != nil {
				t.Fatal(err)
			}
			if err := c.SetReadDeadline(time.Now().Add(patience)); err != nil {
				t.Fatal(err)
			}
			answer, err := io.ReadAll(c)
			if err != nil && strings.Contains(err.Error(), "timeout") {
				t.Errorf("the connection is still open after %v", patience)
			}
			if name == "half a body" && !strings.Contains(string(answer), "INVALID_REQUEST") {
				t.Errorf("it is answered %q", answer)
			}
		})
	}
}

// Who asks and does not read the answers is given up, too.
func TestUnreadAnswersAreGivenUp(t *testing.T) {
	s := startImpatient(t, time.Second)
	c, err := net.Dial("unix", s.path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteDeadline(time.Now().Add(patience)); err != nil {
		t.Fatal(err)
	}
	for {
		_, err := io.WriteString(c, "GET /locks/a HTTP/1.1\r\nHost: x\r\n\r\n")
		if err == nil {
			continue
		}
		if strings.Contains(err.Error(), "timeout") {
			t.Errorf("the connection is still open after %v", patience)
		}
		return
	}
}
