package main

import (
	"errors"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a command in a process group of its own.
type child struct {
	cmd   *exec.Cmd
	ended chan struct{}
	err   error
	tty   bool
}

// start runs the command. It dies with this process (PDEATHSIG); what it
// started itself does not, unless it is killed with the group.
func start(argv []string, env ...string) (*child, error) {
	c := &child{cmd: exec.Command(argv[0], argv[1:]...), ended: make(chan struct{})}
	c.cmd.Env = append(os.Environ(), env...)
	c.cmd.Stdin, c.cmd.Stdout, c.cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	c.cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dieWithParent(c.cmd.SysProcAttr)
	if foreground() {
		c.tty = true
		c.cmd.SysProcAttr.Foreground, c.cmd.SysProcAttr.Ctty = true, int(os.Stdin.Fd())
	}
	started := make(chan error, 1)
	go func() {
		// PDEATHSIG is about the thread that forks, so it stays with the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := c.cmd.Start()
		started <- err
		if err == nil {
			c.err = c.cmd.Wait()
			c.takeTerminal()
			close(c.ended)
		}
	}()
	return c, <-started
}

// foreground says whether standard input is a terminal whose foreground group
// is this process's: then the command takes its place.
func foreground() bool {
	group, err := unix.IoctlGetInt(int(os.Stdin.Fd()), unix.TIOCGPGRP)
	return err == nil && group == unix.Getpgrp()
}

// takeTerminal makes this process the terminal's foreground again.
func (c *child) takeTerminal() {
	if c.tty {
		signal.Ignore(syscall.SIGTTOU)
		_ = unix.IoctlSetPointerInt(int(os.Stdin.Fd()), unix.TIOCSPGRP, unix.Getpgrp())
	}
}

// signal sends to the whole group.
func (c *child) signal(s syscall.Signal) { _ = syscall.Kill(-c.cmd.Process.Pid, s) }

// exit is the command's own outcome as an exit code.
func (c *child) exit() error {
	var exit *exec.ExitError
	switch {
	case c.err == nil:
		return nil
	case !errors.As(c.err, &exit):
		return &exitError{exitInternal, c.err}
	}
	status := exit.Sys().(syscall.WaitStatus)
	if status.Signaled() {
		return &exitError{code: 128 + int(status.Signal())}
	}
	return &exitError{code: status.ExitStatus()}
}
