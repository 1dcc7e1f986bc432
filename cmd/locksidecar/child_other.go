//go:build !linux

package main

import "syscall"

// dieWithParent cannot be asked for where the system is not Linux.
func dieWithParent(*syscall.SysProcAttr) {}
