package conformance

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"math/rand/v2"
	"regexp"
	"runtime"
	"runtime/pprof"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
)

// Options configure a run. The zero value is usable.
type Options struct {
	// Seed decides what the randomised histories do; 0 draws one. The report
	// names it, so that a history can be repeated.
	Seed uint64
	// Filter selects cases by name; nil means all.
	Filter *regexp.Regexp
	// Parallel is how many cases run at a time; 0 or less means 8: most of a run is
	// waiting for leases to expire.
	Parallel int
	// Long asks for the heavy variants: ten times the histories and the repetitions.
	Long bool
}

const (
	defaultParallel = 8
	// watchdog bounds a case, longWatchdog one in its heavy variant.
	watchdog     = 2 * time.Minute
	longWatchdog = 20 * time.Minute
)

// bound is the watchdog's time.
func (o Options) bound() time.Duration {
	if o.Long {
		return longWatchdog
	}
	return watchdog
}

// ErrNotRun is the error of a run that could not start: it proves nothing.
var ErrNotRun = errors.New("the suite could not run")

// Run runs the cases and reports. It fails with ErrNotRun, without a report, if
// the store does not answer.
func Run(ctx context.Context, h Harness, o Options) (*Report, error) {
	if h.Clock == nil {
		h.Clock = driver.BootClock
	}
	if o.Seed == 0 {
		o.Seed = rand.Uint64()
	}
	if o.Parallel <= 0 {
		o.Parallel = defaultParallel
	}
	d, err := h.Open(ctx)
	if err != nil {
		return nil, fmt.Errorf("%w: open: %w", ErrNotRun, err)
	}
	defer func() { _ = d.Close() }()
	if err := d.Ping(ctx); err != nil {
		return nil, fmt.Errorf("%w: the store does not answer: %w", ErrNotRun, err)
	}
	if err := grants(ctx, d); err != nil {
		return nil, fmt.Errorf("%w: %w", ErrNotRun, err)
	}
	report := &Report{Endpoint: h.Endpoint, Server: serverOf(ctx, h, d), Seed: o.Seed, Slow: h.Slow, Long: o.Long, Capabilities: d.Capabilities(), Started: time.Now().UTC()}
	if o.Filter != nil {
		report.Only = o.Filter.String()
	}
	h.TTL = max(h.TTL, report.Capabilities.MinTTL)
	run := runner{h: h, o: o, caps: report.Capabilities, nonce: strconv.FormatUint(rand.Uint64(), 36)}
	report.Results = run.all(ctx)
	report.Duration = time.Since(report.Started)
	return report, nil
}

// serverOf is the server's version, as far as harness or driver know it.
func serverOf(ctx context.Context, h Harness, d driver.Driver) string {
	if h.Server != nil {
		return h.Server(ctx)
	}
	describer, ok := driver.As[driver.Describer](d)
	if !ok {
		return ""
	}
	count := make(map[string]int)
	for _, s := range describer.Describe() {
		if s.Version != "" {
			count[s.Version]++
		}
	}
	var versions []string
	for _, v := range slices.Sorted(maps.Keys(count)) {
		if count[v] > 1 {
			v = fmt.Sprintf("%d of %s", count[v], v)
		}
		versions = append(versions, v)
	}
	return strings.Join(versions, ", ")
}

// grants says whether the store is in quarantine: a run in it proves nothing.
func grants(ctx context.Context, d driver.Driver) error {
	id := "run-" + strconv.FormatUint(rand.Uint64(), 36)
	req := &driver.AcquireRequest{
		LockID: "conformance/" + id, OwnerID: id, RequestID: id, Key: driver.KeyOf(id), TTL: d.Capabilities().MinTTL, PlaceTTL: time.Second,
	}
	_, err := d.Acquire(ctx, req)
	if errors.Is(err, driver.ErrQuarantined) {
		return err
	}
	// What else is wrong the cases say.
	_ = d.Leave(ctx, &driver.LeaveRequest{LockID: req.LockID, RequestID: id, Key: req.Key})
	return nil
}

