package configuration

import (
	"math"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/config"
	"github.com/locksidecar/locksidecar/internal/events/auditlog"
)

// An audit log is taken that fits into its volume with all its files.
func TestAuditLogsFit(t *testing.T) {
	const path = "/run/locksidecar/audit.jsonl"
	for _, row := range []struct {
		name string
		a    config.Audit
		fits bool
	}{
		{"none", config.Audit{}, true},
		{"the defaults", config.Audit{Path: path}, false},
		{"what the message says", config.Audit{Path: path, MaxBytes: 1 << 20, Keep: 7}, true},
		{"a file more", config.Audit{Path: path, MaxBytes: 1 << 20, Keep: 8}, false},
		{"a byte more", config.Audit{Path: path, MaxBytes: 1<<20 + 1, Keep: 7}, false},
		{"the default of files", config.Audit{Path: path, MaxBytes: 8 << 20 / 11}, true},
		{"one more than with the default of files", config.Audit{Path: path, MaxBytes: 8<<20/11 + 1}, false},
		{"the default of bytes", config.Audit{Path: path, Keep: 1}, false},
		{"as many as there are", config.Audit{Path: path, MaxBytes: 1, Keep: math.MaxInt}, false},
		{"as large as there are", config.Audit{Path: path, MaxBytes: math.MaxInt64, Keep: 1}, false},
	} {
		err := audit(row.a)
		if (err == nil) != row.fits {
			t.Errorf("%s: %v", row.name, err)
		}
		if err != nil && !strings.Contains(err.Error(), "such as max_bytes: 1048576 and keep: 7") {
			t.Errorf("%s: %v does not say what fits", row.name, err)
		}
	}
	if auditBytes != auditlog.DefaultMaxBytes || auditKeep != auditlog.DefaultKeep {
		t.Errorf("the defaults are %d bytes and %d files", auditlog.DefaultMaxBytes, auditlog.DefaultKeep)
	}
}
