package conformance

import (
	"context"
	"fmt"
	"path/filepath"
	"reflect"
	"runtime"
	"slices"
	"strconv"
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
	// NeedEdit: the driver declares that operators can change places.
	NeedEdit Need = "queues that operators change"
	// NeedWatch: the driver declares hints.
	NeedWatch Need = "hints"
	// NeedWipe: the harness can wipe the store.
	NeedWipe Need = "a harness that wipes the store"
	// NeedPause: the harness can make the store freeze.
	NeedPause Need = "a harness that freezes the store"
	// NeedSkew: the harness can step the clock that tokens are made of.
	NeedSkew Need = "a harness that steps the clock of the tokens"
	// NeedCollect: the harness can let the records of free locks be collected.
	NeedCollect Need = "a harness that has idle records collected"
	// NeedLink: the harness can lose replies and cut a driver off.
	NeedLink Need = "a harness that loses replies"
	// NeedRestart: the harness can restart the store.
	NeedRestart Need = "a harness that restarts the store"
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
	// Busy: the case asks the store for something all the time. A slow store has one
	// such case at a time.
	Busy bool
	Run  func(t *T)
}

// source is the file and the line at which the case's code starts.
func (c Case) source() string {
	file, line := runtime.FuncForPC(reflect.ValueOf(c.Run).Pointer()).FileLine(reflect.ValueOf(c.Run).Pointer())
	return filepath.Base(file) + ":" + strconv.Itoa(line)
}

// Harness says how the suite reaches the store.
type Harness struct {
	// Open opens one more driver on the same store. The suite closes it.
	Open func(ctx context.Context) (driver.Driver, error)
	// TTL is the lease time of what the cases let expire; 0 means the driver's
	// smallest. The longer it is, the longer the run.
	TTL time.Duration
	// Slow: a call of the store takes milliseconds of a processor, as an emulator's
	// does. What is tried ten thousand times is tried a thousand times, and what keeps
	// the store busy does not run beside its like; what is to come may be ten seconds
	// late instead of two.
	Slow bool
	// Clock is what the drivers count by; nil means driver.BootClock.
	Clock driver.Clock
	// Lacks are the needs that cannot be met through this way to the store
	// (an endpoint hides attach numbers, for example), with the reasons.
	Lacks map[Need]string
	// Wipe, if not nil, makes the store lose all its data.
	Wipe func(ctx context.Context) error
	// Pause, if not nil, freezes the store: it keeps its connections, answers
	// nothing and decides nothing, until resume is called.
	Pause func() (resume func() error, err error)
	// Skew, if not nil, sets how far the wall clock that tokens are made of is
	// ahead of the time of day; 0 sets it right. It does not touch Clock.
	Skew func(ahead time.Duration)
	// Collect, if not nil, lets the retention of every free lock's record pass
	// and has the store collect them.
	Collect func(ctx context.Context) error
	// Link, if not nil, opens a driver whose connection can be made to fail.
	Link func(ctx context.Context) (*Link, error)
	// Restart, if not nil, kills the store and starts it again with what it has on its
	// disks, and returns when it answers. Drivers may have to be opened anew.
	Restart func(ctx context.Context) error
	// Endpoint says for the report where the store is, without credentials.
	Endpoint string
	// Server, if not nil, describes the server for the report: its version. Without
	// it the report says what the driver describes (driver.Describer).
	Server func(ctx context.Context) string
}

// lacking says why a case cannot run, or "".
func (h Harness) lacking(c Case, caps driver.Capabilities) string {
	for _, n := range c.Needs {
		if why, ok := h.Lacks[n]; ok {
			return fmt.Sprintf("needs %s: %s", n, why)
		}
		switch {
		case n == NeedShared && !caps.Shared, n == NeedWatch && !caps.Watch, n == NeedEdit && !caps.EditQueue:
			return fmt.Sprintf("needs %s: the driver does not declare it", n)
		case n == NeedWipe && h.Wipe == nil, n == NeedPause && h.Pause == nil, n == NeedSkew && h.Skew == nil, n == NeedCollect && h.Collect == nil,
			n == NeedLink && h.Link == nil, n == NeedRestart && h.Restart == nil:
			return "needs " + string(n)
		}
	}
	return ""
}

// Cases lists every case in the order of its name.
func Cases() []Case {
	all := slices.Concat(
		exclusionCases(), fencingCases(), tokenCases(), expiryCases(), deathCases(), freezeCases(), lossCases(), waitingCases(), placeCases(),
		modeCases(), holdCases(), replyCases(), identityCases(), adminCases(), editCases(), sweepCases(), revocationCases(), raceCases(), historyCases(),
	)
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
