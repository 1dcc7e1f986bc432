package main

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"runtime"
	"syscall"

	"golang.org/x/sys/unix"
)

// child is a command in a process group of its own, and whatever it starts.
type child struct {
	group int // the command's own pid too
	// stops tells each signal that stopped the command.
	stops chan syscall.Signal
	// ended is closed when the command itself has ended, with status.
	ended  chan struct{}
	status syscall.WaitStatus
	// reaper: descendants that left the group are known too.
	reaper bool
}

// find resolves the command, as a shell would.
func find(argv []string) (*exec.Cmd, error) {
	cmd := exec.Command(argv[0], argv[1:]...)
	if cmd.Err != nil {
		return nil, &exitError{notRunnable(cmd.Err), fmt.Errorf("command %q: %w", argv[0], cause(cmd.Err))}
	}
	return cmd, nil
}

// cause is what is wrong with a command, without its name.
func cause(err error) error {
	var e *exec.Error
	var p *os.PathError
	switch {
	case errors.As(err, &e):
		return e.Err
	case errors.As(err, &p):
		return p.Err
	}
	return err
}

// notRunnable is the shells' code for a command that cannot be run.
func notRunnable(err error) int {
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, exec.ErrNotFound) {
		return 127
	}
	return 126
}

// start runs the command; if t is not nil, in the foreground of that terminal.
// The command dies with this process (PDEATHSIG); what it started itself does
// not.
func start(cmd *exec.Cmd, t *terminal, env ...string) (*child, error) {
	c := &child{stops: make(chan syscall.Signal, 1), ended: make(chan struct{}), reaper: becomeReaper()}
	cmd.Env = append(os.Environ(), env...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true, Pdeathsig: syscall.SIGKILL}
	if t != nil {
		cmd.SysProcAttr.Foreground, cmd.SysProcAttr.Ctty = true, int(t.file.Fd())
	}
	started := make(chan error, 1)
	go func() {
		// PDEATHSIG is about the thread that forks, so it stays with the child.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		err := cmd.Start()
		if err == nil {
			c.group = cmd.Process.Pid
		}
		started <- err
		if err == nil {
			c.wait()
			_ = cmd.Process.Release()
		}
	}()
	if err := <-started; err != nil {
		return nil, &exitError{notRunnable(err), fmt.Errorf("command %q: %w", cmd.Path, cause(err))}
	}
	return c, nil
}

// wait waits for the command alone, and tells its stops. exec.Cmd.Wait would
// tell the end only.
func (c *child) wait() {
	defer close(c.ended)
	for {
		var ws unix.WaitStatus
		_, err := unix.Wait4(c.group, &ws, unix.WUNTRACED, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return // nobody else waits for it: it does not happen
		case ws.Stopped():
			select {
			case c.stops <- ws.StopSignal():
			default:
			}
		default:
			c.status = syscall.WaitStatus(ws)
			return
		}
	}
}

// forward sends a signal to the group.
func (c *child) forward(s syscall.Signal) { _ = syscall.Kill(-c.group, s) }

// everyone sends a signal to the group and to what left it.
func (c *child) everyone(s syscall.Signal) {
	c.forward(s)
	if !c.reaper {
		return
	}
	for _, p := range descendants(os.Getpid()) {
		if p.group != c.group {
			p.signal(s)
		}
	}
}

// reap takes the exits of orphans while the command runs: its own exit is
// wait's.
func (c *child) reap() {
	if !c.reaper {
		return
	}
	for _, p := range processes() {
		if p.parent == os.Getpid() && p.pid != c.group && p.dead() {
			_, _ = unix.Wait4(p.pid, nil, unix.WNOHANG, nil)
		}
	}
}

// gone reports, once the command has ended, whether nothing that it started is
// left. The kernel answers both questions without a gap.
func (c *child) gone() bool {
	if c.reaper && !reapAll() {
		return false
	}
	if errors.Is(syscall.Kill(-c.group, 0), syscall.ESRCH) {
		return true
	}
	// Orphans that are not ours to reap may stay in the group for long after
	// their end.
	return !c.reaper && len(members(c.group)) == 0
}

// exit is the command's own outcome as an exit code.
func (c *child) exit() error {
	switch {
	case c.status.Signaled():
		return &exitError{code: exitSignal + int(c.status.Signal())}
	case c.status.ExitStatus() != 0:
		return &exitError{code: c.status.ExitStatus()}
	}
	return nil
}
