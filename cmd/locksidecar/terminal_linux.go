package main

import (
	"os"
	"runtime"

	"golang.org/x/sys/unix"
)

// terminal is the controlling one. nil stands for none.
type terminal struct {
	file *os.File
	// modes are those at the start.
	modes *unix.Termios
}

func openTerminal() *terminal {
	f, err := os.OpenFile("/dev/tty", os.O_RDWR|unix.O_NOCTTY, 0)
	if err != nil {
		return nil
	}
	modes, _ := unix.IoctlGetTermios(int(f.Fd()), unix.TCGETS)
	return &terminal{file: f, modes: modes}
}

func (t *terminal) close() {
	if t != nil {
		_ = t.file.Close()
	}
}

// foreground is the group that has the terminal; 0 if none has.
func (t *terminal) foreground() int {
	if t == nil {
		return 0
	}
	group, err := unix.IoctlGetInt(int(t.file.Fd()), unix.TIOCGPGRP)
	if err != nil {
		return 0
	}
	return group
}

// mine says that this process's group has the terminal.
func (t *terminal) mine() bool { return t.foreground() == unix.Getpgrp() }

// give hands the terminal to a group. Whoever does so from the background would
// be stopped by SIGTTOU: it is blocked, not ignored, since what is ignored stays
// so in children.
func (t *terminal) give(group int) {
	t.behind(func(fd int) { _ = unix.IoctlSetPointerInt(fd, unix.TIOCSPGRP, group) })
}

// restore sets the modes as they were: a command that was killed could not.
func (t *terminal) restore() {
	if t == nil || t.modes == nil {
		return
	}
	t.behind(func(fd int) { _ = unix.IoctlSetTermios(fd, unix.TCSETS, t.modes) })
}

func (t *terminal) behind(do func(fd int)) {
	if t == nil {
		return
	}
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	var block, old unix.Sigset_t
	block.Val[0] = 1 << (uint(unix.SIGTTOU) - 1)
	if unix.PthreadSigmask(unix.SIG_BLOCK, &block, &old) != nil {
		return
	}
	defer func() { _ = unix.PthreadSigmask(unix.SIG_SETMASK, &old, nil) }()
	do(int(t.file.Fd()))
}
