package etcd_test

import (
	"context"
	"errors"
	"fmt"
	"testing"
	"time"

	clientv3 "go.etcd.io/etcd/client/v3"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// writes are the requests by which a store is changed.
var writes = []string{"Put", "Txn", "DeleteRange", "LeaseGrant", "LeaseRevoke", "LeaseKeepAlive"}

// points bounds the writes of one operation that are met, one after the other.
const points = 12

// scene is a lock at which something is done through a proxy that loses, breaks,
// repeats or keeps back one of the writes.
type scene struct {
	*testing.T
	// faulty goes through the proxy, direct does not.
	faulty, direct driver.Driver
	lock           string
	inject         func() *testenv.Injection
	met            *testenv.Injection
}

// faulted makes a call, one of whose writes meets the fault, with little time;
// what the caller learns leaves it open, or is the outcome. Then it repeats the
// call until the outcome is known, and what was kept back comes late.
func (s *scene) faulted(call func(ctx context.Context) error) error {
	s.Helper()
	s.met = s.inject()
	ctx, cancel := context.WithTimeout(s.Context(), time.Second)
	first := call(ctx)
	cancel()
	last := first
	if first == nil || open(first) {
		last = settled(s.T, call)
	}
	s.late()
	return last
}

// late lets what was kept back come, and waits until it has.
func (s *scene) late() {
	s.Helper()
	s.met.Release()
	if s.met.Happened() && s.held() {
		select {
		case <-s.met.Answered():
		case <-time.After(patience):
			s.Fatal("what was kept back is not answered")
		}
	}
}

// held tells whether the fault keeps a request back.
func (s *scene) held() bool { return s.met.Fault() == testenv.HoldRequest }

// must fails the test unless there is no error.
func (s *scene) must(what string, err error) {
	s.Helper()
	if err != nil {
		s.Fatalf("%s: %v", what, err)
	}
}

// acquired is a faulted acquire that ends with a lease.
func (s *scene) acquired(r *driver.AcquireRequest) (l *driver.Lease) {
	s.Helper()
	s.must("acquire", s.faulted(func(ctx context.Context) error {
		res, err := s.faulty.Acquire(ctx, r)
		if err != nil {
			return err
		}
		if res.Lease == nil || l != nil && l.Token != res.Lease.Token {
			s.Fatalf("acquire: %+v after the lease %+v", res, l)
		}
		l = res.Lease
		return nil
	}))
	return l
}

// passes wants that the lock goes on to somebody else at once, with a greater
// token, and that it is free then.
func (s *scene) passes(after int64) {
	s.Helper()
	next := asked(s.lock, "next")
	l := granted(s.T, s.direct, next)
	if l.Token <= after {
		s.Errorf("the token %d follows %d", l.Token, after)
	}
	released(s.T, s.direct, next, l)
	if l := seen(s.T, s.direct, s.lock); len(l.Holders)+len(l.Waiters) > 0 {
		s.Errorf("the lock is %+v, want it free", l)
	}
}

// operations are what is done, each with what must hold whatever was lost.
var operations = map[string]func(s *scene){
	"acquire": func(s *scene) {
		r := asked(s.lock, "one")
		l := s.acquired(r)
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.faulty, r, l)
		s.passes(l.Token)
	},
	"re-enter": func(s *scene) {
		r := asked(s.lock, "one")
		l := granted(s.T, s.faulty, r)
		again := asked(s.lock, "one")
		again.Reentrant, again.Key = true, r.Key
		if got := s.acquired(again); got.Token != l.Token {
			s.Errorf("re-entered under %d, want %d", got.Token, l.Token)
		}
		heldBy(s.T, s.direct, s.lock, l.Token, 2)
		released(s.T, s.faulty, again, l)
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.faulty, r, l)
		s.passes(l.Token)
	},
	"queue": func(s *scene) {
		holder, waiter := asked(s.lock, "holder"), queuing(asked(s.lock, "waiter"))
		l := granted(s.T, s.direct, holder)
		s.must("queue", s.faulted(func(ctx context.Context) error {
			res, err := s.faulty.Acquire(ctx, waiter)
			if err == nil && (res.Lease != nil || res.Position != 1 || res.QueueLength != 1) {
				s.Errorf("queue: %+v", res)
			}
			return err
		}))
		if at := seen(s.T, s.direct, s.lock); len(at.Waiters) != 1 {
			s.Errorf("the waiters are %+v, want one", at.Waiters)
		}
		released(s.T, s.direct, holder, l)
		got := awaited(s.T, s.faulty, waiter)
		heldBy(s.T, s.direct, s.lock, got.Token, 1)
		released(s.T, s.faulty, waiter, got)
		s.passes(got.Token)
	},
	"claim": func(s *scene) {
		holder, waiter := asked(s.lock, "holder"), asked(s.lock, "waiter")
		l := granted(s.T, s.direct, holder)
		queued(s.T, s.faulty, waiter, 1)
		released(s.T, s.direct, holder, l)
		got := s.acquired(waiter)
		heldBy(s.T, s.direct, s.lock, got.Token, 1)
		if at := seen(s.T, s.direct, s.lock); len(at.Waiters) != 0 {
			s.Errorf("the waiters are %+v, want none", at.Waiters)
		}
		released(s.T, s.faulty, waiter, got)
		s.passes(got.Token)
	},
	"renew": func(s *scene) {
		r := asked(s.lock, "one")
		l := granted(s.T, s.faulty, r)
		before := validUntil(l)
		s.must("renew", s.faulted(func(ctx context.Context) error {
			again, err := s.faulty.Renew(ctx, &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: ttl})
			if err == nil && (again.Token != l.Token || len(again.Holds) != 1) {
				s.Errorf("renewed to %+v", again)
			}
			if err == nil && validUntil(again) < before {
				s.Errorf("a renewal took %v from valid-until", before.Sub(validUntil(again)))
			}
			return err
		}))
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.faulty, r, l)
		s.passes(l.Token)
	},
	"adopt": func(s *scene) {
		r := asked(s.lock, "one")
		l := granted(s.T, s.direct, r)
		ref := refOf(r, l)
		ref.Attach = 0
		var adopted *driver.Lease
		s.must("adopt", s.faulted(func(ctx context.Context) (err error) {
			adopted, err = s.faulty.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: ttl})
			return err
		}))
		if s.held() {
			// The late one is another attachment: the last counts.
			s.must("adopt", settled(s.T, func(ctx context.Context) (err error) {
				adopted, err = s.faulty.Adopt(ctx, &driver.RenewRequest{LeaseRef: ref, TTL: ttl})
				return err
			}))
		}
		if again, err := renewed(s.T, s.faulty, refOf(r, adopted), ttl); err != nil || again.Token != l.Token {
			s.Errorf("renew by the last attachment: %+v, %v", again, err)
		}
		_, err := renewed(s.T, s.direct, refOf(r, l), ttl)
		lostBy(s.T, "renew by the first attachment", err, driver.CauseReattached)
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.faulty, r, adopted)
		s.passes(l.Token)
	},
	"release": func(s *scene) {
		r, waiter := asked(s.lock, "one"), asked(s.lock, "waiter")
		l := granted(s.T, s.faulty, r)
		queued(s.T, s.direct, waiter, 1)
		var next *driver.Lease
		s.met = s.inject()
		release := releasing(s.faulty, r, l)
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		if err := release(ctx); err != nil && !open(err) {
			s.Errorf("release: %v", err)
		}
		cancel()
		s.must("release", settled(s.T, release))
		next = awaited(s.T, s.direct, waiter)
		s.late()
		// Neither a late copy nor a repeat touches the next holder.
		s.must("release again", settled(s.T, release))
		heldBy(s.T, s.direct, s.lock, next.Token, 1)
		_, err := renewed(s.T, s.faulty, refOf(r, l), ttl)
		lostBy(s.T, "renew after the release", err, driver.CauseReleased)
		released(s.T, s.direct, waiter, next)
		s.passes(next.Token)
	},
	"release one hold of two": func(s *scene) {
		r := asked(s.lock, "one")
		l := granted(s.T, s.faulty, r)
		again := asked(s.lock, "one")
		again.Reentrant, again.Key = true, r.Key
		granted(s.T, s.faulty, again)
		s.must("release", s.faulted(releasing(s.faulty, again, l)))
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.faulty, r, l)
		s.passes(l.Token)
	},
	"leave a grant": func(s *scene) {
		r := asked(s.lock, "one")
		l := granted(s.T, s.faulty, r)
		s.must("leave", s.faulted(func(ctx context.Context) error {
			return s.faulty.Leave(ctx, &driver.LeaveRequest{LockID: s.lock, RequestID: r.RequestID, Key: r.Key})
		}))
		_, err := attempt(s.T, s.faulty, r)
		lostBy(s.T, "acquire after it was left", err, driver.CauseReleased)
		s.passes(l.Token)
	},
	"leave a place": func(s *scene) {
		holder, waiter := asked(s.lock, "holder"), asked(s.lock, "waiter")
		l := granted(s.T, s.direct, holder)
		queued(s.T, s.faulty, waiter, 1)
		s.must("leave", s.faulted(func(ctx context.Context) error {
			return s.faulty.Leave(ctx, &driver.LeaveRequest{LockID: s.lock, RequestID: waiter.RequestID, Key: waiter.Key})
		}))
		if at := seen(s.T, s.direct, s.lock); len(at.Waiters) != 0 {
			s.Errorf("the waiters are %+v, want none", at.Waiters)
		}
		heldBy(s.T, s.direct, s.lock, l.Token, 1)
		released(s.T, s.direct, holder, l)
		s.passes(l.Token)
	},
	"leave an acquire whose outcome is unknown": func(s *scene) {
		r := asked(s.lock, "one")
		s.met = s.inject()
		ctx, cancel := context.WithTimeout(s.Context(), time.Second)
		if _, err := s.faulty.Acquire(ctx, r); err != nil && !open(err) {
			s.Errorf("acquire: %v", err)
		}
		cancel()
		s.must("leave", settled(s.T, func(ctx context.Context) error {
			return s.faulty.Leave(ctx, &driver.LeaveRequest{LockID: s.lock, RequestID: r.RequestID, Key: r.Key})
		}))
		s.late() // the acquire, after it was undone
		s.passes(0)
		_, err := attempt(s.T, s.faulty, r)
		lostBy(s.T, "acquire after it was left", err, driver.CauseReleased)
	},
	"evict": func(s *scene) {
		r, waiter := asked(s.lock, "one"), asked(s.lock, "waiter")
		l := granted(s.T, s.direct, r)
		queued(s.T, s.direct, waiter, 1)
		evict := func(ctx context.Context) error {
			ended, err := s.faulty.Evict(ctx, &driver.EvictRequest{LockID: s.lock, Token: l.Token, Cause: driver.CauseForced})
			if err == nil && (ended.Token != l.Token || ended.OwnerID != "one" || ended.Cause != driver.CauseForced) {
				s.Errorf("evicted %+v", ended)
			}
			return err
		}
		// Whoever repeats may find that it has won.
		if err := s.faulted(evict); err != nil {
			lostBy(s.T, "evict", err, driver.CauseForced)
		}
		_, err := renewed(s.T, s.direct, refOf(r, l), ttl)
		lostBy(s.T, "renew after the eviction", err, driver.CauseForced)
		next := awaited(s.T, s.direct, waiter)
		if err := settled(s.T, evict); err == nil {
			s.Error("evicted twice")
		}
		heldBy(s.T, s.direct, s.lock, next.Token, 1)
		released(s.T, s.direct, waiter, next)
		s.passes(next.Token)
	},
	"revoke": func(s *scene) {
		r, waiter := asked(s.lock, "one"), asked(s.lock, "waiter")
		l := granted(s.T, s.direct, r)
		queued(s.T, s.direct, waiter, 1)
		s.must("revoke", s.faulted(func(ctx context.Context) error {
			_, err := s.faulty.Revoke(ctx, &driver.EvictRequest{LockID: s.lock, Token: l.Token, Cause: driver.CauseForced})
			return err
		}))
		_, err := renewed(s.T, s.direct, refOf(r, l), ttl)
		lostBy(s.T, "renew after the revocation", err, driver.CauseForced)
		queued(s.T, s.direct, waiter, 1)
		released(s.T, s.direct, r, l) // the holder's acknowledgement
		next := awaited(s.T, s.direct, waiter)
		released(s.T, s.direct, waiter, next)
		s.passes(next.Token)
	},
}

