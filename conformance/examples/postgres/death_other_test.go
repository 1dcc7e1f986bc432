//go:build !linux

package postgres_test

import "syscall"

func dieWithTest(*syscall.SysProcAttr) {}
