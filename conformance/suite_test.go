package conformance_test

import (
	"context"
	"flag"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/backend/redis"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/remote"
	"github.com/locksidecar/locksidecar/internal/metrics"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

var (
	update = flag.Bool("update", false, "rewrite the committed tables of what ran and what was skipped")
	whole  = flag.Bool("whole", false, "run every row whole: those that differ from another one by what stands between the driver and its store, too")
)

// part are the cases of a row which differs from another, whole one only by what
// stands between the driver and its store.
var part = regexp.MustCompile(`^(Exclusion/[^HM]|Fencing|Idempotence|Identity|Modes|Reentrancy)`)

// certifiedInPart runs the part, or the whole suite if that is asked for.
func certifiedInPart(t *testing.T, name string, h conformance.Harness) {
	t.Helper()
	certifiedInPartBy(t, name, h, conformance.Options{})
}

// certifiedInPartBy is certifiedInPart with options of the run.
func certifiedInPartBy(t *testing.T, name string, h conformance.Harness, o conformance.Options) {
	t.Helper()
	if *whole || *update {
		certifiedBy(t, name, h, o)
		return
	}
	o.Filter = part
	report := conformance.Test(t, h, o)
	for line := range strings.Lines(report.Summary()) {
		if !strings.Contains(tableOf(t, name), line) {
			t.Errorf("the committed table %s does not say %q", name, line)
		}
	}
}

func tableOf(t *testing.T, name string) string {
	t.Helper()
	want, err := os.ReadFile(filepath.Join("testdata", name+".txt"))
	if err != nil {
		t.Fatal(err)
	}
	return string(want)
}

// certified runs the suite and compares what ran with the committed table.
func certified(t *testing.T, name string, h conformance.Harness) {
	t.Helper()
	certifiedBy(t, name, h, conformance.Options{})
}

// certifiedBy is certified with options of the run.
func certifiedBy(t *testing.T, name string, h conformance.Harness, o conformance.Options) {
	t.Helper()
	report := conformance.Test(t, h, o)
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(report.Summary()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if got := report.Summary(); got != tableOf(t, name) {
		t.Errorf("what ran is not what %s says; if that is meant, run the test with -update\n%s", file, got)
	}
}

// memory is a harness on an embedded store, each driver decorated.
func memory(t testing.TB, decorate func(driver.Driver) driver.Driver) conformance.Harness {
	t.Helper()
	return stored(t, "", decorate)
}

// stored is memory with the file that keeps the locks, if one is named.
func stored(t testing.TB, path string, decorate func(driver.Driver) driver.Driver) conformance.Harness {
	t.Helper()
	const retention = time.Hour
	var ahead atomic.Int64
	m, err := embedded.NewMemory(embedded.Options{
		MinTTL: 200 * time.Millisecond, Poll: 100 * time.Millisecond, Retention: retention, Path: path,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	return conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return decorate(m.Open()), nil },
		Wipe: func(context.Context) error { return m.Wipe() },
		Skew: func(d time.Duration) { ahead.Store(int64(d)) },
		Collect: func(context.Context) error {
			const passed = int64(retention + time.Second)
			ahead.Add(passed)
			defer ahead.Add(-passed)
			return m.Collect()
		},
	}
}

// file is a new one, in memory where the system has a place for that: the suite is
// about what a store decides, not about how fast the disk of this machine is.
func file(t testing.TB) string {
	t.Helper()
	dir, err := os.MkdirTemp("/dev/shm", "lssuite")
	if err != nil {
		return filepath.Join(t.TempDir(), "locks.db")
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "locks.db")
}

func bare(d driver.Driver) driver.Driver { return d }

func behindBreaker(d driver.Driver) driver.Driver { return breaker.New(d, breaker.Options{}) }

func TestEmbedded(t *testing.T) {
	certified(t, "embedded", memory(t, bare))
}

func TestEmbeddedBehindBreaker(t *testing.T) {
	certified(t, "embedded-breaker", memory(t, behindBreaker))
}

// As the daemon has it: the calls are counted below the breaker.
func TestEmbeddedBehindMetrics(t *testing.T) {
	m := metrics.New(metrics.Options{}).Backend("embedded")
	certified(t, "embedded-breaker", memory(t, func(d driver.Driver) driver.Driver { return behindBreaker(m.Driver(d)) }))
}

func TestEmbeddedDurable(t *testing.T) {
	certified(t, "embedded-durable", stored(t, file(t), bare))
}

func TestEmbeddedDurableBehindBreaker(t *testing.T) {
	certified(t, "embedded-durable-breaker", stored(t, file(t), behindBreaker))
}

func TestEndpointOnEmbedded(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:")
	certified(t, "endpoint", through(t, d))
}

func TestEndpointOnEmbeddedDurable(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded://"+file(t))
	certified(t, "endpoint", through(t, d))
}

// Every call is traced, for a collector that is not there.
func TestEndpointWithTraces(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:", "--traces", "http://127.0.0.1:1")
	certifiedInPart(t, "endpoint", through(t, d))
}

func TestEndpointOnRedis(t *testing.T) {
	server := testenv.StartRedisT(t)
	d := testenv.Daemon(t, "serve", "--backend", server.URL())
	certified(t, "endpoint", through(t, d))
}

// through is a harness on a sidecar, once it has met its store.
func through(t *testing.T, sidecar *testenv.Process) conformance.Harness {
	t.Helper()
	h := remote.Harness(sidecar.Endpoint())
	d, err := h.Open(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if err = d.Ping(ctx); err == nil {
			tick.Stop()
			return h
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			t.Fatalf("the sidecar does not serve: %v", err)
		}
	}
}

// A run against a store that does not answer proves nothing, and says so.
func TestStoppedServerIsNotARun(t *testing.T) {
	o := redis.Options{Timeout: time.Second}
	o.Client.Addr = "127.0.0.1:1"
	_, err := conformance.Run(t.Context(), conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return redis.New(o) },
	}, conformance.Options{})
	if err == nil {
		t.Error("a run without a server was reported")
	}
}
