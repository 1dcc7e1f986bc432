package testenv

import (
	"context"
	"fmt"
	"slices"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"
	"go.uber.org/zap"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// throughEtcd is a client by way of a proxy.
func throughEtcd(t *testing.T, p *EtcdProxy) *clientv3.Client {
	t.Helper()
	c, err := clientv3.New(clientv3.Config{Endpoints: []string{p.Addr()}, Logger: zap.NewNop(), MaxUnaryRetries: 1})
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = c.Close() })
	return c
}

// version is how often a key was written since it is there.
func version(t *testing.T, e *Etcd, key string) int64 {
	t.Helper()
	r, err := e.Client(t).Get(t.Context(), key)
	if err != nil {
		t.Fatal(err)
	}
	if len(r.Kvs) == 0 {
		return 0
	}
	return r.Kvs[0].Version
}

// within is a context of a client that is patient or is not.
func within(t *testing.T, d time.Duration) context.Context {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), d)
	t.Cleanup(cancel)
	return ctx
}

// Each fault meets the call that was meant, and no other.
func TestEtcdProxyFaults(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{})
	for _, row := range []struct {
		fault Fault
		code  codes.Code
		done  int64 // writes that the server has done of two
	}{
		{LoseRequest, codes.DeadlineExceeded, 1},
		{BreakRequest, codes.Unavailable, 1},
		{LoseReply, codes.DeadlineExceeded, 2},
		{BreakReply, codes.Unavailable, 2},
		{TearReply, codes.Unavailable, 2},
		{DuplicateRequest, codes.OK, 3},
	} {
		t.Run(row.fault.String(), func(t *testing.T) {
			p := StartEtcdProxy(t, e.Members[0].Addr())
			c := throughEtcd(t, p)
			key := fmt.Sprint("k", int(row.fault))
			i := p.FailAt(2, row.fault, "Put")
			if _, err := c.Put(within(t, startTimeout), key, "v"); err != nil || i.Happened() {
				t.Fatalf("the first request: %v, and happened is %v", err, i.Happened())
			}
			if _, err := c.Get(within(t, startTimeout), key); err != nil {
				t.Fatalf("a request that does not count: %v", err)
			}
			patient := startTimeout
			if row.code == codes.DeadlineExceeded {
				patient = patience
			}
			_, err := c.Put(within(t, patient), key, "v")
			if code := status.Code(err); code != row.code && (row.code != codes.DeadlineExceeded || err != context.DeadlineExceeded) { //nolint:errorlint // the client returns it bare
				t.Errorf("the client got %v", err)
			}
			<-i.Met()
			if got := version(t, e, key); got != row.done {
				t.Errorf("the server has done %d writes, want %d", got, row.done)
			}
			if _, err := c.Put(within(t, startTimeout), key, "v"); err != nil {
				t.Errorf("the request after it: %v", err)
			}
			if seen := p.Requests("Put"); len(seen) != 3 || !slices.Equal(p.Requests()[:2], []string{"Put", "Range"}) {
				t.Errorf("the requests were %v", p.Requests())
			}
		})
	}
}

// A request and a reply that are kept back arrive although the client has gone.
func TestEtcdProxyHolds(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{})
	p := StartEtcdProxy(t, e.Members[0].Addr())
	c := throughEtcd(t, p)
	i := p.FailAt(1, HoldRequest, "Put")
	if _, err := c.Put(within(t, patience), "held", "v"); err == nil {
		t.Error("a request that is kept back was answered")
	}
	<-i.Met()
	if version(t, e, "held") != 0 {
		t.Error("the server has a request that is kept back")
	}
	i.Release()
	<-i.Answered()
	if version(t, e, "held") != 1 {
		t.Error("the request did not arrive")
	}

	i = p.FailAt(1, HoldReply, "Put")
	answered := make(chan error, 1)
	go func() {
		_, err := c.Put(within(t, startTimeout), "late", "v")
		answered <- err
	}()
	<-i.Met()
	if version(t, e, "late") != 1 {
		t.Error("the server has not done what it has answered")
	}
	i.Release()
	if err := <-answered; err != nil {
		t.Errorf("the late reply: %v", err)
	}
}

// Streams pass: leases are kept alive, watches see what happens; a fault of one
// message is one of its stream.
func TestEtcdProxyStreams(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{})
	p := StartEtcdProxy(t, e.Members[0].Addr())
	c := throughEtcd(t, p)
	watched := c.Watch(within(t, startTimeout), "w", clientv3.WithCreatedNotify())
	if r := <-watched; !r.Created {
		t.Fatalf("the watch says %+v", r)
	}
	for k := range 3 {
		put(t, e, "w", fmt.Sprint(k))
		if r := <-watched; len(r.Events) != 1 || string(r.Events[0].Kv.Value) != fmt.Sprint(k) {
			t.Fatalf("the watch says %+v", r)
		}
	}
	lease, err := c.Grant(within(t, startTimeout), 60)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := c.KeepAliveOnce(within(t, startTimeout), lease.ID); err != nil {
		t.Errorf("keep alive: %v", err)
	}
	i := p.FailAt(1, LoseReply, "LeaseKeepAlive")
	if _, err := c.KeepAliveOnce(within(t, patience), lease.ID); err == nil {
		t.Error("a reply that was lost arrived")
	}
	<-i.Met()
	p.Reset()
	if _, err := c.KeepAliveOnce(within(t, startTimeout), lease.ID); err != nil {
		t.Errorf("keep alive after a reset: %v", err)
	}
	put(t, e, "w", "last")
	if r := <-watched; len(r.Events) != 1 {
		t.Errorf("after a reset the watch says %+v", r)
	}
}

func TestEtcdProxyVersion(t *testing.T) {
	t.Parallel()
	e := StartEtcd(t, EtcdOptions{})
	p := StartEtcdProxy(t, e.Members[0].Addr())
	for _, version := range []string{"", "3.5.22"} {
		p.SetVersion(version)
		s, err := throughEtcd(t, p).Status(within(t, startTimeout), p.Addr())
		if err != nil {
			t.Fatal(err)
		}
		if want := map[string]string{"": "3.7.3", "3.5.22": "3.5.22"}[version]; s.Version != want || s.DbSize == 0 {
			t.Errorf("the status is %+v, want the version %s", s, want)
		}
	}
}
