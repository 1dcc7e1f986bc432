package testenv

import (
	"bytes"
	"errors"
	"fmt"
	"os/exec"
	"runtime"
	"sync"
	"syscall"
	"time"
)

// Output collects what a process prints; it is safe for concurrent use.
type Output struct {
	mu  sync.Mutex
	buf bytes.Buffer
}

// Write appends p.
func (o *Output) Write(p []byte) (int, error) {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.Write(p)
}

// String is what was written so far.
func (o *Output) String() string {
	o.mu.Lock()
	defer o.mu.Unlock()
	return o.buf.String()
}

// stopTimeout is how long a process may take to end after SIGTERM.
const stopTimeout = 45 * time.Second

// Process is a child process.
type Process struct {
	cmd      *exec.Cmd
	out      *Output
	endpoint string
	ended    chan struct{}
	err      error
}

// run starts a command whose output is collected. The child is killed when the
// thread that started it ends, at the latest with the process.
func run(cmd *exec.Cmd) (*Process, error) {
	p := &Process{cmd: cmd, out: &Output{}, ended: make(chan struct{})}
	cmd.Stdout, cmd.Stderr = p.out, p.out
	if cmd.SysProcAttr == nil {
		cmd.SysProcAttr = &syscall.SysProcAttr{}
	}
	started := make(chan error, 1)
	go func() {
		// PDEATHSIG is about the thread that forks: a goroutine that waits here
		// keeps it for as long as the child lives.
		runtime.LockOSThread()
		defer runtime.UnlockOSThread()
		DieWithParent(cmd.SysProcAttr)
		err := cmd.Start()
		started <- err
		if err == nil {
			p.err = cmd.Wait()
		}
		close(p.ended)
	}()
	return p, <-started
}

// Pid is the process's id.
func (p *Process) Pid() int { return p.cmd.Process.Pid }

// Endpoint is where a daemon listens: unix:///path.
func (p *Process) Endpoint() string { return p.endpoint }

// Output is what the process has printed.
func (p *Process) Output() string { return p.out.String() }

// Ended is closed when the process has ended.
func (p *Process) Ended() <-chan struct{} { return p.ended }

// Kill ends the process by SIGKILL.
func (p *Process) Kill() {
	_ = p.cmd.Process.Kill()
	<-p.ended
}

// Pause stops the process by SIGSTOP, and returns when it has stopped: on a busy
// machine its threads go on until one of them gets to the signal. Resume lets it go
// on.
func (p *Process) Pause() error {
	if err := p.cmd.Process.Signal(syscall.SIGSTOP); err != nil {
		return err
	}
	for end := time.Now().Add(stopTimeout); !stopped(p.cmd.Process.Pid); time.Sleep(time.Millisecond) {
		if time.Now().After(end) {
			return fmt.Errorf("%s did not stop within %v after SIGSTOP", p.cmd.Path, stopTimeout)
		}
	}
	return nil
}

// Resume lets a paused process go on.
func (p *Process) Resume() error { return p.cmd.Process.Signal(syscall.SIGCONT) }

// Stop asks the process to end and waits for it; one that does not is killed,
// which is an error.
func (p *Process) Stop() error {
	_ = p.cmd.Process.Signal(syscall.SIGCONT)
	_ = p.cmd.Process.Signal(syscall.SIGTERM)
	t := time.NewTimer(stopTimeout)
	defer t.Stop()
	select {
	case <-p.ended:
		var exit *exec.ExitError
		if errors.As(p.err, &exit) && exit.Sys().(syscall.WaitStatus).Signaled() {
			return nil // it had no handler for SIGTERM
		}
		return p.err
	case <-t.C:
		p.Kill()
		return fmt.Errorf("%s did not end within %v after SIGTERM; it printed:\n%s", p.cmd.Path, stopTimeout, p.Output())
	}
}

// Start starts a command whose output is collected: a child that the kernel kills
// with this process, at the latest.
func Start(cmd *exec.Cmd) (*Process, error) { return run(cmd) }
