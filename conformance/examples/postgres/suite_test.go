package postgres_test

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/breaker"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/conformance/examples/postgres"
)

var (
	update = flag.Bool("update", false, "rewrite the committed table of what ran and what was skipped")
	cases  = flag.String("cases", "", "run only the cases that match this regular expression, and compare nothing")
	seed   = flag.Uint64("seed", 0, "decides the randomised histories; 0 draws one")

	certificates = flag.String("certificates", "", "write the certificates into this directory")
)

// The certificate: every case, on a server of the test's own.
func TestPostgres(t *testing.T) {
	certified(t, "postgres", harness(t, startServer(t)))
}

// The same behind the sidecar's circuit breaker, which must not change what the
// driver guarantees: in part, unless the certificate is asked for.
func TestPostgresBehindTheBreaker(t *testing.T) {
	h := harness(t, startServer(t))
	open := h.Open
	h.Open = func(ctx context.Context) (driver.Driver, error) {
		d, err := open(ctx)
		if err != nil {
			return nil, err
		}
		return breaker.New(d, breaker.Options{}), nil
	}
	if *cases == "" && *certificates == "" && !*update {
		*cases = "^(Exclusion/[FLS]|Fencing|Idempotence|Identity|Modes|Reentrancy)"
		defer func() { *cases = "" }()
	}
	certified(t, "postgres-breaker", h)
}

// certified runs the cases, keeps the certificate if that is asked for, and compares
// what ran with the committed table.
func certified(t *testing.T, row string, h conformance.Harness) {
	t.Helper()
	report := conformance.Test(t, h, conformance.Options{Seed: *seed, Filter: regexp.MustCompile(*cases), Parallel: 4})
	if *certificates != "" {
		f, err := os.Create(filepath.Join(*certificates, fmt.Sprintf("%s@%d.json", row, report.Seed)))
		if err != nil {
			t.Fatal(err)
		}
		if err := errors.Join(report.JSON(f), f.Close()); err != nil {
			t.Fatal(err)
		}
	}
	if *cases == "" {
		same(t, "testdata/postgres.txt", report.Summary())
	}
}

// same compares what ran with the committed table: a case that is skipped from
// now on is a failure too.
func same(t *testing.T, file, got string) {
	t.Helper()
	if *update {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	if want, err := os.ReadFile(file); err != nil || string(want) != got {
		t.Errorf("what ran is not what %s says (%v); if that is meant, run the test with -update\n%s", file, err, got)
	}
}

// harness opens drivers on a server, and lends the suite what else can be done
// with it.
func harness(t *testing.T, s *server) conformance.Harness {
	t.Helper()
	admin := connect(t, s)
	o := options(t, s)
	exec := func(ctx context.Context, sql string) error { _, err := admin.Exec(ctx, sql); return err }
	return conformance.Harness{
		Open:  func(context.Context) (driver.Driver, error) { return postgres.New(o) },
		Slow:  true, // a call is two round trips to a process of its own
		Wipe:  func(ctx context.Context) error { return exec(ctx, "truncate locksidecar") },
		Pause: func() (func() error, error) { return s.resume, s.pause() },
		Collect: func(ctx context.Context) error {
			// As if the retention of every lock had passed, and nothing else.
			if err := exec(ctx, "update locksidecar set keep_until = keep_until - 24 * 3600 * 1000000::bigint"); err != nil {
				return err
			}
			d, err := postgres.New(o)
			if err != nil {
				return err
			}
			_, err = d.Collect(ctx)
			return errors.Join(err, d.Close())
		},
		Server: func(ctx context.Context) (version string) {
			_ = admin.QueryRow(ctx, "select 'PostgreSQL ' || split_part(current_setting('server_version'), ' ', 1)").Scan(&version)
			return version
		},
	}
}

// options are those of the suite: a short TTL makes a short run, and a call may
// take long on a machine with much to do.
func options(t *testing.T, s *server) postgres.Options {
	t.Helper()
	config, err := pgxpool.ParseConfig(s.url())
	if err != nil {
		t.Fatal(err)
	}
	return postgres.Options{Pool: config, MinTTL: 200 * time.Millisecond, Poll: 100 * time.Millisecond, Timeout: 30 * time.Second}
}

// connect is a connection of the test's own.
func connect(t *testing.T, s *server) *pgxpool.Pool {
	t.Helper()
	pool, err := pgxpool.New(t.Context(), s.url())
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(pool.Close)
	return pool
}

// A run against a server that is stopped proves nothing, and says so.
func TestStoppedServerIsNotARun(t *testing.T) {
	s := startServer(t)
	s.stop()
	o := options(t, s)
	report, err := conformance.Run(t.Context(), conformance.Harness{
		Open: func(context.Context) (driver.Driver, error) { return postgres.New(o) },
	}, conformance.Options{})
	if !errors.Is(err, conformance.ErrNotRun) || !errors.Is(err, driver.ErrUnavailable) || report != nil {
		t.Errorf("the run ended with %v, %v; want no report, and the store unavailable", report, err)
	}
}
