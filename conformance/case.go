package conformance

import (
	"context"
	"fmt"
	"slices"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Need is what a case asks of the driver or of the harness.
type Need string

// The needs. The reasons for which they are not met stand in the report.
const (
	// NeedShared: the driver declares shared leases.
	NeedShared Need = "shared leases"
	// NeedAttach: attach numbers can be seen and given.
	NeedAttach Need = "attach numbers"
	// NeedEvict: leases can be evicted by their token for any cause.
	NeedEvict Need = "evict"
	// NeedSweep: the driver itself can be asked to sweep. Whether it declares
	// expiry events is the case's to compare.
	NeedSweep Need = "sweeps"
	// NeedPlaces: places in the queue run out when they are not repeated.
	NeedPlaces Need = "places that run out"
	// NeedKeys: the caller chooses the lease's key.
	NeedKeys Need = "keys of the caller's"
	// NeedWatch: the driver declares hints.
	NeedWatch Need = "hints"
	// NeedWipe: the harness can wipe the store.
	NeedWipe Need = "a harness that wipes the store"
)

// Case is one guarantee and the code that tries to break it.
type Case struct {
	// Name is Group/Guarantee.
	Name string
	// Guarantee is the sentence that a failure breaks.
	Guarantee string
	Needs     []Need
	// Alone: the case must not run beside others.
	Alone bool
	Run   func(t *T)
	// source is where the case stands.
	source string
}

// Harness says how the suite reaches the store.
type Harness struct {
	// Open opens one more driver on the same store. The suite closes it.
	Open func(ctx context.Context) (driver.Driver, error)
	// TTL is the lease time of the cases; 0 means the driver's smallest. The
	// longer it is, the longer the run and the slower the machine may be.
	TTL time.Duration
	// Clock is what the drivers count by; nil means driver.BootClock.
	Clock driver.Clock
	// Lacks are the needs that cannot be met through this way to the store
	// (an endpoint hides attach numbers, for example), with the reasons.
	Lacks map[Need]string
	// Wipe, if not nil, makes the store lose all its data.
	Wipe func(ctx context.Context) error
	// Server, if not nil, describes the server for the report: its version.
	Server func(ctx context.Context) string
}

// lacking says why a case cannot run, or "".
func (h Harness) lacking(c Case, caps driver.Capabilities) string {
	for _, n := range c.Needs {
		if why, ok := h.Lacks[n]; ok {
			return fmt.Sprintf("needs %s: %s", n, why)
		}
		switch {
		case n == NeedShared && !caps.Shared, n == NeedWatch && !caps.Watch:
			return fmt.Sprintf("needs %s: the driver does not declare it", n)
		case n == NeedWipe && h.Wipe == nil:
			return "needs " + string(n)
		}
	}
	return ""
}

// Cases lists every case in the order of its name.
func Cases() []Case {
	all := slices.Concat(exclusionCases(), fencingCases(), expiryCases(), waitingCases(), modeCases(), identityCases(), adminCases())
	slices.SortFunc(all, func(a, b Case) int {
		switch {
		case a.Name < b.Name:
			return -1
		case a.Name > b.Name:
			return 1
		}
		return 0
	})
	return all
}
