package configuration

import (
	"fmt"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/internal/config"
)

// What the daemon takes where an audit log says nothing.
const (
	auditBytes = 100 << 20
	auditKeep  = 10
)

// auditRoom is what an audit log may take of the socket's volume: a store's file, or
// the last line of each of its files, has the other half.
const auditRoom = inject.SocketBytes / 2

// audit refuses an audit log that the sidecar could not write, or that would fill its
// volume before a file is rotated away: from then on nothing would be written.
func audit(a config.Audit) error {
	if a.Path == "" {
		return nil
	}
	if !writable(a.Path) {
		return fmt.Errorf("configuration: events.audit.path: %w", errWritable)
	}
	size, keep := a.MaxBytes, a.Keep
	if size == 0 {
		size = auditBytes
	}
	if keep == 0 {
		keep = auditKeep
	}
	if files := uint64(keep) + 1; uint64(size) > auditRoom/files {
		return fmt.Errorf("configuration: events.audit: a file of %d bytes (max_bytes) and %d older ones (keep) do not fit into %s, "+
			"which has %d bytes of memory, half of them for the log: want max_bytes * (keep + 1) of at most %d, such as max_bytes: 1048576 and keep: 7",
			size, keep, inject.SocketDir, inject.SocketBytes, auditRoom)
	}
	return nil
}
