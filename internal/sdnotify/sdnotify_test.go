package sdnotify_test

import (
	"net"
	"os"
	"path/filepath"
	"strconv"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/sdnotify"
)

func TestSend(t *testing.T) {
	dir, err := os.MkdirTemp("", "sd") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	for _, address := range []string{filepath.Join(dir, "notify"), "@locksidecar-test-" + strconv.Itoa(os.Getpid())} {
		manager, err := net.ListenUnixgram("unixgram", &net.UnixAddr{Name: address, Net: "unixgram"})
		if err != nil {
			t.Fatal(err)
		}
		t.Setenv("NOTIFY_SOCKET", address)
		n, err := sdnotify.FromEnvironment()
		if err != nil || n == nil {
			t.Fatal(n, err)
		}
		if _, still := os.LookupEnv("NOTIFY_SOCKET"); still {
			t.Error("children would inherit the socket")
		}
		if err := n.Send(sdnotify.Ready); err != nil {
			t.Fatal(err)
		}
		buf := make([]byte, 100)
		size, err := manager.Read(buf)
		if err != nil || string(buf[:size]) != "READY=1" {
			t.Errorf("the manager read %q, %v", buf[:size], err)
		}
		_ = manager.Close()
		if n.Send(sdnotify.Stopping) == nil {
			t.Error("a message to nobody was sent")
		}
	}
}

func TestFromEnvironment(t *testing.T) {
	pid := strconv.Itoa(os.Getpid())
	for _, c := range []struct {
		socket, usec, pid string
		none, wrong       bool
		watchdog          time.Duration
	}{
		{none: true},
		{usec: "1000000", none: true},
		{socket: "/run/x"},
		{socket: "/run/x", usec: "1500000", watchdog: 1500 * time.Millisecond},
		{socket: "/run/x", usec: "1500000", pid: pid, watchdog: 1500 * time.Millisecond},
		{socket: "/run/x", usec: "1500000", pid: "1"}, // for another process
		{socket: "/run/x", usec: "soon", wrong: true},
		{socket: "/run/x", usec: "0", wrong: true},
		{socket: "run/x", wrong: true},
	} {
		t.Setenv("NOTIFY_SOCKET", c.socket)
		t.Setenv("WATCHDOG_USEC", c.usec)
		t.Setenv("WATCHDOG_PID", c.pid)
		n, err := sdnotify.FromEnvironment()
		if (err != nil) != c.wrong || (n == nil) != (c.none || c.wrong) || n != nil && n.Watchdog != c.watchdog {
			t.Errorf("%+v: %+v, %v", c, n, err)
		}
	}
	var nobody *sdnotify.Notifier
	if err := nobody.Send(sdnotify.Ready); err != nil {
		t.Error(err)
	}
}
