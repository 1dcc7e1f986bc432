package postgres_test

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"sync/atomic"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/conformance/examples/postgres"
)

// cut ends connections when they send a statement: before it leaves, or after.
type cut struct {
	statement atomic.Pointer[string]
	sent      bool
}

type cutConn struct {
	net.Conn
	c *cut
}

func (c *cutConn) Write(p []byte) (int, error) {
	s := c.c.statement.Load()
	if s == nil || !bytes.Contains(p, []byte(*s)) {
		return c.Conn.Write(p)
	}
	c.c.statement.Store(nil) // once
	n, err := 0, error(nil)
	if c.c.sent {
		n, err = c.Conn.Write(p)
	}
	return n, errors.Join(err, c.Conn.Close())
}

func request(lock, owner string) *driver.AcquireRequest {
	return &driver.AcquireRequest{
		LockID: lock, OwnerID: owner, RequestID: "request of " + owner, Key: driver.KeyOf(owner), TTL: time.Minute, PlaceTTL: time.Minute,
	}
}

// Until the write is sent nothing has happened, from then on it may have; and a
// repeat settles it either way.
func TestALostConnectionSaysWhatMayHaveHappened(t *testing.T) {
	s := startServer(t)
	for _, c := range []struct {
		statement string
		sent      bool
		want      error
	}{
		{"begin isolation", false, driver.ErrUnavailable},
		{"begin isolation", true, driver.ErrUnavailable},
		{"commit\x00", true, driver.ErrIndeterminate}, // with its end: begin says "read committed"
	} {
		t.Run(fmt.Sprintf("%.6s sent %v", c.statement, c.sent), func(t *testing.T) {
			cuts := &cut{sent: c.sent}
			o := options(t, s)
			// Each statement goes with its text, so that it can be recognised.
			o.Pool.ConnConfig.DefaultQueryExecMode = pgx.QueryExecModeExec
			o.Pool.ConnConfig.DialFunc = func(ctx context.Context, network, addr string) (net.Conn, error) {
				conn, err := new(net.Dialer).DialContext(ctx, network, addr)
				if err != nil {
					return nil, err
				}
				return &cutConn{conn, cuts}, nil
			}
			d, err := postgres.New(o)
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = d.Close() }()
			if err := d.Ping(t.Context()); err != nil {
				t.Fatal(err)
			}
			cuts.statement.Store(&c.statement)
			r := request(t.Name(), "one")
			res, err := d.Acquire(t.Context(), r)
			if !errors.Is(err, c.want) || errors.Is(err, driver.ErrUnavailable) && errors.Is(err, driver.ErrIndeterminate) {
				t.Errorf("the acquire was answered %+v, %v; want %v", res, err, c.want)
			}
			res, err = d.Acquire(t.Context(), r)
			if err != nil || res.Lease == nil || len(res.Lease.Holds) != 1 {
				t.Fatalf("the repeat was answered %+v, %v; want a lease with one hold", res, err)
			}
			if l, err := d.Inspect(t.Context(), r.LockID); err != nil || l.Token != res.Lease.Token || len(l.Holders) != 1 {
				t.Errorf("the lock is %+v, %v", l, err)
			}
		})
	}
}

// Who else holds the row keeps a call waiting for its timeout, and no longer.
func TestARowThatIsLockedByOthersIsWaitedForInVain(t *testing.T) {
	s := startServer(t)
	o := options(t, s)
	o.Timeout = 200 * time.Millisecond
	d, err := postgres.New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = d.Close() }()
	first := request("a", "one")
	eventually(t, func() error { _, err := d.Acquire(t.Context(), first); return err })
	tx, err := connect(t, s).Begin(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	if _, err := tx.Exec(t.Context(), "select from locksidecar where lock_id = 'a' for update"); err != nil {
		t.Fatal(err)
	}
	if _, err := d.Acquire(t.Context(), request("a", "two")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("while the row is locked, the acquire was answered %v; want the store unavailable", err)
	}
	if err := tx.Rollback(t.Context()); err != nil {
		t.Fatal(err)
	}
	var held *driver.HeldError
	eventually(t, func() error {
		res, err := d.Acquire(t.Context(), request("a", "two"))
		if errors.As(err, &held) {
			return nil
		}
		return errors.Join(fmt.Errorf("the acquire was answered %+v, want it refused as held", res), err)
	})
}

// eventually repeats what a busy machine may be too slow for.
func eventually(t *testing.T, f func() error) {
	t.Helper()
	for deadline := time.Now().Add(time.Minute); ; {
		err := f()
		if err == nil {
			return
		}
		if time.Now().After(deadline) {
			t.Fatal(err)
		}
	}
}
