package embedded

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/internal/backendurl"
)

// What knows this driver's URLs without linking it knows them as they are.
func TestTheListOfParametersIsThisDrivers(t *testing.T) {
	if diff := cmp.Diff(slices.Sorted(maps.Keys(parameters)), backendurl.Parameters["embedded"]); diff != "" {
		t.Errorf("internal/backendurl differs from the parameters:\n%s", diff)
	}
}
