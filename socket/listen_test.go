package socket_test

import (
	"errors"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/socket"
)

func listen(t *testing.T, path string) net.Listener {
	t.Helper()
	l, err := socket.Listen(path, 0o660)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = l.Close() })
	return l
}

func TestListenPublishesWithItsModeInAPrivateDirectory(t *testing.T) {
	dir := filepath.Join(shortDir(t), "run")
	path := filepath.Join(dir, "api.sock")
	l := listen(t, path)
	for name, want := range map[string]fs.FileMode{path: fs.ModeSocket | 0o660, dir: fs.ModeDir | 0o750} {
		if info, err := os.Stat(name); err != nil || info.Mode() != want {
			t.Errorf("%s has mode %v, %v; want %v", name, info.Mode(), err, want)
		}
	}
	if l.Addr().String() != path {
		t.Errorf("the address is %s, want the published path", l.Addr())
	}
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) != 2 {
		t.Errorf("the directory holds %v, %v; want the socket and its lock file", entries, err)
	}
	if err := l.Close(); err != nil {
		t.Error(err)
	}
	if _, err := os.Lstat(path); !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("the socket is left behind: %v", err)
	}
}

func TestTwoListenersCannotShareAPath(t *testing.T) {
	path := filepath.Join(shortDir(t), "api.sock")
	listen(t, path)
	if l, err := socket.Listen(path, 0o660); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("Listen = %v, %v; want ErrInUse", l, err)
	}
	if c, err := net.Dial("unix", path); err != nil {
		t.Errorf("the first one is disturbed: %v", err)
	} else {
		_ = c.Close()
	}
}

func TestListenDoesNotTakeTheSocketOfAnotherProgram(t *testing.T) {
	path := filepath.Join(shortDir(t), "other.sock")
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	if l, err := socket.Listen(path, 0o660); !errors.Is(err, socket.ErrInUse) {
		t.Errorf("Listen = %v, %v; want ErrInUse", l, err)
	}
}

func TestListenRecoversAStaleSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "api.sock")
	for _, name := range []string{path, path[:len(path)-1] + "~"} { // as a killed process leaves them
		stale, err := net.ListenUnix("unix", &net.UnixAddr{Name: name})
		if err != nil {
			t.Fatal(err)
		}
		stale.SetUnlinkOnClose(false)
		_ = stale.Close()
	}
	listen(t, path)
	c, err := net.Dial("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	_ = c.Close()
}

func TestListenKeepsWhatIsNoSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "file")
	if err := os.WriteFile(path, []byte("precious"), 0o600); err != nil {
		t.Fatal(err)
	}
	if _, err := socket.Listen(path, 0o660); err == nil {
		t.Error("a file was replaced")
	}
	if b, err := os.ReadFile(path); string(b) != "precious" {
		t.Errorf("the file is %q, %v", b, err)
	}
}

func TestCloseRemovesOnlyItsOwnSocket(t *testing.T) {
	path := filepath.Join(shortDir(t), "api.sock")
	l := listen(t, path)
	if err := os.Remove(path); err != nil {
		t.Fatal(err)
	}
	other, err := net.Listen("unix", path)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = other.Close() }()
	_ = l.Close()
	if _, err := os.Lstat(path); err != nil {
		t.Errorf("another's socket is gone: %v", err)
	}
}

func TestListenRefusesPathsThatCannotBe(t *testing.T) {
	long := filepath.Join(shortDir(t), strings.Repeat("n", 120))
	for path, says := range map[string]string{"": "empty", "@api": "abstract", "\x00api": "abstract", long: "107"} {
		if _, err := socket.Listen(path, 0o660); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("Listen(%q) = %v, want an error that says %q", path, err, says)
		}
	}
	// The longest path that the system takes is taken.
	dir := shortDir(t)
	listen(t, filepath.Join(dir, strings.Repeat("n", 107-len(dir)-1)))
}