// Whatever write of an operation is lost, or its reply, or comes twice or late:
// what the caller learns is the outcome or leaves it open, a repeat settles it, and
// nothing happens twice.
func TestALostWriteAtEveryPoint(t *testing.T) {
	e := start(t, 1)
	for name, operate := range operations {
		for _, fault := range testenv.Faults() {
			if fault == testenv.TearReply {
				continue // what a proxy of calls breaks, it breaks whole
			}
			t.Run(name+"/"+fault.String(), func(t *testing.T) {
				t.Parallel()
				direct := openAt(t, e.URL())
				met := 0
				for n := 1; n <= points; n++ {
					proxy := testenv.StartEtcdProxy(t, e.Members[0].Addr())
					s := &scene{
						T: t, faulty: openAt(t, proxy.URL(), "timeout=500ms"), direct: direct,
						lock:   fmt.Sprintf("%s/%d/%d", safe(name), int(fault), n),
						inject: func() *testenv.Injection { return proxy.FailAt(n, fault, writes...) },
					}
					warm := asked("warm/"+s.lock, "warm")
					released(t, s.faulty, warm, granted(t, s.faulty, warm))
					operate(s)
					if !s.met.Happened() {
						break
					}
					met++
				}
				if met == 0 {
					t.Error("there was no write to be lost")
				}
				t.Logf("%d writes met", met)
			})
		}
	}
}

