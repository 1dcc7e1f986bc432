package embedded

import (
	"os"
	"strings"
)

// boot names the boot of the machine and the time namespace of the process: among
// processes that have both in common, readings of driver.BootClock are
// comparable. It is empty if either is not known.
func boot() string {
	id, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	offsets, err := os.ReadFile("/proc/self/timens_offsets")
	if err != nil && !os.IsNotExist(err) { // a kernel before 5.5 has no such namespaces
		return ""
	}
	return strings.Join(strings.Fields(string(id)+" "+string(offsets)), " ")
}
