package main

import (
	"fmt"
	"os/exec"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/creack/pty"
	"golang.org/x/sys/unix"

	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// What a person types.
const (
	ctrlC  = "\x03"
	ctrlD  = "\x04"
	ctrlZ  = "\x1a"
	prompt = "ready> "
)

// open starts a program on a terminal of its own, as the leader of its session.
func open(t *testing.T, endpoint string, env []string, args ...string) *screen {
	t.Helper()
	master, slave, err := pty.Open()
	if err != nil {
		t.Fatal(err)
	}
	if err := pty.Setsize(master, &pty.Winsize{Rows: 24, Cols: 200}); err != nil {
		t.Fatal(err)
	}
	s := &screen{pty: master, tty: slave, locked: &locked{Cmd: exec.Command(args[0], args[1:]...), ended: make(chan struct{})}}
	s.Env = environ(endpoint, append([]string{"TERM=xterm", "NO_COLOR=", "PS1=" + prompt, "HISTFILE="}, env...)...)
	s.Stdin, s.Stdout, s.Stderr = slave, slave, slave
	s.SysProcAttr = &syscall.SysProcAttr{Setsid: true, Setctty: true}
	collected := make(chan struct{})
	go func() { defer close(collected); s.collect() }()
	// The cleanups run in reverse order: the program ends first.
	t.Cleanup(func() {
		_ = slave.Close()
		_ = master.Close()
		select {
		case <-collected:
		case <-time.After(patience / 10): // something that the test failed to end has the terminal
		}
		if t.Failed() {
			t.Logf("the screen showed:\n%q", s.buf.String())
		}
	})
	s.run(t)
	return s
}

// shell starts an interactive shell, which has job control.
func shell(t *testing.T, endpoint string) *screen {
	t.Helper()
	s := open(t, endpoint, nil, "bash", "--norc", "--noprofile", "--noediting", "-i")
	s.shows(t, prompt)
	return s
}

// The command is the terminal's foreground: it reads, and the terminal's
// signals are its own.
func TestCommandHasTheTerminal(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	s := shell(t, d.Endpoint())
	s.types(t, "locksidecar lock job -- sh -c 'echo star''ted; exec cat'\n")
	s.shows(t, "started")
	s.types(t, "to the cat\n")
	s.shows(t, "to the cat") // the terminal's echo
	s.shows(t, "to the cat") // the cat
	s.types(t, ctrlD)
	s.shows(t, prompt)
	s.types(t, "echo code-$?\n")
	s.shows(t, "code-0")
	if h := holder(t, cl, "job"); h != nil {
		t.Errorf("the lock is held by %v", h)
	}

	s.types(t, "locksidecar lock job -- sh -c 'echo star''ted; exec cat'\n")
	s.shows(t, "started")
	s.types(t, ctrlC)
	s.shows(t, prompt)
	s.types(t, "echo code-$?\n")
	s.shows(t, "code-130")
	// The shell has its terminal again.
	s.types(t, "cat\n")
	s.types(t, "to the next cat\n")
	s.shows(t, "to the next cat")
	s.shows(t, "to the next cat")
}

// Ctrl-Z stops the command and its supervisor, and the shell continues both, in
// the foreground and in the background.
func TestJobControl(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	s := shell(t, d.Endpoint())
	s.types(t, "locksidecar lock job --ttl 60 -- sh -c 'echo star''ted; exec cat'\n")
	s.shows(t, "started")
	for i := range 3 {
		s.types(t, ctrlZ)
		s.shows(t, "Stopped")
		s.shows(t, prompt)
		s.types(t, "fg\n")
		s.shows(t, "locksidecar lock job")
		line := fmt.Sprintf("line %d", i)
		s.types(t, line+"\n")
		s.shows(t, line)
		s.shows(t, line)
	}
	s.types(t, ctrlZ)
	s.shows(t, "Stopped")
	s.shows(t, prompt)
	// In the background the cat wants to read, and is stopped for it.
	s.types(t, "bg\n")
	s.shows(t, "locksidecar lock job")
	s.types(t, "until jobs | grep Stop''ped; do sleep 0.1; done\n")
	s.shows(t, "Stopped")
	s.shows(t, prompt)
	s.types(t, "fg\n")
	s.shows(t, "locksidecar lock job")
	s.types(t, "last line\n")
	s.shows(t, "last line")
	s.shows(t, "last line")
	s.types(t, ctrlD)
	s.shows(t, prompt)
	s.types(t, "echo code-$?\n")
	s.shows(t, "code-0")
}

// Started in the background it does not take the terminal, until the shell
// gives it.
func TestBackgroundJobAsksForTheTerminal(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	s := shell(t, d.Endpoint())
	s.types(t, "locksidecar lock job -- cat &\n")
	s.shows(t, prompt)
	held(t, cl, "job")
	s.types(t, "until jobs | grep Stop''ped; do sleep 0.1; done\n")
	s.shows(t, "Stopped")
	s.shows(t, prompt)
	s.types(t, "fg\n")
	s.shows(t, "locksidecar lock job")
	s.types(t, "for the cat\n")
	s.shows(t, "for the cat")
	s.shows(t, "for the cat")
	s.types(t, ctrlC)
	s.shows(t, prompt)
}

// In a pipeline the terminal stays with the pipeline, whose other members need
// it, until the command asks for it.
func TestPipelineKeepsItsTerminal(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	s := shell(t, d.Endpoint())
	// The last member reads the terminal while the command runs.
	s.types(t, "locksidecar lock job -- sh -c 'echo star''ted; exec sleep 1000' | sh -c 'read a; echo $a; read b </dev/tty; echo from-$b'\n")
	s.shows(t, "started")
	s.types(t, "me\n")
	s.shows(t, "from-me")
	s.types(t, ctrlC) // reaches the pipeline, and by it the command
	s.shows(t, prompt)
	s.types(t, "echo code-${PIPESTATUS[0]}\n")
	s.shows(t, "code-130")

	// The command is the one that reads.
	s.types(t, "locksidecar lock job -- sh -c 'echo star''ted; read a </dev/tty; echo from-$a' | cat\n")
	s.shows(t, "started")
	s.types(t, "you\n")
	s.shows(t, "from-you")
	s.shows(t, prompt)
	s.types(t, "echo code-${PIPESTATUS[0]}\n")
	s.shows(t, "code-0")
}

// A stop that outlasts the lease: the command is ended before it runs on.
func TestStoppedJobThatLostItsLeaseDoesNotRunOn(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	s := shell(t, d.Endpoint())
	s.types(t, "locksidecar lock job --ttl 10 -- bash -c 'trap \"\" TERM; trap \"echo ran-o''n\" CONT; echo star''ted; while :; do read -t 0.1; done'\n")
	s.shows(t, "started")
	s.types(t, ctrlZ)
	s.shows(t, "Stopped")
	s.shows(t, prompt)
	force(t, cl, "job")
	if ran := next(t, cl, "job", nil); ran != nil {
		t.Fatal(ran)
	}
	s.types(t, "fg\n")
	s.shows(t, "was lost")
	s.types(t, "echo code-$?\n")
	s.shows(t, "code-75")
	if strings.Contains(s.buf.String(), "ran-on") {
		t.Error("the command ran on after its lease was over")
	}
}

// Without a shell around it, as in a container: nobody would continue it, so
// the terminal's stop does not stop it.
func TestLeaderOfTheSessionIsNotStopped(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	s := open(t, d.Endpoint(), nil, "locksidecar", "lock", "job", "--", "sh", "-c", "echo star''ted; exec cat")
	s.shows(t, "started")
	s.types(t, ctrlZ)
	s.types(t, "still here\n")
	s.shows(t, "still here")
	s.shows(t, "still here")
	s.types(t, ctrlC)
	if got := s.code(t); got != 130 {
		t.Errorf("exit code %d, want 130", got)
	}
}

// The terminal's new size is told to the command, whoever has the terminal.
func TestWindowSizeReachesTheCommand(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	for name, pipe := range map[string]string{"alone": "", "pipeline": " | cat"} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			s := shell(t, d.Endpoint())
			s.types(t, "locksidecar lock "+name+" -- bash -c 'trap \"stty size </dev/tty; exit\" WINCH; echo star''ted; "+waits(t)+"'"+pipe+"\n")
			s.shows(t, "started")
			if err := pty.Setsize(s.pty, &pty.Winsize{Rows: 33, Cols: 77}); err != nil {
				t.Fatal(err)
			}
			s.shows(t, "33 77")
			s.shows(t, prompt)
		})
	}
}

