package redis

import (
	"errors"
	"fmt"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// validUntil is how long the holder of a lease may rely on it.
func validUntil(l *driver.Lease) driver.Instant {
	return l.Origin.Add(l.Remaining*99/100 - 50*time.Millisecond)
}

// loss is a way to lose a lease that was granted.
type loss struct {
	name string
	// longest is the store's longest TTL, and that of the lease.
	longest time.Duration
	// start returns the URL of a store, what is done before the lease is granted,
	// and what loses it.
	start func(t *testing.T) (url string, before, lose func())
}

func losses() []loss {
	nothing := func() {}
	return []loss{
		{"FLUSHALL", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			server := testenv.StartRedisT(t)
			return server.URL(), nothing, func() { server.Must(t, "FLUSHALL") }
		}},
		{"restart empty", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			server := testenv.StartRedisT(t)
			return server.URL(), nothing, func() {
				if err := server.RestartEmpty(t.Context()); err != nil {
					t.Error(err)
				}
			}
		}},
		{"restart with the data of before", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			server := testenv.StartRedisWith(t, testenv.RedisOptions{AppendFsync: "always"})
			var b testenv.Backup
			return server.URL(), func() { b = server.Backup(t) }, func() {
				if err := server.RestartFrom(t.Context(), b); err != nil {
					t.Error(err)
				}
			}
		}},
		{"failover that lost writes", 10 * time.Second, func(t *testing.T) (string, func(), func()) {
			env := testenv.StartSentinel(t, testenv.RedisOptions{})
			return env.URL(), func() { env.Primary(t).WaitReplicated(t, 2); env.StopReplication(t) }, func() {
				env.WaitForFailover(t, env.KillPrimary(t))
			}
		}},
		{"promotion behind one address", 6 * time.Second, func(t *testing.T) (string, func(), func()) {
			first, second := testenv.StartRedisT(t), testenv.StartRedisT(t)
			second.ReplicaOf(t, first)
			proxy := testenv.StartProxy(t, first.Addr())
			return "redis://" + proxy.Addr() + "?new=1", func() {
					first.WaitReplicated(t, 1)
					second.Promote(t)
				}, func() {
					proxy.Retarget(second.Addr())
					proxy.Reset()
				}
		}},
	}
}

// While a lease was held, no second holder is admitted before its valid-until has
// passed, whatever lost it and whoever comes first. Later tokens are greater, and
// the holder learns that it lost.
func TestALostLeaseIsNotGrantedTwice(t *testing.T) {
	for _, how := range losses() {
		for _, who := range []string{"an old sidecar first", "a new sidecar first", "a waiter"} {
			t.Run(how.name+"/"+who, func(t *testing.T) {
				t.Parallel()
				url, before, lose := how.start(t)
				url += fmt.Sprintf("&timeout=10s&poll=500ms&max_ttl=%v", how.longest)
				holder, rival := openURL(t, url), openURL(t, url)
				for i, s := range []*Store{holder, rival} {
					warm := request("warm", fmt.Sprint("r", i))
					release(t, s, warm, granted(t, s, warm))
				}
				_, _ = holder.Sweep(t.Context())
				before()
				r := request("a", "holder")
				r.TTL = how.longest
				lease := granted(t, holder, r)
				renewed, err := holder.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, lease), TTL: how.longest})
				if err != nil {
					t.Fatal(err)
				}
				next := request("a", "next")
				next.Enqueue = who == "a waiter"
				if next.Enqueue {
					if res, err := rival.Acquire(t.Context(), next); err != nil || res.Position != 1 {
						t.Fatalf("the waiter: %+v, %v", res, err)
					}
				}
				lose()
				if who == "a new sidecar first" {
					rival = openURL(t, strings.Replace(url, "new=1", "new=0", 1))
				}
				second := afterQuarantine(t, rival, next)
				if early := validUntil(renewed).Sub(second.Origin); early > 0 {
					t.Errorf("a second holder was admitted %v before the first one's valid-until", early)
				}
				if second.Token <= lease.Token {
					t.Errorf("the token %d follows %d", second.Token, lease.Token)
				}
				until(t, "the holder learns that it lost", func() bool {
					_, err := holder.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, lease), TTL: how.longest})
					if err == nil {
						t.Fatal("the lost lease was renewed")
					}
					return errors.Is(err, driver.ErrLost)
				})
			})
		}
	}
}

// afterQuarantine acquires until it is granted, over a quarantine that must come.
func afterQuarantine(t *testing.T, s *Store, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	sealed := false
	for end := time.Now().Add(patience); time.Now().Before(end); time.Sleep(5 * time.Millisecond) {
		res, err := s.Acquire(t.Context(), r)
		if _, remaining := s.Quarantine(); remaining > 0 {
			sealed = true
		}
		switch {
		case err == nil && res.Lease != nil && !sealed:
			t.Fatal("there was no quarantine")
		case err == nil && res.Lease != nil:
			return res.Lease
		case err == nil, errors.Is(err, driver.ErrQuarantined), errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate):
		default:
			t.Fatalf("in quarantine: %v", err)
		}
	}
	t.Fatal("the quarantine does not end")
	return nil
}

