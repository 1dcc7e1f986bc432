package redis

import (
	"errors"
	"fmt"
	"testing"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// together sends calls that wait until all of them go in one pipeline, and
// returns the errors that they are answered by.
func together(t *testing.T, s *Store, g *gate, n int, send func(i int, done func(error))) []error {
	t.Helper()
	flying := make(chan error, maxFlying)
	fill(t, s, g, flying)
	type answer struct {
		i   int
		err error
	}
	answers := make(chan answer, n)
	for i := range n {
		send(i, func(err error) { answers <- answer{i, err} })
	}
	g.open()
	for range maxFlying {
		if err := <-flying; err != nil {
			t.Fatal(err)
		}
	}
	errs := make([]error, n)
	for range n {
		a := <-answers
		errs[a.i] = a.err
	}
	return errs
}

func TestAFailureOfOneLockIsNotAnothers(t *testing.T) {
	server := testenv.StartRedisT(t)
	s, g := gated(t, server)
	const n, broken = 40, 7
	id := func(i int) string { return fmt.Sprint("lock", i) }
	spoilt := s.shardPrefix(shardOf(id(broken))) + "l:" + id(broken)
	server.Must(t, "SET", spoilt, "no record")
	leases := make([]*driver.Lease, n)
	check := func(call string, errs []error) {
		t.Helper()
		for i, err := range errs {
			if i == broken && !errors.Is(err, driver.ErrIndeterminate) || i != broken && err != nil {
				t.Errorf("%s %d: %v", call, i, err)
			}
		}
	}
	check("acquire", together(t, s, g, n, func(i int, done func(error)) {
		s.AcquireAsync(t.Context(), request(id(i), fmt.Sprint("r", i)), func(res *driver.AcquireResult, err error) {
			if err == nil {
				leases[i] = res.Lease
			}
			done(err)
		})
	}))
	check("release", together(t, s, g, n, func(i int, done func(error)) {
		r := request(id(i), fmt.Sprint("r", i))
		ref := driver.LeaseRef{LockID: r.LockID, Key: r.Key, Token: 1}
		if leases[i] != nil {
			ref.Token = leases[i].Token
		}
		s.ReleaseAsync(t.Context(), &driver.ReleaseRequest{LeaseRef: ref, RequestID: r.RequestID}, func(_ *driver.ReleaseResult, err error) { done(err) })
	}))
	for i := range n {
		if i != broken && holders(t, s, id(i)) != 0 {
			t.Errorf("lock %d is still held", i)
		}
	}
}

func TestWhatTheServerRefusesIsCertainForEachLock(t *testing.T) {
	server := testenv.StartRedisT(t)
	s, g := gated(t, server)
	r := request("a", "r")
	lease := granted(t, s, r)
	server.Must(t, "CONFIG", "SET", "maxmemory", "1")
	flying := make(chan error, maxFlying)
	fill(t, s, g, flying)
	const n = 2
	answers := make(chan error, n)
	s.ReleaseAsync(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, lease), RequestID: r.RequestID}, func(_ *driver.ReleaseResult, err error) { answers <- err })
	s.AcquireAsync(t.Context(), request("b", "r"), func(_ *driver.AcquireResult, err error) { answers <- err })
	g.open()
	for range maxFlying {
		if err := <-flying; err != nil {
			t.Logf("what filled the lanes: %v", err)
		}
	}
	for range n {
		if err := <-answers; !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("a server without memory: %v", err)
		}
	}
	server.Must(t, "CONFIG", "SET", "maxmemory", "0")
	release(t, s, r, lease)
}

func TestEachLockGetsItsOwnAnswer(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	const n = 50
	held := granted(t, s, request("lock1", "other"))
	errs := together(t, s, g, n, func(i int, done func(error)) {
		r := request(fmt.Sprint("lock", i), fmt.Sprint("r", i))
		r.TokenFloor = held.Token + int64(i)*1_000_000_000
		r.Shared = i%2 == 0
		s.AcquireAsync(t.Context(), r, func(res *driver.AcquireResult, err error) {
			if err == nil && (res.Lease.LockID != r.LockID || res.Lease.Token < r.TokenFloor || res.Lease.Shared != r.Shared || res.Lease.Remaining != r.TTL) {
				t.Errorf("%+v was answered by %+v", r, res.Lease)
			}
			done(err)
		})
	})
	for i, err := range errs {
		if i == 1 != errors.Is(err, driver.ErrHeld) || i != 1 && err != nil {
			t.Errorf("acquire %d: %v", i, err)
		}
	}
}

func TestAReleaseGoesBeforeTheAcquiresBesideIt(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	first := request("a", "first")
	lease := granted(t, s, first)
	for i, err := range together(t, s, g, 2, func(i int, done func(error)) {
		if i == 0 {
			s.AcquireAsync(t.Context(), request("a", "second"), func(_ *driver.AcquireResult, err error) { done(err) })
			return
		}
		release := &driver.ReleaseRequest{LeaseRef: refOf(first, lease), RequestID: first.RequestID}
		s.ReleaseAsync(t.Context(), release, func(_ *driver.ReleaseResult, err error) { done(err) })
	}) {
		if err != nil {
			t.Errorf("call %d: %v", i, err)
		}
	}
}

// A server of a Cluster that has every slot is like a service that looks like one
// server: it serves each lock, but not locks of several slots in one command.
func TestAServerThatWantsLocksApart(t *testing.T) {
	server := testenv.StartRedisWith(t, testenv.RedisOptions{Args: []string{"--cluster-enabled", "yes", "--cluster-config-file", t.TempDir() + "/nodes"}})
	server.Must(t, "CLUSTER", "ADDSLOTSRANGE", "0", "16383")
	probe := server.Client()
	defer func() { _ = probe.Close() }()
	until(t, "the server has its slots", func() bool {
		return probe.Set(t.Context(), "probe", "", 0).Err() == nil
	})
	s, g := gated(t, server)
	for range 2 {
		for i, err := range together(t, s, g, 40, func(i int, done func(error)) {
			r := request(fmt.Sprint("lock", i), fmt.Sprint("r", i))
			s.AcquireAsync(t.Context(), r, func(_ *driver.AcquireResult, err error) { done(err) })
		}) {
			if err != nil {
				t.Errorf("acquire %d: %v", i, err)
			}
		}
	}
	if !s.topology.route(0).apart.Load() {
		t.Error("the server was not found out")
	}
}
