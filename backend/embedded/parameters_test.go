package embedded

import (
	"testing"

	"github.com/locksidecar/locksidecar/internal/checks"
)

func TestTheListOfParametersIsThisDrivers(t *testing.T) { checks.Parameters(t, "embedded", parameters) }
