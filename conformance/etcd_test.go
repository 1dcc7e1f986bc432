package conformance_test

import (
	"context"
	"errors"
	"os/exec"
	"sync/atomic"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/backend/etcd"
	"github.com/locksidecar/locksidecar/conformance"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// onEtcd is a harness on an etcd.
func onEtcd(t *testing.T, e *testenv.Etcd, o etcd.Options) conformance.Harness {
	t.Helper()
	var ahead atomic.Int64
	// A call may take long on a machine with much to do; that is no fault.
	o.Endpoints, o.Poll, o.Timeout = e.Addrs(), 200*time.Millisecond, 15*time.Second
	o.Wall = func() time.Time { return time.Now().Add(time.Duration(ahead.Load())) }
	c := e.Client(t)
	var link func(context.Context) (*conformance.Link, error)
	if o.TLS == nil { // the proxy reads what passes
		link = func(context.Context) (*conformance.Link, error) {
			p, through := testenv.StartEtcdProxy(t, e.Members[0].Addr()), o
			through.Endpoints = []string{p.Addr()}
			d, err := etcd.New(through)
			return &conformance.Link{Driver: d, Cut: p.Cut, LoseReply: func(n int) { p.FailAt(n, testenv.BreakReply, "Txn", "LeaseGrant") }}, err
		}
	}
	return conformance.Harness{
		Link: link,
		Open: func(context.Context) (driver.Driver, error) { return etcd.New(o) },
		Wipe: func(ctx context.Context) error {
			// All but the stamp, as by hand: without it nothing would be granted for
			// as long as a lease of before may stand.
			const stamp = "locksidecar/stamp"
			_, before := c.Delete(ctx, "\x00", clientv3.WithRange(stamp))
			_, after := c.Delete(ctx, stamp+"\x00", clientv3.WithRange("\x00"))
			return errors.Join(before, after)
		},
		Restart: func(ctx context.Context) error {
			for _, m := range e.Members {
				if err := m.Restart(ctx); err != nil {
					return err
				}
			}
			return nil
		},
		Pause: func() (func() error, error) { return e.Resume, e.Pause() },
		Skew:  func(d time.Duration) { ahead.Store(int64(d)) },
		Collect: func(ctx context.Context) error {
			// As the driver that sweeps does it, two days later.
			later := o
			later.Wall = func() time.Time { return o.Wall().Add(48 * time.Hour) }
			d, err := etcd.New(later)
			if err != nil {
				return err
			}
			_, err = d.Collect(ctx, 24*time.Hour)
			return errors.Join(err, d.Close())
		},
	}
}

// The documented user, by TLS with a client's certificate: its role, which is
// limited to the prefix, is enough for all that the driver does.
func TestEtcdTLSAsTheDocumentedUser(t *testing.T) {
	authority := testenv.NewAuthority(t)
	e := testenv.StartEtcd(t, testenv.EtcdOptions{TLS: &testenv.EtcdTLS{
		Authority: authority, Server: authority.Server(t), Client: authority.Client(t, "locksidecar"),
	}})
	script := exec.Command("../docs/etcd/user.sh")
	script.Env = e.Environ(t)
	if out, err := script.CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	e.EnableUsers(t)
	config, err := authority.Config(authority.Client(t, "locksidecar"))
	if err != nil {
		t.Fatal(err)
	}
	certified(t, row{name: "etcd-tls-rbac", table: "etcd-tls-rbac"}, onEtcd(t, e, etcd.Options{TLS: config}))
}