// A command that was killed cannot put the terminal's modes back.
func TestKilledCommandLeavesTheTerminalAsItWas(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	s := open(t, d.Endpoint(), nil, "locksidecar", "lock", "job", "--", "sh", "-c", "trap '' TERM; stty raw -echo; echo star''ted; exec sleep 1000")
	s.shows(t, "started")
	if s.modes(t).Lflag&unix.ICANON != 0 {
		t.Fatal("the terminal is not raw")
	}
	force(t, cl, "job")
	if got := s.code(t); got != exitLost {
		t.Errorf("exit code %d, want %d", got, exitLost)
	}
	if m := s.modes(t); m.Lflag&unix.ICANON == 0 || m.Lflag&unix.ECHO == 0 {
		t.Errorf("the terminal's modes are %#x", m.Lflag)
	}
}

// Who waits on a terminal is told who holds the lock.
func TestWaitingOnATerminalSaysWhoHolds(t *testing.T) {
	t.Parallel()
	for name, c := range map[string]struct {
		env, args []string
		want      bool
		dim       bool
	}{
		"colour":    {want: true, dim: true},
		"no colour": {env: []string{"NO_COLOR=1"}, want: true},
		"dumb":      {env: []string{"TERM=dumb"}, want: true},
		"json":      {args: []string{"-o", "json"}},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, cl := dev(t)
			lease, err := cl.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: "nightly-report", OwnerId: "web-1", Ttl: secondsOf(60)})
			if err != nil {
				t.Fatal(err)
			}
			s := open(t, d.Endpoint(), c.env, append(append([]string{"locksidecar", "lock", "nightly-report"}, c.args...), "--", "echo", "granted")...)
			eventually(t, "it waits", func() bool {
				l, err := cl.Get(t.Context(), &lockpb.GetRequest{LockId: "nightly-report"})
				return err == nil && len(l.GetWaiters()) == 1
			})
			switch {
			case name == "dumb":
				// It is told once, and may not have all of it by then.
				s.shows(t, "waiting for nightly-report: ")
			case c.want:
				s.shows(t, fmt.Sprintf("waiting for nightly-report: held by web-1 (token %d, ", lease.GetFencingToken()))
				s.shows(t, "s left), position 1 of 1")
			}
			_, err = cl.Release(t.Context(), &lockpb.ReleaseRequest{LockId: "nightly-report", LeaseId: lease.GetLeaseId(), FencingToken: lease.GetFencingToken()})
			if err != nil {
				t.Fatal(err)
			}
			s.shows(t, "granted")
			if got := s.code(t); got != 0 {
				t.Errorf("exit code %d", got)
			}
			if shown := s.buf.String(); strings.Contains(shown, "\x1b[2m") != c.dim || strings.Contains(shown, "waiting for") != c.want ||
				strings.Contains(shown, "\x1b[") && name == "dumb" {
				t.Errorf("the screen showed %q", shown)
			}
		})
	}
}