// A primary that was given up and wakes again grants and renews nothing, for a
// sidecar that heard nothing of it either.
func TestAStalePrimaryCountsForNothing(t *testing.T) {
	t.Parallel()
	env := testenv.StartSentinel(t, testenv.RedisOptions{})
	var addrs []string
	var proxies []*testenv.Proxy
	for _, addr := range env.Addrs() {
		p := testenv.StartProxy(t, addr)
		proxies, addrs = append(proxies, p), append(addrs, p.Addr())
	}
	const parameters = "timeout=1s&max_ttl=2s"
	cutOff := openURL(t, "redis+sentinel://"+strings.Join(addrs, ",")+"/"+testenv.SentinelName+"?"+parameters)
	other := openURL(t, env.URL(parameters))
	r := request("held", "r")
	r.TTL = 2 * time.Second
	lease := granted(t, cutOff, r)
	env.Primary(t).WaitReplicated(t, 2)
	for _, p := range proxies {
		p.DropReplies.Store(true)
	}
	old := env.PausePrimary(t)
	env.WaitForFailover(t, old)
	l := afterQuarantine(t, other, request("a", "other"))
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	for i := range 5 {
		if res, err := cutOff.Acquire(t.Context(), request("a", fmt.Sprint("stale", i))); err == nil {
			t.Fatalf("a stale primary granted %+v beside the token %d", res.Lease, l.Token)
		}
		if res, err := cutOff.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, lease), TTL: 2 * time.Second}); err == nil {
			t.Fatalf("a stale primary renewed %+v", res)
		}
	}
	for _, p := range proxies {
		p.DropReplies.Store(false)
		p.Reset()
	}
	until(t, "the holder learns that it lost", func() bool {
		_, err := cutOff.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, lease), TTL: 2 * time.Second})
		return errors.Is(err, driver.ErrLost)
	})
}

// What was granted before stands, and can be prolonged and released; nothing is
// granted, added or attached; waiters keep their order.
func TestInQuarantine(t *testing.T) {
	server := testenv.StartRedisWith(t, testenv.RedisOptions{AppendFsync: "always"})
	s := openURL(t, server.URL("max_ttl=20s"))
	held, gone := request("held", "r"), request("gone", "r")
	lease, other := granted(t, s, held), granted(t, s, gone)
	waiter := queued(request("held", "waiter"))
	if _, err := s.Acquire(t.Context(), waiter); err != nil {
		t.Fatal(err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	// Each connection meets the new server by a call that it loses.
	refused := func(what string, call func() error) {
		t.Helper()
		var err error
		until(t, "the server is met", func() bool {
			err = call()
			return !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, driver.ErrIndeterminate)
		})
		var q *driver.QuarantineError
		if !errors.As(err, &q) || q.Remaining <= 0 || q.Remaining > 20*time.Second+margin {
			t.Errorf("%s: %v, want a quarantine", what, err)
		}
	}
	acquire := func(r *driver.AcquireRequest) func() error {
		return func() error {
			_, err := s.Acquire(t.Context(), r)
			return err
		}
	}
	refused("a new lease", acquire(request("free", "r")))
	if reason, remaining := s.Quarantine(); reason == "" || remaining <= 0 {
		t.Errorf("it says %q, %v", reason, remaining)
	}
	refused("a repeat", acquire(held))
	again := request("held", "again")
	again.OwnerID, again.Key, again.Reentrant = held.OwnerID, held.Key, true
	refused("a further hold", acquire(again))
	refused("an adoption", func() error {
		_, err := s.Adopt(t.Context(), &driver.RenewRequest{LeaseRef: refOf(held, lease), TTL: time.Second})
		return err
	})
	if _, err := s.Acquire(t.Context(), request("held", "try")); !errors.Is(err, driver.ErrHeld) {
		t.Errorf("a try at what is held: %v", err)
	}
	if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(held, lease), TTL: time.Minute}); err != nil {
		t.Errorf("a renewal: %v", err)
	}
	release(t, s, gone, other)
	release(t, s, held, lease)
	late := queued(request("held", "late"))
	for want, r := range map[int]*driver.AcquireRequest{1: waiter, 2: late} {
		if r == late {
			if _, err := s.Acquire(t.Context(), waiter); err != nil {
				t.Fatal(err)
			}
		}
		if res, err := s.Acquire(t.Context(), r); err != nil || res.Position != want || res.RetryAfter > 3*time.Second {
			t.Errorf("%s: %+v, %v, want position %d", r.RequestID, res, err, want)
		}
	}
	// It ends for all at once, however late somebody asks.
	if _, err := s.Sweep(t.Context()); err != nil {
		t.Fatal(err)
	}
	info, err := server.Info(t.Context(), "replication")
	if err != nil {
		t.Fatal(err)
	}
	stamps, err := s.stamps(t.Context())
	if err != nil {
		t.Fatal(err)
	}
	for shard, stamp := range stamps {
		if !strings.HasPrefix(stamp, info["master_replid"]+" 20000000 ") {
			t.Fatalf("after a sweep shard %d has the stamp %q", shard, stamp)
		}
	}
}

