//go:build !unix

package auditlog

import "os"

// lock does nothing where files have no locks of this kind.
func lock(*os.File) error { return nil }
