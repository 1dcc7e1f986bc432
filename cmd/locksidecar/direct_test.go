package main

import (
	"bufio"
	"fmt"
	"io"
	"net"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"testing"
)

// echoing is a server that refuses every command by repeating it, as those do that
// do not know one: a password comes back in the refusal.
func echoing(t *testing.T) (address string) {
	t.Helper()
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				for r := bufio.NewReader(c); ; {
					words, err := command(r)
					if err != nil {
						return
					}
					if _, err := fmt.Fprintf(c, "-ERR unknown command, with args beginning with: '%s'\r\n", strings.Join(words, "' '")); err != nil {
						return
					}
				}
			}()
		}
	}()
	return l.Addr().String()
}

// command reads one, an array of strings.
func command(r *bufio.Reader) (words []string, err error) {
	length := func() (n int) {
		var line string
		if line, err = r.ReadString('\n'); err == nil && len(line) > 2 {
			n, err = strconv.Atoi(strings.TrimSpace(line[1:]))
		}
		return n
	}
	for n := length(); err == nil && len(words) < n; {
		word := make([]byte, length()+2)
		if err == nil {
			_, err = io.ReadFull(r, word)
		}
		words = append(words, strings.TrimSpace(string(word)))
	}
	return words, err
}

// What a server answers that refuses the login has the password in it; what a command
// says that goes to the backend itself has not.
func TestDirectCommandsTellNoPassword(t *testing.T) {
	const password = "hunter2"
	url := "redis://sidecar:" + password + "@" + echoing(t) + "?timeout=1s"
	for _, line := range []string{
		"ls", "get a", "deadlocks", "force-release a --token 1 --reason test", "store init", "lock -n a -- true",
	} {
		words := strings.Fields(line)
		if end := slices.Index(words, "--"); end >= 0 {
			words = slices.Insert(words, end, "--backend", url)
		} else {
			words = append(words, "--backend", url)
		}
		out, err := exec.CommandContext(t.Context(), "locksidecar", words...).CombinedOutput()
		if strings.Contains(string(out), password) || !strings.Contains(string(out), "[redacted]") {
			t.Errorf("%s: %v, and it says:\n%s", line, err, out)
		}
		if (err == nil) != (line == "deadlocks") { // which shows what it could read
			t.Errorf("%s: %v", line, err)
		}
	}
}