// safe is a name as a lock id may have it.
func safe(name string) string {
	b := []byte(name)
	for i := range b {
		if b[i] == ' ' {
			b[i] = '-'
		}
	}
	return string(b)
}

// What an acquire left behind whose caller went away, whatever was lost of it, is
// gone after its time.
func TestAnAbandonedAcquireEndsByItself(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	direct := openAt(t, e.URL())
	for _, fault := range []testenv.Fault{testenv.LoseReply, testenv.BreakReply, testenv.HoldRequest} {
		t.Run(fault.String(), func(t *testing.T) {
			t.Parallel()
			for n := 1; n <= points; n++ {
				proxy := testenv.StartEtcdProxy(t, e.Members[0].Addr())
				faulty := openAt(t, proxy.URL(), "timeout=500ms")
				warm := asked("warm", fmt.Sprint(int(fault), n))
				released(t, faulty, warm, awaited(t, faulty, warm))
				i := proxy.FailAt(n, fault, writes...)
				lock := fmt.Sprintf("abandoned/%d/%d", int(fault), n)
				r := lasting(asked(lock, "one"), 2*time.Second)
				r.PlaceTTL = 2 * time.Second
				if _, err := faulty.Acquire(t.Context(), r); err != nil && !open(err) {
					t.Errorf("acquire: %v", err)
				}
				i.Release()
				next := asked(lock, "next")
				released(t, direct, next, awaited(t, direct, next))
				if _, err := attempt(t, direct, r); err != nil && !errors.Is(err, driver.ErrLost) {
					t.Errorf("the late repeat: %v", err)
				}
				if !i.Happened() {
					break
				}
			}
		})
	}
}

