package conformance_test

import (
	"context"
	"flag"
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
	"github.com/locksidecar/locksidecar/internal/testenv"
)

var update = flag.Bool("update", false, "rewrite the committed tables of what ran and what was skipped")

// certified runs the suite and compares what ran with the committed table.
func certified(t *testing.T, name string, h conformance.Harness) {
	t.Helper()
	report := conformance.Test(t, h, conformance.Options{})
	file := filepath.Join("testdata", name+".txt")
	if *update {
		if err := os.WriteFile(file, []byte(report.Summary()), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if got := report.Summary(); got != string(want) {
		t.Errorf("what ran is not what %s says; if that is meant, run the test with -update\n%s", file, got)
	}
}

// memory is a harness on an embedded store, each driver decorated.
func memory(t testing.TB, decorate func(driver.Driver) driver.Driver) conformance.Harness {
	t.Helper()
	const retention = time.Hour
	var ahead atomic.Int64
	m, err := embedded.NewMemory(embedded.Options{
		MinTTL: 200 * time.Millisecond, Poll: 100 * time.Millisecond, Retention: retention,
		Now: func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) },
	})
	if err != nil {
		t.Fatal(err)
	}
	return conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return decorate(m.Open()), nil },
		Wipe: func(context.Context) error { m.Wipe(); return nil },
		Skew: func(d time.Duration) { ahead.Store(int64(d)) },
		Collect: func(context.Context) error {
			const passed = int64(retention + time.Second)
			ahead.Add(passed)
			defer ahead.Add(-passed)
			m.Collect()
			return nil
		},
	}
}

func TestEmbedded(t *testing.T) {
	certified(t, "embedded", memory(t, func(d driver.Driver) driver.Driver { return d }))
}

func TestEmbeddedBehindBreaker(t *testing.T) {
	certified(t, "embedded-breaker", memory(t, func(d driver.Driver) driver.Driver { return breaker.New(d, breaker.Options{}) }))
}

func TestEndpointOnEmbedded(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:")
	certified(t, "endpoint", remote.Harness(d.Endpoint()))
}

func TestEndpointOnRedis(t *testing.T) {
	server := testenv.StartRedisT(t)
	d := testenv.Daemon(t, "serve", "--backend", server.URL())
	certified(t, "endpoint", remote.Harness(d.Endpoint()))
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
