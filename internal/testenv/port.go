package testenv

import (
	"strconv"
	"syscall"
	"testing"

	"golang.org/x/sys/unix"
)

// FreePort is a port of 127.0.0.1 that nobody else is given while the test runs. It is
// bound and not listened on: connections are refused, until a server listens that
// sets SO_REUSEADDR, as those of Go and Python do.
func FreePort(t testing.TB) string {
	t.Helper()
	syscall.ForkLock.RLock() // no process that is started now has it, too
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_STREAM, 0)
	if err == nil {
		unix.CloseOnExec(fd)
	}
	syscall.ForkLock.RUnlock()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = unix.Close(fd) })
	if err := unix.SetsockoptInt(fd, unix.SOL_SOCKET, unix.SO_REUSEADDR, 1); err != nil {
		t.Fatal(err)
	}
	if err := unix.Bind(fd, &unix.SockaddrInet4{Addr: [4]byte{127, 0, 0, 1}}); err != nil {
		t.Fatal(err)
	}
	at, err := unix.Getsockname(fd)
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(at.(*unix.SockaddrInet4).Port)
}
