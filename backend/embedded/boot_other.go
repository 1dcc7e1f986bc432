//go:build !linux

package embedded

// boot is unknown: driver.BootClock is a clock of the process only.
func boot() string { return "" }
