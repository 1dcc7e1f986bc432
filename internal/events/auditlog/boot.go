package auditlog

import (
	"crypto/sha256"
	"encoding/hex"
	"os"
)

// boot names the boot of the host and the namespace of its clocks: processes with
// the same one share the clock since boot. It is empty where it cannot be known.
func boot() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	clocks, _ := os.Readlink("/proc/self/ns/time") // kernels without them have one
	sum := sha256.Sum256(append(raw, clocks...))
	return hex.EncodeToString(sum[:8])
}
