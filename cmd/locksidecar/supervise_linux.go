package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"runtime"
	"syscall"
	"time"

	"golang.org/x/sys/unix"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// tenancy is a lease that somebody renews: a sidecar (client.Held), or parts of
// one in this process (localHold).
type tenancy interface {
	Lease() *lockpb.Lease
	ValidUntil() driver.Instant
	Left() time.Duration
	Lost() <-chan struct{}
	Reason() string
	Release(ctx context.Context) error
}

const (
	// killGrace is between SIGTERM and SIGKILL, if the lease lasts so long.
	killGrace = 5 * time.Second
	// lostGrace is the same for a lease that somebody else may hold by now: only
	// a revoked one is kept for its holder until valid-until.
	lostGrace = time.Second
	// releaseTimeout bounds the release at the end.
	releaseTimeout = 5 * time.Second
	// stuckAfter is how long after SIGKILL processes count as not to be ended.
	stuckAfter = 5 * time.Second
)

// killMargin is how long before valid-until SIGKILL is sent: a busy machine
// takes its time to find and to end everything.
func killMargin(ttl time.Duration) time.Duration {
	return min(max(ttl/10, 250*time.Millisecond), time.Second)
}

// termMargin is how long before valid-until SIGTERM is sent, although nobody
// said that the lease is lost: the sidecar is silent, or its store is.
func termMargin(ttl time.Duration) time.Duration {
	return killMargin(ttl) + min(ttl/6, killGrace)
}

// errStuck says that the lock must not be released.
var errStuck = errors.New("processes of the command could not be ended")

// supervisor runs a command for as long as its lease is held.
type supervisor struct {
	held     tenancy
	child    *child
	terminal *terminal
	errs     io.Writer
	// gives: the command was given the terminal once.
	gives bool
	// owed: the SIGCONT that ended a stop has yet to come by the channel.
	owed bool
	// ending: the group was told to end, and is killed from killAt on.
	ending bool
	lost   string // why
	killAt driver.Instant
}

// supervise runs the command and releases the lock when nothing of it is left.
// With errStuck the lock is not released.
func supervise(held tenancy, cmd *exec.Cmd, signals chan os.Signal, errs io.Writer) error {
	s := &supervisor{held: held, terminal: openTerminal(), errs: errs}
	defer s.terminal.close()
	var foreground *terminal
	if isTerminal(os.Stdin) && s.terminal.mine() && len(peers()) == 0 {
		foreground, s.gives = s.terminal, true
	}
	lease := held.Lease()
	var err error
	s.child, err = start(cmd, foreground, childLockID+"="+lease.GetLockId(), fmt.Sprintf("%s=%d", childToken, lease.GetFencingToken()))
	if err != nil {
		return errors.Join(err, s.release())
	}
	// While it waited, the terminal's stop was for this process itself.
	notify(signals, syscall.SIGTSTP)
	s.run(signals)
	return s.finish(signals)
}

// run waits for the end of the command itself.
func (s *supervisor) run(signals <-chan os.Signal) {
	orphans := make(chan os.Signal, 1)
	signal.Notify(orphans, syscall.SIGCHLD)
	defer signal.Stop(orphans)
	lost := s.held.Lost()
	for {
		s.enforce()
		t := time.NewTimer(s.tick())
		select {
		case sig := <-signals:
			if sig == syscall.SIGCONT && s.owed {
				// Passed on when it came; by now it could undo a later stop.
				s.owed = false
				break
			}
			s.child.forward(sig.(syscall.Signal))
		case sig := <-s.child.stops:
			s.stopped(sig)
		case <-orphans:
			s.child.reap()
		case <-lost:
			lost = nil
		case <-t.C:
		case <-s.child.ended:
			t.Stop()
			return
		}
		t.Stop()
	}
}

// tick bounds the time to the next look at the clock. Timers stop while the
// machine is suspended and the lease's clock does not, so they are short.
func (s *supervisor) tick() time.Duration {
	return min(max(s.held.Lease().GetTtl().AsDuration()/60, 10*time.Millisecond), 250*time.Millisecond)
}

// enforce does what the clock and the sidecar's word ask for. No decision rests
// on a timer.
func (s *supervisor) enforce() {
	now := driver.BootClock.Now()
	ttl := s.held.Lease().GetTtl().AsDuration()
	reason := s.held.Reason()
	if s.lost == "" && (reason != "" || s.held.Left() <= termMargin(ttl)) {
		grace := lostGrace
		switch reason {
		case "":
			reason, grace = "not renewed in time", killGrace
		case string(driver.CauseForced):
			grace = killGrace
		}
		s.lost = reason
		s.end(grace)
	}
	if s.ending && now >= s.killAt {
		s.child.everyone(syscall.SIGKILL)
	}
}

// end asks everything to end, also what is stopped, and sets the time to kill
// it: after the grace, and never later than before valid-until.
func (s *supervisor) end(grace time.Duration) {
	margin := killMargin(s.held.Lease().GetTtl().AsDuration())
	now := driver.BootClock.Now()
	at := min(now.Add(grace), s.held.ValidUntil().Add(-margin))
	if s.ending {
		at = min(at, s.killAt)
	}
	s.ending, s.killAt = true, at
	if now >= at {
		return // too late to ask: what is stopped must not run again
	}
	s.child.everyone(syscall.SIGTERM)
	s.child.everyone(syscall.SIGCONT)
}

