package socket

import (
	"net"
	"unsafe"

	"golang.org/x/sys/unix"
)

// identify asks the kernel who connected. The pidfd is -1 if there is none: then
// the death of the process cannot be proven.
func identify(c net.Conn) (p Peer, pidfd int) {
	p, pidfd = Peer{UID: overflowID, GID: overflowID}, -1
	u, ok := c.(*net.UnixConn)
	if !ok {
		return p, pidfd
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return p, pidfd
	}
	_ = raw.Control(func(fd uintptr) {
		if cred, err := unix.GetsockoptUcred(int(fd), unix.SOL_SOCKET, unix.SO_PEERCRED); err == nil {
			p = Peer{PID: cred.Pid, UID: cred.Uid, GID: cred.Gid, Groups: groups(fd)}
		}
		if got, err := unix.GetsockoptInt(int(fd), unix.SOL_SOCKET, unix.SO_PEERPIDFD); err == nil {
			unix.CloseOnExec(got)
			pidfd = got
			return
		}
		// Before Linux 6.5. If the pid has passed to another process meanwhile,
		// the peer is dead already, so that the death of the other one proves
		// nothing false.
		if p.PID != 0 {
			if got, err := unix.PidfdOpen(int(p.PID), 0); err == nil {
				pidfd = got
			}
		}
	})
	return p, pidfd
}

// groups are the supplementary groups of the peer when it connected.
func groups(fd uintptr) []uint32 {
	ids := make([]uint32, 32)
	for {
		size := uint32(len(ids) * 4) //nolint:gosec // at most 65,536 groups
		// x/sys has the option's number and no function for it.
		_, _, errno := unix.Syscall6(unix.SYS_GETSOCKOPT, fd, unix.SOL_SOCKET, unix.SO_PEERGROUPS,
			uintptr(unsafe.Pointer(&ids[0])), uintptr(unsafe.Pointer(&size)), 0) //nolint:gosec // as getsockopt(2) wants it
		switch {
		case errno == 0 && size == 0:
			return nil
		case errno == 0:
			return ids[:size/4]
		case errno != unix.ERANGE || int(size/4) <= len(ids):
			return nil // Linux before 4.13
		}
		ids = make([]uint32, size/4)
	}
}

// unread is how many bytes the peer has not yet taken from the connection, or
// -1 if that is not known.
func unread(c net.Conn) int {
	u, ok := c.(*net.UnixConn)
	if !ok {
		return -1
	}
	raw, err := u.SyscallConn()
	if err != nil {
		return -1
	}
	n := -1
	_ = raw.Control(func(fd uintptr) {
		if got, err := unix.IoctlGetInt(int(fd), unix.TIOCOUTQ); err == nil {
			n = got
		}
	})
	return n
}