type runner struct {
	h    Harness
	o    Options
	caps driver.Capabilities
	// nonce names the run's lock ids, which a store may remember for a day: two
	// runs with one seed do not meet.
	nonce string
}

// all runs the cases that may run beside others first, then the rest.
func (r *runner) all(ctx context.Context) []Result {
	var cases []Case
	for _, c := range Cases() {
		if r.o.Filter == nil || r.o.Filter.MatchString(c.Name) {
			cases = append(cases, c)
		}
	}
	results := make([]Result, len(cases))
	slots := make(chan struct{}, r.o.Parallel)
	var wg sync.WaitGroup
	apart := func(c Case) bool { return r.h.Slow && c.Busy && !c.Alone }
	wg.Go(func() {
		for i, c := range cases {
			if apart(c) {
				results[i] = r.one(ctx, i, c)
			}
		}
	})
	for _, alone := range []bool{false, true} {
		for i, c := range cases {
			if c.Alone != alone || apart(c) {
				continue
			}
			if alone {
				results[i] = r.one(ctx, i, c)
				continue
			}
			slots <- struct{}{}
			wg.Go(func() {
				defer func() { <-slots }()
				results[i] = r.one(ctx, i, c)
			})
		}
		wg.Wait()
	}
	return results
}

// one runs a case under the watchdog.
func (r *runner) one(ctx context.Context, i int, c Case) Result {
	res := Result{Name: c.Name, Guarantee: c.Guarantee, Source: c.source()}
	if res.Reason = r.h.lacking(c, r.caps); res.Reason != "" {
		res.Outcome = Skipped
		return res
	}
	ctx, cancel := context.WithTimeout(ctx, r.o.bound())
	defer cancel()
	t := &T{
		ctx: ctx, h: r.h, o: r.o, caps: r.caps, seed: r.o.Seed, grants: make(map[string]map[int64]string), locks: make(map[string]bool),
		prefix: "conformance/" + r.nonce + "-" + strconv.Itoa(i),
	}
	start := time.Now()
	ended := make(chan struct{})
	// Goroutines inherit the label, so that those of this case are known apart.
	pprof.Do(ctx, pprof.Labels(leakLabel, t.prefix), func(context.Context) {
		go func() {
			defer close(ended)
			defer t.end()
			t.D = t.Open()
			c.Run(t)
		}()
	})
	select {
	case <-ended:
		for _, stack := range leaked(t.prefix) {
			t.Errorf("a goroutine is left after Close:\n%s", stack)
		}
	case <-time.After(r.o.bound() + 5*time.Second):
		stacks := make([]byte, 1<<20)
		t.Errorf("the case hangs; goroutines:\n%s", stacks[:runtime.Stack(stacks, true)])
	}
	res.Duration = time.Since(start)
	t.mu.Lock()
	defer t.mu.Unlock()
	res.Outcome, res.Log = Passed, t.failure
	if len(t.failure) > 0 {
		res.Outcome = Failed
	}
	return res
}

// end takes a case's abort or panic, looks at the locks that the case leaves, and
// closes what it opened.
func (t *T) end() {
	if p := recover(); p != nil {
		if _, aborted := p.(abort); !aborted {
			t.Errorf("panic: %v", p)
		}
	}
	t.invariants()
	t.mu.Lock()
	opened, last := t.opened, t.last
	t.mu.Unlock()
	for _, f := range slices.Backward(last) {
		f()
	}
	for _, d := range opened {
		if err := d.Close(); err != nil {
			t.Errorf("close: %v", err)
		}
	}
}

// Test runs the suite as tests, one for each case that ran, and logs the table.
// A run that cannot start fails.
func Test(t *testing.T, h Harness, o Options) *Report {
	t.Helper()
	report, err := Run(t.Context(), h, o)
	if err != nil {
		t.Fatal(err)
	}
	for _, res := range report.Results {
		if res.Outcome == Skipped {
			continue // it stands in the table with its reason
		}
		t.Run(res.Name, func(t *testing.T) {
			if res.Outcome == Failed {
				t.Error(res.explain())
			}
		})
	}
	t.Logf("seed %d\n%s", report.Seed, report.Table())
	return report
}