func TestInit(t *testing.T) {
	server := testenv.StartRedisT(t)
	open := func(parameters string) *Store { return openURL(t, "redis://"+server.Addr()+"?new=0&"+parameters) }
	t.Run("a store that was not initialised", func(t *testing.T) {
		s := open("prefix=plain&max_ttl=10s")
		_, err := s.Acquire(t.Context(), request("a", "r"))
		if !errors.Is(err, driver.ErrQuarantined) || !strings.Contains(err.Error(), "locksidecar store init --backend") {
			t.Fatalf("%v, want a quarantine that says what to do", err)
		}
		until(t, "the shard is stamped", func() bool {
			_, err := s.Acquire(t.Context(), request("a", "r"))
			return strings.Contains(fmt.Sprint(err), reasonPending)
		})
		done, err := s.Init(t.Context())
		var q *driver.QuarantineError
		if done || !errors.As(err, &q) || q.Remaining <= 0 {
			t.Fatalf("init opened a quarantine: %v, %v", done, err)
		}
		l := eventually(t, s, request("a", "r"))
		release(t, s, request("a", "r"), l)
	})
	t.Run("many at once", func(t *testing.T) {
		var all sync.WaitGroup
		for i := range 4 {
			all.Go(func() {
				s := open("prefix=many&timeout=10s")
				s.o.New = true
				for k := range 20 {
					r := request(fmt.Sprint("a", i, k), "r")
					if res, err := s.Acquire(t.Context(), r); err != nil || res.Lease == nil {
						t.Errorf("acquire: %+v, %v", res, err)
					}
				}
			})
		}
		all.Wait()
	})
	t.Run("once", func(t *testing.T) {
		s := open("prefix=once&timeout=10s")
		if done, err := s.Init(t.Context()); !done || err != nil {
			t.Fatalf("a new store: %v, %v", done, err)
		}
		granted(t, s, request("a", "r"))
		if done, err := open("prefix=once&timeout=10s").Init(t.Context()); done || err != nil {
			t.Errorf("a second time: %v, %v", done, err)
		}
	})
	t.Run("not what is lost later", func(t *testing.T) {
		s := openOn(t, server, "later")
		granted(t, s, request("a", "r"))
		server.Must(t, "FLUSHALL")
		if _, err := s.Acquire(t.Context(), request("b", "r")); !errors.Is(err, driver.ErrQuarantined) {
			t.Errorf("after a flush: %v", err)
		}
	})
}

// The longest TTL is the store's: a driver that has another one is of no use.
func TestAnotherLongestTTLIsRefused(t *testing.T) {
	server := testenv.StartRedisT(t)
	granted(t, openURL(t, server.URL("max_ttl=5s")), request("a", "r"))
	s := openURL(t, server.URL("max_ttl=6s"))
	refused := func(what string, err error) {
		t.Helper()
		if !errors.Is(err, driver.ErrInvalid) || !strings.Contains(err.Error(), "6s here and 5s in the store") {
			t.Errorf("%s: %v, want an ErrInvalid that names both", what, err)
		}
	}
	refused("ping", s.Ping(t.Context()))
	_, err := s.Acquire(t.Context(), request("b", "r"))
	refused("acquire", err)
	_, err = s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: "k", Token: 1}, TTL: time.Second})
	refused("renew", err)
	server.Must(t, "DEL", s.shardPrefix(0)+"z") // what a new connection is told by
	met := openURL(t, server.URL("max_ttl=6s"))
	_, err = met.Acquire(t.Context(), request("b", "r"))
	refused("acquire on another shard", err)
}

// A server that becomes another one under an open connection is found out by what
// that connection says.
func TestTheConnectionItselfSaysWhoTheServerIs(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openURL(t, server.URL("max_ttl=20s"))
	granted(t, s, request("a", "r"))
	server.Must(t, "DEBUG", "CHANGE-REPL-ID")
	var err error
	i := 0
	until(t, "it is found out", func() bool {
		i++
		_, err = s.Acquire(t.Context(), request(fmt.Sprint("b", i), "r"))
		return err != nil
	})
	if !errors.Is(err, driver.ErrIndeterminate) && !errors.Is(err, driver.ErrQuarantined) {
		t.Fatalf("it fails with %v", err)
	}
	for i := range 20 {
		_, err := s.Acquire(t.Context(), request(fmt.Sprint("c", i), "r"))
		if !errors.Is(err, driver.ErrIndeterminate) && !errors.Is(err, driver.ErrQuarantined) {
			t.Fatalf("afterwards: %v", err)
		}
	}
}