// Where standard error is no terminal, it says nothing.
func TestWaitingElsewhereSaysNothing(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	lease, err := cl.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: "job", Ttl: secondsOf(3)})
	if err != nil || lease == nil {
		t.Fatal(err)
	}
	l := begin(t, d.Endpoint(), "lock", "job", "--", "echo", "granted")
	if got := l.code(t); got != 0 || l.errs.String() != "" || l.out.String() != "granted\n" {
		t.Errorf("exit code %d, printed %q and %q", got, l.out.String(), l.errs.String())
	}
}

// ls --watch redraws the screen, and an interrupt ends it with its code.
func TestWatchingTheListOnATerminal(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	s := open(t, d.Endpoint(), nil, "locksidecar", "ls", "--watch")
	s.shows(t, "\x1b[H\x1b[2J\x1b[1mLOCK")
	if _, err := cl.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: "seen", OwnerId: "web-1", Ttl: secondsOf(60)}); err != nil {
		t.Fatal(err)
	}
	s.shows(t, "seen")
	s.shows(t, "\x1b[H\x1b[2J")
	s.shows(t, "seen")
	s.types(t, ctrlC)
	if got := s.code(t); got != 130 {
		t.Errorf("exit code %d, want 130", got)
	}
	// And without colour no style.
	s = open(t, d.Endpoint(), []string{"NO_COLOR=1"}, "locksidecar", "ls")
	s.shows(t, "seen")
	if got := s.code(t); got != 0 || strings.Contains(s.buf.String(), "\x1b") {
		t.Errorf("exit code %d, the screen showed %q", got, s.buf.String())
	}
}
