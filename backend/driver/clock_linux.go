package driver

import (
	"syscall"
	"unsafe"
)

// clockBoottime is CLOCK_BOOTTIME of linux/time.h: monotonic, and running
// through suspend, which CLOCK_MONOTONIC and so Go's time.Now do not.
const clockBoottime = 7

// BootClock is the machine's time since boot.
var BootClock Clock = ClockFunc(func() Instant {
	var ts syscall.Timespec
	if _, _, errno := syscall.Syscall(syscall.SYS_CLOCK_GETTIME, clockBoottime, uintptr(unsafe.Pointer(&ts)), 0); errno != 0 { //nolint:gosec // the system call takes an address
		// Every kernel that Go supports has the clock: nothing sound is left
		// to count validity by.
		panic("clock_gettime(CLOCK_BOOTTIME): " + errno.Error())
	}
	return Instant(ts.Nano())
})
