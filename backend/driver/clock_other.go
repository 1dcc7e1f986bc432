//go:build !linux

package driver

// BootClock is the process's monotonic clock where the system has no clock
// that runs through suspend; a lease is then found lost late after a suspend.
var BootClock = ProcessClock
