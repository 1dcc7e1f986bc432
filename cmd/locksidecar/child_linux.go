package main

import "syscall"

// dieWithParent makes the kernel kill the command when the thread that started
// it ends, at the latest with this process.
func dieWithParent(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