// Nothing is left of what was used: when the drivers are closed and the times are
// over, there are no leases and no keys on leases.
func TestNothingIsLeftBehind(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	func() {
		d := openAt(t, e.URL())
		for i := range 200 {
			r := lasting(asked(fmt.Sprint("a", i%7), "one"), 5*time.Second)
			l := granted(t, d, r)
			if i%2 == 0 {
				waiter := asked(r.LockID, "two")
				waiter.PlaceTTL = 5 * time.Second
				queued(t, d, waiter, 1)
				must(t, d.Leave(t.Context(), &driver.LeaveRequest{LockID: r.LockID, RequestID: waiter.RequestID, Key: waiter.Key}))
			}
			if i%3 > 0 {
				if _, err := renewed(t, d, refOf(r, l), r.TTL); err != nil {
					t.Fatal(err)
				}
			}
			released(t, d, r, l)
		}
		must(t, d.Close())
	}()
	until(t, "no lease is left", func() bool { return len(e.Leases(t)) == 0 })
	kvs, err := e.Client(t).Get(t.Context(), "", clientv3.WithPrefix())
	must(t, err)
	for _, kv := range kvs.Kvs {
		if kv.Lease != 0 {
			t.Errorf("the key %q is on a lease that is gone", kv.Key)
		}
	}
	if n := len(kvs.Kvs); n > 40 {
		t.Errorf("%d keys are left of 7 locks", n)
	}
}
