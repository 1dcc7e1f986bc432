package etcd_test

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// A change of the leader costs nobody the lease and no waiter its place, whether
// the old leader dies or falls silent; the lock goes on to the waiter with a
// greater token.
func TestALeaderThatFallsCostsNoLease(t *testing.T) {
	for name, fall := range map[string]func(*testenv.EtcdMember) error{
		"killed":  func(m *testenv.EtcdMember) error { m.Kill(); return nil },
		"stopped": func(m *testenv.EtcdMember) error { return m.Pause() },
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			e := start(t, 3)
			one, two := openAt(t, e.URL()), openAt(t, e.URL())
			r, next := asked("a", "one"), asked("a", "two")
			l := granted(t, one, r)
			queued(t, two, next, 1)
			old := e.Leader(t)
			must(t, fall(old))
			for range 3 {
				renewal, err := renewed(t, one, refOf(r, l), ttl)
				if err != nil || renewal.Token != l.Token {
					t.Fatalf("renew: %+v, %v", renewal, err)
				}
				queued(t, two, next, 1)
			}
			if e.Leader(t) == old {
				t.Error("the leader is the old one")
			}
			if name == "killed" {
				must(t, old.Restart(t.Context()))
			} else {
				must(t, old.Resume())
			}
			heldBy(t, two, "a", l.Token, 1)
			released(t, one, r, l)
			if got := awaited(t, two, next); got.Token <= l.Token {
				t.Errorf("the token %d follows %d", got.Token, l.Token)
			}
			_, err := renewed(t, one, refOf(r, l), ttl)
			lostBy(t, "renew after the release", err, driver.CauseReleased)
		})
	}
}

// Any one member of three may stand still, the one that a driver speaks to too.
func TestOneMemberThatStandsStillIsPassedBy(t *testing.T) {
	t.Parallel()
	e := start(t, 3)
	d := openAt(t, e.URL(), "timeout=1s")
	r := asked("a", "one")
	l := granted(t, d, r)
	for _, m := range e.Members {
		must(t, m.Pause())
		if _, err := renewed(t, d, refOf(r, l), ttl); err != nil {
			t.Errorf("renew: %v", err)
		}
		other := asked("b", "other")
		released(t, d, other, granted(t, d, other))
		must(t, m.Resume())
		e.Leader(t)
	}
	// Whoever knows a silent one alone is told so in time.
	must(t, e.Members[0].Pause())
	alone := openAt(t, "etcd://"+e.Members[0].Addr(), "timeout=1s")
	for name, call := range calls(alone, r, l) {
		began := time.Now()
		if err := call(t.Context()); !open(err) {
			t.Errorf("%s at a silent member: %v", name, err)
		}
		if took := time.Since(began); took > patience {
			t.Errorf("%s took %v", name, took)
		}
	}
	must(t, e.Members[0].Resume())
	heldBy(t, alone, "a", l.Token, 1)
}

// calls are one of each kind, on a lease that stands.
func calls(d driver.Driver, r *driver.AcquireRequest, l *driver.Lease) map[string]func(context.Context) error {
	return map[string]func(context.Context) error{
		"acquire": func(ctx context.Context) error { _, err := d.Acquire(ctx, asked("c", "x")); return err },
		"queue":   func(ctx context.Context) error { _, err := d.Acquire(ctx, queuing(asked(r.LockID, "x"))); return err },
		"renew": func(ctx context.Context) error {
			_, err := d.Renew(ctx, &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: ttl})
			return err
		},
		"leave": func(ctx context.Context) error {
			return d.Leave(ctx, &driver.LeaveRequest{LockID: r.LockID, RequestID: "none"})
		},
		"inspect": func(ctx context.Context) error { _, err := d.Inspect(ctx, r.LockID); return err },
		"list":    func(ctx context.Context) error { _, err := d.List(ctx, &driver.ListRequest{PageSize: 10}); return err },
		"ping":    d.Ping,
	}
}

