package conformance_test

import (
	"context"
	"os"
	"path/filepath"
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

// memory is a harness on a store in memory, each driver decorated.
func memory(t testing.TB, decorate func(driver.Driver) driver.Driver) conformance.Harness {
	t.Helper()
	return stored(t, "", decorate)
}

// stored is a harness on an embedded store, each driver decorated; a file keeps the
// locks, if one is named.
func stored(t testing.TB, path string, decorate func(driver.Driver) driver.Driver) conformance.Harness {
	t.Helper()
	const retention = time.Hour
	var ahead atomic.Int64
	start := func() (*embedded.Memory, error) {
		return embedded.NewMemory(embedded.Options{
			MinTTL: 200 * time.Millisecond, Poll: 100 * time.Millisecond, Retention: retention, Path: path,
			Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
		})
	}
	m, err := start()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := m.Close(); err != nil {
			t.Error(err)
		}
	})
	var restart func(context.Context) error
	if path != "" {
		restart = func(context.Context) (err error) {
			if err = m.Close(); err == nil {
				m, err = start()
			}
			return err
		}
	}
	return conformance.Harness{
		Open:    func(context.Context) (driver.Driver, error) { return decorate(m.Open()), nil },
		Link:    func(context.Context) (*conformance.Link, error) { return linked(m.Open(), decorate), nil },
		Restart: restart,
		Server:  func(context.Context) string { return "this build" },
		Wipe:    func(context.Context) error { return m.Wipe() },
		Skew:    func(d time.Duration) { ahead.Store(int64(d)) },
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

// As the daemon has it: the calls are counted below the breaker.
func TestEmbeddedBehindMetrics(t *testing.T) {
	m := metrics.New(metrics.Options{}).Backend("embedded")
	certified(t, row{name: "embedded-metrics", table: "embedded", whole: true}, memory(t, func(d driver.Driver) driver.Driver { return behindBreaker(m.Driver(d)) }))
}

// Every call is traced, for a collector that is not there.
func TestEndpointWithTraces(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:", "--traces", "http://127.0.0.1:1")
	certified(t, row{name: "embedded-traces", table: "endpoint"}, through(t, d))
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
