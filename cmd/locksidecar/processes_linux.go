package main

import (
	"errors"
	"os"
	"slices"
	"strconv"
	"strings"
	"syscall"

	"golang.org/x/sys/unix"
)

// becomeReaper makes orphaned descendants children of this process, so that
// those that left the command's group are found too. A process that was given
// children by an exec does not know whose descendants it would be: then it
// reports false, and the group is all that is known.
func becomeReaper() bool {
	err := unix.Waitid(unix.P_ALL, 0, nil, unix.WEXITED|unix.WNOHANG|unix.WNOWAIT, nil)
	if !errors.Is(err, unix.ECHILD) {
		return false
	}
	return unix.Prctl(unix.PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0) == nil
}

// reapAll takes the exits of every child and reports whether none is left:
// then, for a reaper, there is no descendant either.
func reapAll() (none bool) {
	for {
		pid, err := unix.Wait4(-1, nil, unix.WNOHANG, nil)
		switch {
		case errors.Is(err, unix.EINTR):
		case err != nil:
			return true
		case pid == 0:
			return false
		}
	}
}

// process is one line of the process table.
type process struct {
	pid, parent, group int
	state              byte
	// start tells two processes apart that had the same pid.
	start string
}

// processes reads the process table. What ends meanwhile is left out, and so is
// everything where there is no /proc.
func processes() map[int]process {
	dir, err := os.Open("/proc")
	if err != nil {
		return nil
	}
	defer func() { _ = dir.Close() }()
	names, _ := dir.Readdirnames(-1)
	table := make(map[int]process, len(names))
	for _, name := range names {
		if pid, err := strconv.Atoi(name); err == nil {
			if p, ok := readProcess(pid); ok {
				table[pid] = p
			}
		}
	}
	return table
}

func readProcess(pid int) (process, bool) {
	raw, err := os.ReadFile("/proc/" + strconv.Itoa(pid) + "/stat")
	if err != nil {
		return process{}, false
	}
	// The name in parentheses may hold anything; what follows is fields 3 and on
	// of proc_pid_stat(5).
	_, rest, ok := cutLast(string(raw), ") ")
	f := strings.Fields(rest)
	if !ok || len(f) < 20 {
		return process{}, false
	}
	parent, _ := strconv.Atoi(f[1])
	group, _ := strconv.Atoi(f[2])
	return process{pid: pid, parent: parent, group: group, state: f[0][0], start: f[19]}, true
}

func cutLast(s, sep string) (before, after string, found bool) {
	i := strings.LastIndex(s, sep)
	if i < 0 {
		return s, "", false
	}
	return s[:i], s[i+len(sep):], true
}

func (p process) dead() bool { return p.state == 'Z' || p.state == 'X' }

// descendants are the living ones of a process.
func descendants(of int) []process {
	table := processes()
	var found []process
	for _, p := range table {
		for at, hops := p, 0; hops < len(table); hops++ {
			if at.parent == of {
				if !p.dead() {
					found = append(found, p)
				}
				break
			}
			next, ok := table[at.parent]
			if !ok {
				break
			}
			at = next
		}
	}
	return found
}

// members are the living processes of a group.
func members(group int) []process {
	var found []process
	for _, p := range processes() {
		if p.group == group && !p.dead() {
			found = append(found, p)
		}
	}
	return found
}

// peers are the others of this process's group: the rest of a pipeline.
func peers() []process {
	return slices.DeleteFunc(members(unix.Getpgrp()), func(p process) bool { return p.pid == os.Getpid() })
}

// signal sends to this process and to no other that took its pid since.
func (p process) signal(s syscall.Signal) {
	fd, err := unix.PidfdOpen(p.pid, 0)
	if err != nil {
		return
	}
	defer func() { _ = unix.Close(fd) }()
	if now, ok := readProcess(p.pid); ok && now.start == p.start {
		_ = unix.PidfdSendSignal(fd, s, nil, 0)
	}
}

// orphaned says that no shell would continue this process if it stopped: its
// parent is of another session, or gone.
func orphaned() bool {
	parent := os.Getppid()
	if parent <= 1 {
		return true
	}
	theirs, err := unix.Getsid(parent)
	if err != nil {
		return true
	}
	ours, err := unix.Getsid(0)
	return err != nil || ours != theirs
}
