package socket

import (
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// maxPath is the longest path of a Unix socket: sun_path has 108 bytes, the
// last one a zero.
const maxPath = 107

// dirMode is the mode of a directory that Listen makes.
const dirMode = 0o750

// ErrInUse says that another process serves the path.
var ErrInUse = errors.New("another process serves this socket; end it, or choose another path")

// Listen publishes a Unix socket with the mode. A missing directory is made
// with the mode 0750. The socket appears under its path only when it has its
// mode, by a rename; a socket that a dead process left behind is replaced. Two
// processes cannot share a path: the second gets ErrInUse. A lock file beside
// the socket (path.lock) guards it; it stays when the listener is closed. Close
// removes the socket unless another has taken its place.
func Listen(path string, mode fs.FileMode) (net.Listener, error) {
	if err := checkPath(path); err != nil {
		return nil, err
	}
	if err := makeDir(filepath.Dir(path)); err != nil {
		return nil, fmt.Errorf("directory of the socket: %w", err)
	}
	lock, err := lockFile(path + ".lock")
	if err != nil {
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l, err := publish(path, mode)
	if err != nil {
		_ = lock.Close()
		return nil, fmt.Errorf("socket %s: %w", path, err)
	}
	l.lock = lock
	return l, nil
}

// checkPath says what is wrong with a path, as driver.ErrInvalid.
func checkPath(path string) error {
	wrong := ""
	switch {
	case path == "":
		wrong = "the path is empty"
	case path[0] == '@' || path[0] == 0:
		wrong = "an abstract socket has no permissions, give a path in the file system"
	case strings.IndexByte(path, 0) >= 0:
		wrong = "the path has a zero byte"
	case len(path) > maxPath:
		wrong = fmt.Sprintf("the path has %d bytes, a Unix socket allows %d; choose a shorter one", len(path), maxPath)
	default:
		return nil
	}
	return fmt.Errorf("socket %q is %w: %s", path, driver.ErrInvalid, wrong)
}

// makeDir makes the directory, private to owner and group, if it is missing.
func makeDir(dir string) error {
	if info, err := os.Stat(dir); err == nil {
		if !info.IsDir() {
			return &fs.PathError{Op: "mkdir", Path: dir, Err: syscall.ENOTDIR}
		}
		return nil
	}
	if err := os.MkdirAll(dir, dirMode); err != nil {
		return err
	}
	return os.Chmod(dir, dirMode) // whatever the umask
}

// lockFile takes the lock for as long as the file is open. The file is never
// removed: a lock on a removed file would guard nothing.
func lockFile(path string) (*os.File, error) {
	f, err := os.OpenFile(path, os.O_CREATE|os.O_RDWR, 0o600)
	if err != nil {
		return nil, err
	}
	if err := syscall.Flock(int(f.Fd()), syscall.LOCK_EX|syscall.LOCK_NB); err != nil {
		_ = f.Close()
		if errors.Is(err, syscall.EWOULDBLOCK) {
			return nil, ErrInUse
		}
		return nil, fmt.Errorf("lock %s: %w", path, err)
	}
	return f, nil
}

// publish binds a temporary name, sets the mode and renames. It is called under
// the lock.
func publish(path string, mode fs.FileMode) (*listener, error) {
	if err := replaceable(path); err != nil {
		return nil, err
	}
	temporary := temporaryName(path)
	if err := removeSocket(temporary); err != nil {
		return nil, err
	}
	l, err := net.ListenUnix("unix", &net.UnixAddr{Name: temporary, Net: "unix"})
	if err != nil {
		return nil, err
	}
	l.SetUnlinkOnClose(false)
	abandon := func(err error) (*listener, error) {
		_ = l.Close()
		_ = os.Remove(temporary)
		return nil, err
	}
	if err := os.Chmod(temporary, mode); err != nil {
		return abandon(err)
	}
	info, err := os.Lstat(temporary)
	if err != nil {
		return abandon(err)
	}
	if err := os.Rename(temporary, path); err != nil {
		return abandon(err)
	}
	return &listener{UnixListener: l, path: path, created: info}, nil
}

// temporaryName stands in the same directory and is as long as the path, so
// that it can be bound whenever the path can. It is always the same: what a
// killed process left there is removed by the next one.
func temporaryName(path string) string {
	if strings.HasSuffix(path, "~") {
		return path[:len(path)-1] + "_"
	}
	return path[:len(path)-1] + "~"
}

// replaceable says why what stands at the path must stay, or nil.
func replaceable(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("the path is taken by something that is no socket (%v)", info.Mode())
	}
	// A socket of a program that does not know the lock file.
	c, err := net.DialTimeout("unix", path, time.Second)
	if err == nil {
		_ = c.Close()
		return ErrInUse
	}
	if errors.Is(err, syscall.ECONNREFUSED) || errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	return fmt.Errorf("cannot tell whether it is served: %w", err)
}

func removeSocket(path string) error {
	info, err := os.Lstat(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return err
	}
	if info.Mode().Type() != fs.ModeSocket {
		return fmt.Errorf("%s is in the way and is no socket", path)
	}
	return os.Remove(path)
}

// listener removes on Close what Listen created.
type listener struct {
	*net.UnixListener
	path    string
	created fs.FileInfo
	lock    *os.File
	closing sync.Once
}

// Addr is the published path, not the name under which the socket was bound.
func (l *listener) Addr() net.Addr { return &net.UnixAddr{Name: l.path, Net: "unix"} }

// Close stops listening. The socket goes first, the lock last, so that nobody
// else's socket can be meant.
func (l *listener) Close() error {
	err := net.ErrClosed
	l.closing.Do(func() {
		if info, statErr := os.Lstat(l.path); statErr == nil && os.SameFile(info, l.created) {
			_ = os.Remove(l.path)
		}
		err = l.UnixListener.Close()
		_ = l.lock.Close()
	})
	return err
}