// Without a majority nothing is granted or renewed, and each call says so in
// time. When it is back, the lock passes on, not before the first holder's
// valid-until; a lease that the store kept meanwhile (it stretches leases, and
// never shortens them) is renewed under its token.
func TestWithoutAMajorityNothingIsGranted(t *testing.T) {
	t.Parallel()
	e := start(t, 3)
	one, two := openAt(t, e.URL(), "timeout=1s"), openAt(t, e.URL(), "timeout=1s")
	r, kept := lasting(asked("a", "one"), 4*time.Second), asked("kept", "one")
	l, long := granted(t, one, r), granted(t, one, kept)
	last, err := renewed(t, one, refOf(r, l), r.TTL)
	must(t, err)
	leader := e.Leader(t)
	follower := e.Followers(t)[0]
	leader.Kill()
	follower.Kill()
	until(t, "the driver says that the store is unavailable", func() bool { return one.Ping(t.Context()) != nil })
	for name, call := range calls(one, kept, long) {
		if err := call(t.Context()); !open(err) {
			t.Errorf("%s without a majority: %v", name, err)
		}
	}
	must(t, leader.Revive(), follower.Revive())
	next := asked("a", "two")
	rival := awaited(t, two, next)
	if early := validUntil(last).Sub(rival.Origin); early > 0 {
		t.Errorf("a second holder was admitted %v before the first one's valid-until", early)
	}
	if rival.Token <= l.Token {
		t.Errorf("the token %d follows %d", rival.Token, l.Token)
	}
	_, err = renewed(t, one, refOf(r, l), r.TTL)
	lostBy(t, "renew of the first holder", err, "")
	if again, err := renewed(t, one, refOf(kept, long), ttl); err != nil || again.Token != long.Token {
		t.Errorf("the lease that stands is renewed to %+v, %v", again, err)
	}
}

// A server that is killed and started again on its data keeps leases, places and
// tokens.
func TestARestartOnItsDataKeepsLeases(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	one, two := openAt(t, e.URL()), openAt(t, e.URL())
	r, next := asked("a", "one"), asked("a", "two")
	l := granted(t, one, r)
	queued(t, two, next, 1)
	for range 3 {
		must(t, e.Restart(t.Context()))
		queued(t, two, next, 1)
		if again, err := renewed(t, one, refOf(r, l), ttl); err != nil || again.Token != l.Token {
			t.Fatalf("renew after a restart: %+v, %v", again, err)
		}
	}
	released(t, one, r, l)
	if got := awaited(t, two, next); got.Token <= l.Token {
		t.Errorf("the token %d follows %d", got.Token, l.Token)
	}
}

// A store that is down when the driver is opened is used as soon as it is up.
func TestAStoreThatIsDownAtFirst(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	e.Members[0].Kill()
	d := openAt(t, e.URL(), "timeout=1s")
	if _, err := d.Acquire(t.Context(), asked("a", "one")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("acquire: %v", err)
	}
	must(t, e.Members[0].Restart(t.Context()))
	r := asked("a", "one")
	released(t, d, r, granted(t, d, r))
}

// A waiter is served although the revisions from which its driver watches have
// been compacted away while the driver was cut off; hints go on after that.
func TestAWatchThatWasCompactedGoesOn(t *testing.T) {
	t.Parallel()
	e := start(t, 1)
	proxy := testenv.StartProxy(t, e.Members[0].Addr())
	cut, direct := openAt(t, "etcd://"+proxy.Addr(), "timeout=1s"), openAt(t, e.URL())
	hints := make(chan driver.Hint, 4096)
	ctx, stop := context.WithCancel(t.Context())
	watching := make(chan error, 1)
	go func() {
		watching <- cut.Watch(ctx, func(h driver.Hint) {
			select {
			case hints <- h:
			default:
			}
		})
	}()
	defer func() {
		stop()
		if err := <-watching; !errors.Is(err, context.Canceled) {
			t.Errorf("watch: %v", err)
		}
	}()
	for round := range 3 {
		holder, waiter := asked("a", "holder"), asked("a", "waiter")
		l := granted(t, direct, holder)
		queued(t, cut, waiter, 1)
		if round != 1 {
			// Before and after the compaction: a hint, long before a poll.
			released(t, direct, holder, l)
			for hinted := false; !hinted; {
				select {
				case h := <-hints:
					hinted = h.Kind == driver.HintGrantable && h.RequestID == waiter.RequestID
				case <-time.After(patience):
					t.Fatalf("round %d: there is no hint", round)
				}
			}
		} else {
			proxy.DropReplies.Store(true)
			released(t, direct, holder, l)
			for range 20 {
				other := asked("b", "other")
				released(t, direct, other, granted(t, direct, other))
			}
			e.Compact(t)
			proxy.DropReplies.Store(false)
			proxy.Reset()
		}
		got := awaited(t, cut, waiter)
		if got.Token <= l.Token {
			t.Errorf("round %d: the token %d follows %d", round, got.Token, l.Token)
		}
		released(t, cut, waiter, got)
	}
}
