package testenv

import "syscall"

// DieWithParent makes the kernel kill a child when the thread that started it
// ends, at the latest with the process.
func DieWithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr {
	a.Pdeathsig = syscall.SIGKILL
	return a
}
