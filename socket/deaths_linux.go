package socket

import (
	"os"
	"sync"
	"syscall"

	"golang.org/x/sys/unix"
)

// deaths watches processes by their pidfds, all of them on one goroutine.
type deaths struct {
	epoll   *os.File
	raw     syscall.RawConn
	stopped chan struct{}

	mu     sync.Mutex
	nextID uint64
	// mourned counts the mourners.
	mourned int
	lives   map[uint64]*life
}

// newDeaths starts the watch. close ends it.
func newDeaths() (*deaths, error) {
	fd, err := unix.EpollCreate1(unix.EPOLL_CLOEXEC)
	if err != nil {
		return nil, os.NewSyscallError("epoll_create1", err)
	}
	// Non-blocking, so that Go's own poller waits for it and Close wakes the
	// goroutine.
	if err := unix.SetNonblock(fd, true); err != nil {
		_ = unix.Close(fd)
		return nil, os.NewSyscallError("fcntl", err)
	}
	d := &deaths{epoll: os.NewFile(uintptr(fd), "deaths"), stopped: make(chan struct{}), lives: make(map[uint64]*life)}
	if d.raw, err = d.epoll.SyscallConn(); err != nil {
		_ = d.epoll.Close()
		return nil, err
	}
	go d.run()
	return d, nil
}

func (d *deaths) run() {
	defer close(d.stopped)
	var events [64]unix.EpollEvent
	// It returns when the file is closed.
	_ = d.raw.Read(func(fd uintptr) bool {
		for {
			n, err := unix.EpollWait(int(fd), events[:], 0)
			if err == unix.EINTR {
				continue
			}
			if n <= 0 {
				return false
			}
			for _, e := range events[:n] {
				d.died(uint64(uint32(e.Fd)) | uint64(uint32(e.Pad))<<32) //nolint:gosec // the two halves of the id
			}
		}
	})
}

// watch begins to watch a process and takes over its pidfd. The caller has the
// first reference. nil: the process cannot be watched.
func (d *deaths) watch(pidfd int) *life {
	d.mu.Lock()
	defer d.mu.Unlock()
	// Events carry an id of ours instead of the descriptor: a descriptor that
	// was closed and given out again would make one process die the death of
	// another.
	d.nextID++
	l := &life{deaths: d, id: d.nextID, pidfd: pidfd, references: 1, dead: make(chan struct{})}
	event := unix.EpollEvent{Events: unix.EPOLLIN, Fd: int32(uint32(l.id)), Pad: int32(uint32(l.id >> 32))} //nolint:gosec // two halves of the id
	added := false
	err := d.raw.Control(func(fd uintptr) {
		added = unix.EpollCtl(int(fd), unix.EPOLL_CTL_ADD, pidfd, &event) == nil
	})
	if err != nil || !added {
		_ = unix.Close(pidfd)
		return nil
	}
	d.lives[l.id] = l
	return l
}

// forget stops watching; closing the pidfd takes it out of the epoll set.
// d.mu is held.
func (d *deaths) forget(l *life) {
	if d.lives[l.id] == l {
		delete(d.lives, l.id)
		_ = unix.Close(l.pidfd)
	}
}

func (d *deaths) died(id uint64) {
	d.mu.Lock()
	l := d.lives[id]
	if l == nil {
		d.mu.Unlock()
		return
	}
	d.forget(l)
	mourners := l.mourners
	l.mourners = nil
	close(l.dead)
	d.mu.Unlock()
	for _, f := range mourners {
		f()
	}
}

// close ends the watch and waits for its goroutine.
func (d *deaths) close() {
	_ = d.epoll.Close()
	<-d.stopped
	d.mu.Lock()
	defer d.mu.Unlock()
	for _, l := range d.lives {
		d.forget(l)
	}
}
