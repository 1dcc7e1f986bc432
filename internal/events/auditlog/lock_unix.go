//go:build unix

package auditlog

import (
	"errors"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// lock makes the file this process's own: two that wrote it would rotate it under
// each other.
func lock(f *os.File) error {
	err := unix.Flock(int(f.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return fmt.Errorf("another process writes %s: each sidecar needs a file of its own", f.Name())
	}
	return err
}
