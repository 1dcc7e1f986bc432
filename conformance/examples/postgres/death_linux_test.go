package postgres_test

import "syscall"

// dieWithTest has the kernel end a server when the thread that started it ends, at
// the latest with the test.
func dieWithTest(a *syscall.SysProcAttr) { a.Pdeathsig = syscall.SIGKILL }