// stopped follows the command when job control stopped it. A SIGSTOP is an
// operator's or a debugger's: the lease is kept.
func (s *supervisor) stopped(sig syscall.Signal) {
	if p, ok := readProcess(s.child.group); ok && p.state != 'T' {
		return // it was continued since
	}
	asks := sig == syscall.SIGTTIN || sig == syscall.SIGTTOU
	switch {
	case !asks && sig != syscall.SIGTSTP:
		return
	case s.ending:
		s.child.everyone(syscall.SIGCONT)
		return
	case asks && s.terminal.mine():
		s.gives = true
		s.terminal.give(s.child.group)
		s.child.everyone(syscall.SIGCONT)
		return
	case orphaned() && asks:
		// Nobody will ever bring it to the foreground: what the kernel does to
		// a stopped group that is orphaned.
		s.child.everyone(syscall.SIGHUP)
	case !orphaned():
		s.suspend()
	}
	s.child.everyone(syscall.SIGCONT)
}

// suspend stops this process with its command, as a shell expects of a job that
// was stopped. Everything is stopped first: what ignores the terminal's signal
// must not go on while nobody watches the clock.
func (s *supervisor) suspend() {
	s.child.everyone(syscall.SIGSTOP)
	if s.terminal.foreground() == s.child.group {
		s.terminal.give(unix.Getpgrp())
	}
	for _, p := range peers() {
		p.signal(syscall.SIGTSTP)
	}
	stopSelf()
	s.owed = true
	// Continued. The command is not before the clock was read.
	s.enforce()
	if s.gives && s.terminal.mine() {
		s.terminal.give(s.child.group)
	}
}

// stopSelf returns when the process was continued: a signal to the own thread
// takes effect before the call returns.
func stopSelf() {
	runtime.LockOSThread()
	defer runtime.UnlockOSThread()
	_ = unix.Tgkill(unix.Getpid(), unix.Gettid(), unix.SIGSTOP)
}

// finish ends what the command left behind, then releases the lock.
func (s *supervisor) finish(signals <-chan os.Signal) error {
	if s.terminal.foreground() == s.child.group {
		s.terminal.give(unix.Getpgrp())
	}
	if s.child.status.Signaled() && s.terminal.mine() {
		s.terminal.restore()
	}
	stuck := s.clear(signals)
	if s.gives && !stuck && !s.terminal.mine() {
		s.terminal.give(unix.Getpgrp()) // a group of the command's own making had it
	}
	lease := s.held.Lease()
	switch {
	case stuck:
		return &exitError{exitLost, fmt.Errorf("%w; the lock %q is not released, it is free when its lease is over", errStuck, lease.GetLockId())}
	case s.lost != "":
		s.acknowledge()
		return &exitError{exitLost, fmt.Errorf("the lease of %q was lost (%s); the command was ended", lease.GetLockId(), s.lost)}
	}
	if err := s.release(); err != nil {
		return err
	}
	return s.child.exit()
}

// clear waits until nothing is left of the command; it reports true if some of
// it could not be ended.
func (s *supervisor) clear(signals <-chan os.Signal) (stuck bool) {
	for pause := time.Millisecond; !s.child.gone(); pause = min(2*pause, 50*time.Millisecond) {
		if !s.ending {
			s.say("the command left processes running; they are ended before the lock is released")
			s.end(killGrace)
		}
		s.enforce()
		if now := driver.BootClock.Now(); now >= s.held.ValidUntil() || now >= s.killAt.Add(stuckAfter) {
			return true
		}
		t := time.NewTimer(pause)
		select {
		case <-t.C:
		case sig := <-signals:
			s.child.everyone(sig.(syscall.Signal))
		}
		t.Stop()
	}
	return false
}

// acknowledge releases a lease that was lost, for as long as that means
// anything: it lets the next one in after a revocation. Otherwise nothing may be
// left to release, and nobody to answer.
func (s *supervisor) acknowledge() {
	ctx, cancel := context.WithTimeout(context.Background(), min(releaseTimeout, s.held.Left()))
	defer cancel()
	_ = s.held.Release(ctx)
}

// release gives the lease back. What it says of a lease that had ended is the
// command's failure: its last part ran without the lock.
func (s *supervisor) release() error {
	ctx, cancel := context.WithTimeout(context.Background(), releaseTimeout)
	defer cancel()
	err := s.held.Release(ctx)
	id := s.held.Lease().GetLockId()
	switch {
	case err == nil:
		return nil
	case client.Gone(err) || errors.Is(err, driver.ErrLost) || errors.Is(err, driver.ErrNotOwner) || errors.Is(err, driver.ErrStaleToken):
		return &exitError{exitLost, fmt.Errorf("the lease of %q was lost before the command had ended: %s", id, client.Message(err))}
	}
	s.say("%q was not released, it is free when its lease is over: %s", id, describe(err))
	return nil
}

func (s *supervisor) say(format string, args ...any) {
	_, _ = fmt.Fprintf(s.errs, "locksidecar: "+format+"\n", args...)
}
