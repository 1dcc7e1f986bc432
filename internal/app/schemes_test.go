package app

import (
	"maps"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/backend/dynamodb"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/internal/backendurl"
)

// What knows the drivers' URLs without linking them knows the schemes that the
// daemon opens, and whose they are.
func TestTheListOfSchemesIsTheDaemons(t *testing.T) {
	if diff := cmp.Diff(drivers().Schemes(), slices.Sorted(maps.Keys(backendurl.Drivers))); diff != "" {
		t.Errorf("internal/backendurl differs from the drivers:\n%s", diff)
	}
	for name, schemes := range map[string][]string{"redis": redis.Schemes, "etcd": etcd.Schemes, "dynamodb": dynamodb.Schemes, "embedded": {"embedded"}} {
		for _, s := range schemes {
			if backendurl.Drivers[s] != name {
				t.Errorf("%s is the scheme of %s, not of %q", s, name, backendurl.Drivers[s])
			}
		}
	}
}
