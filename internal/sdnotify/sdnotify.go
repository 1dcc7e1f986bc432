// Package sdnotify tells systemd about the state of this process: the protocol
// of sd_notify(3).
//
// It guarantees that nothing is sent where no service manager asked for it, and
// that a message never blocks for longer than its deadline.
//
// It does not guarantee that the manager reads a message: the protocol has no
// answer.
//
// Use [FromEnvironment] once, at the start: it takes the variables out of the
// environment, so that no child speaks in this process's name.
package sdnotify

import (
	"fmt"
	"net"
	"os"
	"strconv"
	"time"
)

// The states of a service.
const (
	Ready    = "READY=1"
	Stopping = "STOPPING=1"
	// Watchdog has to be sent at least once in each Notifier.Watchdog.
	Watchdog = "WATCHDOG=1"
)

// sendTimeout bounds a message.
const sendTimeout = time.Second

// Notifier speaks to the service manager. A nil Notifier speaks to nobody.
type Notifier struct {
	address string
	// Watchdog is how often the manager wants a sign of life; 0 means never.
	Watchdog time.Duration
}

// FromEnvironment returns the notifier that the service manager asked for, or
// nil.
func FromEnvironment() (*Notifier, error) {
	address, usec, pid := take("NOTIFY_SOCKET"), take("WATCHDOG_USEC"), take("WATCHDOG_PID")
	if address == "" {
		return nil, nil //nolint:nilnil // nobody asked
	}
	if address[0] != '/' && address[0] != '@' {
		return nil, fmt.Errorf("NOTIFY_SOCKET %q is neither a path nor an abstract socket", address)
	}
	n := &Notifier{address: address}
	if usec != "" && (pid == "" || pid == strconv.Itoa(os.Getpid())) {
		v, err := strconv.ParseInt(usec, 10, 64)
		if err != nil || v <= 0 {
			return nil, fmt.Errorf("WATCHDOG_USEC %q is no number of microseconds", usec)
		}
		n.Watchdog = time.Duration(v) * time.Microsecond
	}
	return n, nil
}

func take(name string) string {
	v := os.Getenv(name)
	_ = os.Unsetenv(name) // it fails for an impossible name only
	return v
}

// Send tells the manager a state.
func (n *Notifier) Send(state string) error {
	if n == nil {
		return nil
	}
	c, err := net.DialUnix("unixgram", nil, &net.UnixAddr{Name: n.address, Net: "unixgram"})
	if err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	defer func() { _ = c.Close() }()
	if err := c.SetWriteDeadline(time.Now().Add(sendTimeout)); err != nil {
		return err
	}
	if _, err := c.Write([]byte(state)); err != nil {
		return fmt.Errorf("notify systemd: %w", err)
	}
	return nil
}
