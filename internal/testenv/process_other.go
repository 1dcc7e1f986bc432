//go:build !linux

package testenv

import "syscall"

// DieWithParent changes nothing: only Linux can be asked for it.
func DieWithParent(a *syscall.SysProcAttr) *syscall.SysProcAttr { return a }

// stopped trusts the signal: only Linux can be asked.
func stopped(int) bool { return true }
