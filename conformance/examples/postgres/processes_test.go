package postgres_test

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"os/user"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"
)

// pause freezes the server: the process that starts others first, then those. It
// returns when all have stopped.
func (s *server) pause() error {
	err := s.cmd.Process.Signal(syscall.SIGSTOP)
	for _, pid := range children(s.cmd.Process.Pid) {
		err = errors.Join(err, signal(pid, syscall.SIGSTOP))
	}
	for _, pid := range append(children(s.cmd.Process.Pid), s.cmd.Process.Pid) {
		for deadline := time.Now().Add(10 * time.Second); running(pid); time.Sleep(time.Millisecond) {
			if time.Now().After(deadline) {
				return errors.Join(err, fmt.Errorf("process %d does not stop", pid))
			}
		}
	}
	return err
}

// resume lets the server go on.
func (s *server) resume() (err error) {
	for _, pid := range children(s.cmd.Process.Pid) {
		err = errors.Join(err, signal(pid, syscall.SIGCONT))
	}
	return errors.Join(err, s.cmd.Process.Signal(syscall.SIGCONT))
}

func signal(pid int, sig syscall.Signal) error {
	if err := syscall.Kill(pid, sig); err != nil && !errors.Is(err, syscall.ESRCH) {
		return fmt.Errorf("signal to process %d: %w", pid, err)
	}
	return nil
}

// stat is a process's state and parent, as the kernel shows them.
func stat(pid string) (state string, parent int) {
	raw, err := os.ReadFile(filepath.Join("/proc", pid, "stat"))
	if err != nil {
		return "", 0 // it has ended
	}
	// The name may contain anything, and ends with the last parenthesis.
	fields := strings.Fields(string(raw[bytes.LastIndexByte(raw, ')')+1:]))
	parent, _ = strconv.Atoi(fields[1])
	return fields[0], parent
}

// running says that a process has neither stopped nor ended.
func running(pid int) bool {
	state, _ := stat(strconv.Itoa(pid))
	return !strings.Contains("TtZX", state)
}

// children are the processes whose parent is pid.
func children(pid int) (pids []int) {
	dirs, _ := filepath.Glob("/proc/[0-9]*")
	for _, dir := range dirs {
		if _, parent := stat(filepath.Base(dir)); parent == pid {
			child, _ := strconv.Atoi(filepath.Base(dir))
			pids = append(pids, child)
		}
	}
	return pids
}

// unprivileged is how to run a server: PostgreSQL refuses to be root, so for root
// it is the package's user, who gets the directory.
func unprivileged(t *testing.T, dir string) *syscall.SysProcAttr {
	t.Helper()
	as := &syscall.SysProcAttr{}
	if os.Getuid() != 0 {
		return as
	}
	u, err := user.Lookup("postgres")
	if err != nil {
		t.Fatalf("root needs the package's user: %v; install it by: %s", err, install)
	}
	uid, _ := strconv.ParseUint(u.Uid, 10, 32)
	gid, _ := strconv.ParseUint(u.Gid, 10, 32)
	if err := os.Chown(dir, int(uid), int(gid)); err != nil {
		t.Fatal(err)
	}
	as.Credential = &syscall.Credential{Uid: uint32(uid), Gid: uint32(gid)}
	return as
}
