package redis

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// eventually acquires until it is granted; only what the contract allows of a
// store that cannot be reached may come before.
func eventually(t *testing.T, s *Store, r *driver.AcquireRequest) *driver.Lease {
	t.Helper()
	for end := time.Now().Add(patience); ; {
		res, err := s.Acquire(t.Context(), r)
		switch {
		case err == nil && res.Lease != nil:
			return res.Lease
		case err == nil:
			t.Fatalf("%s was queued", r.LockID)
		case !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, driver.ErrIndeterminate) && !errors.Is(err, driver.ErrQuarantined):
			t.Fatalf("acquire of %s: %v", r.LockID, err)
		case time.Now().After(end):
			t.Fatalf("acquire of %s fails for ever: %v", r.LockID, err)
		}
	}
}

// load acquires and releases on a few locks until it is stopped.
type load struct {
	cycles, failed atomic.Int64
	stop           context.CancelFunc
	running        sync.WaitGroup
}

func underLoad(t *testing.T, s *Store, workers int) *load {
	t.Helper()
	ctx, stop := context.WithCancel(context.Background())
	l := &load{stop: stop}
	for w := range workers {
		l.running.Go(func() {
			for i := 0; ctx.Err() == nil; i++ {
				r := request(fmt.Sprintf("load/%d/%d", w, i%50), fmt.Sprintf("%d-%d", w, i))
				res, err := s.Acquire(context.Background(), r)
				if err == nil && res.Lease != nil {
					_, err = s.Release(context.Background(), &driver.ReleaseRequest{LeaseRef: refOf(r, res.Lease), RequestID: r.RequestID})
				}
				switch {
				case err == nil:
					l.cycles.Add(1)
				case errors.Is(err, driver.ErrQuarantined): // a server that was promoted, or got a slot
				case errors.Is(err, driver.ErrUnavailable), errors.Is(err, driver.ErrIndeterminate), errors.Is(err, driver.ErrHeld), errors.Is(err, driver.ErrLost):
					l.failed.Add(1) // an acquire whose reply was lost holds its lock for a while
				default:
					t.Errorf("a call under load: %v", err)
					return
				}
			}
		})
	}
	t.Cleanup(l.end)
	return l
}

func (l *load) end() {
	l.stop()
	l.running.Wait()
}

// further waits until so many more cycles were done.
func (l *load) further(t *testing.T, n int64) {
	t.Helper()
	want := l.cycles.Load() + n
	until(t, "calls are done", func() bool { return l.cycles.Load() >= want })
}

func TestSentinelFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	env := testenv.StartSentinel(t, testenv.RedisOptions{})
	s := openURL(t, env.URL("timeout=1s&max_ttl=1s"))
	hints := watched(t, s)
	wantHint(t, hints, driver.Hint{Kind: driver.HintResync})
	held := request("held", "r")
	held.TTL = time.Minute
	lease := granted(t, s, held)
	first := env.Primary(t)
	first.WaitReplicated(t, 2)
	l := underLoad(t, s, 4)
	l.further(t, 100)
	env.KillPrimary(t)
	env.WaitForFailover(t, first)
	l.further(t, 100)
	wantHint(t, hints, driver.Hint{Kind: driver.HintResync})
	renewed, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(held, lease), TTL: time.Minute})
	if err != nil || renewed.Token != lease.Token {
		t.Errorf("a lease that the replica had: %+v, %v", renewed, err)
	}
	if w := s.sentinels.witnessed(); w.Primary == first.Addr() || w.Primary == "" || w.Epoch == 0 || w.At == 0 {
		t.Errorf("the Sentinels' word is %+v", w)
	}
	if d := s.Describe(); len(d) != 1 || d[0].Address == first.Addr() || d[0].Role != "primary" || d[0].RunID == "" || d[0].Refused != "" {
		t.Errorf("the servers are %+v", d)
	}
}

// A primary that was given up may still answer. Its clients leave it.
func TestAStoppedPrimaryIsLeft(t *testing.T) {
	t.Parallel()
	env := testenv.StartSentinel(t, testenv.RedisOptions{})
	s := openURL(t, env.URL("timeout=1s&max_ttl=1s"))
	granted(t, s, request("a", "r"))
	old := env.PausePrimary(t)
	next := env.WaitForFailover(t, old)
	until(t, "the driver follows", func() bool { n := s.topology.route(0); return n != nil && n.addr == next.Addr() })
	l := eventually(t, s, request("b", "r"))
	if err := old.Resume(); err != nil {
		t.Fatal(err)
	}
	if n := holders(t, s, "b"); n != 1 {
		t.Errorf("the lease after the failover (token %d) has %d holders", l.Token, n)
	}
}

func TestSentinelsWithoutAMajority(t *testing.T) {
	t.Parallel()
	env := testenv.StartSentinel(t, testenv.RedisOptions{})
	env.Sentinels[0].Kill()
	granted(t, openURL(t, env.URL()), request("a", "two of three"))
	env.Sentinels[1].Kill()
	s := openURL(t, env.URL("timeout=500ms"))
	if _, err := s.Acquire(t.Context(), request("b", "r")); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "majority") {
		t.Errorf("one Sentinel of three: %v", err)
	}
	if err := s.Ping(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	if err := env.Sentinels[0].Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, s, request("b", "r"))
	unknown := openURL(t, strings.Replace(env.URL("timeout=5s"), "/"+testenv.SentinelName, "/other", 1))
	if _, err := unknown.Acquire(t.Context(), request("b", "r")); !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), "No such master") {
		t.Errorf("a name that nobody knows: %v", err)
	}
}

// lockIn is a lock whose keys are with the node.
func lockIn(t *testing.T, s *Store, r *testenv.Redis, name string) string {
	t.Helper()
	for i := range 1000 {
		id := fmt.Sprint(name, i)
		if n := s.topology.route(s.slot(shardOf(id))); n != nil && n.addr == r.Addr() {
			return id
		}
	}
	t.Fatalf("no lock is with %s", r.Addr())
	return ""
}

func TestSlots(t *testing.T) {
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	s := openURL(t, env.URL())
	for _, key := range []string{"a", "locksidecar:sweeper", "x{}y", "x{y", "{user1000}.following", "foo{{bar}}zap", "locksidecar:{fff}:l:a"} {
		if got := int(slotOf(key)); got != env.KeySlot(t, key) {
			t.Errorf("slot of %q is %d, want %d", key, got, env.KeySlot(t, key))
		}
	}
	if got := int(s.slot(0x0a3)); got != env.KeySlot(t, "locksidecar:{0a3}:l:x") {
		t.Errorf("the slot of a shard is %d", got)
	}
}

func TestRedirections(t *testing.T) {
	for text, want := range map[string]string{
		"MOVED 3999 10.0.0.1:6381": "3999 10.0.0.1 6381", "ASK 0 db-1.example:1": "0 db-1.example 1", "MOVED 16383 ::1:7000": "16383 ::1 7000",
		"MOVED 1 [::1]:7000": "1 ::1 7000", "MOVED 7 :6381": "7  6381", "MOVED 7 ?:6381": "7  6381",
	} {
		slot, host, port, ok := redirection(text)
		if got := fmt.Sprint(slot, " ", host, " ", port); !ok || got != want {
			t.Errorf("%q is read as %q, %v", text, got, ok)
		}
	}
	for _, text := range []string{"MOVED", "MOVED 1", "MOVED x h:1", "MOVED -1 h:1", "MOVED 16384 h:1", "MOVED 1 h", "MOVED 1 h:", "MOVED 1 h:1 more"} {
		if slot, host, port, ok := redirection(text); ok {
			t.Errorf("%q is read as %d, %s, %s", text, slot, host, port)
		}
	}
}

func TestClusterServesEveryShard(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	s := openURL(t, env.URL())
	const n = 300
	var all sync.WaitGroup
	all.Add(n)
	leases, reqs := make([]*driver.Lease, n), make([]*driver.AcquireRequest, n)
	for i := range n {
		reqs[i] = request(fmt.Sprint("lock", i), fmt.Sprint("r", i))
		s.AcquireAsync(t.Context(), reqs[i], func(res *driver.AcquireResult, err error) {
			defer all.Done()
			if err != nil || res.Lease == nil {
				t.Errorf("acquire: %+v, %v", res, err)
				return
			}
			leases[i] = res.Lease
		})
	}
	all.Wait()
	if t.Failed() {
		t.FailNow()
	}
	for _, r := range env.Nodes {
		if r.Must(t, "DBSIZE").(int64) == 0 {
			t.Errorf("%s has none of the locks", r.Addr())
		}
	}
	renew := make([]driver.RenewRequest, n)
	for i := range renew {
		renew[i] = driver.RenewRequest{LeaseRef: refOf(reqs[i], leases[i]), TTL: time.Minute}
	}
	for i, res := range s.RenewMany(t.Context(), renew) {
		if res.Err != nil || res.Lease.LockID != reqs[i].LockID {
			t.Fatalf("renewal %d: %+v", i, res)
		}
	}
	var listed []string
	for token := ""; ; {
		page, err := s.List(t.Context(), &driver.ListRequest{Prefix: "lock", PageSize: 77, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range page.Locks {
			listed = append(listed, l.LockID)
		}
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	slices.Sort(listed)
	if len(slices.Compact(listed)) != n {
		t.Errorf("%d locks were listed, want %d", len(listed), n)
	}
	if err := s.Ping(t.Context()); err != nil {
		t.Error(err)
	}
	if d := s.Describe(); len(d) != 3 {
		t.Errorf("the servers are %+v", d)
	}
}

// A waiter hears of its turn, and an expiry is found, whichever node has the lock.
func TestClusterHintsAndSweeps(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	s := openURL(t, env.URL())
	hints := watched(t, s)
	wantHint(t, hints, driver.Hint{Kind: driver.HintResync})
	for i, r := range env.Nodes {
		eventually(t, s, request(fmt.Sprint("warm", i), "r"))
		lock := lockIn(t, s, r, fmt.Sprintf("hint%d/", i))
		holder, waiter := request(lock, "holder"), queued(request(lock, "waiter"))
		l := granted(t, s, holder)
		if _, err := s.Acquire(t.Context(), waiter); err != nil {
			t.Fatal(err)
		}
		release(t, s, holder, l)
		wantHint(t, hints, driver.Hint{Kind: driver.HintGrantable, LockID: lock, RequestID: "waiter"})
		brief := request(lockIn(t, s, r, fmt.Sprintf("brief%d/", i)), "r")
		brief.TTL = time.Second
		granted(t, s, brief)
		var found []string
		until(t, "the expiry on "+r.Addr()+" is found", func() bool {
			ends, err := s.Sweep(t.Context())
			if err != nil {
				t.Fatal(err)
			}
			if err := s.Told(t.Context(), ends); err != nil {
				t.Fatal(err)
			}
			for _, e := range ends {
				found = append(found, e.LockID)
			}
			return slices.Contains(found, brief.LockID)
		})
	}
}

func TestClusterWhileASlotMoves(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{})
	s := openURL(t, env.URL("timeout=20s"))
	eventually(t, s, request("warm", "r"))
	from, to := env.Nodes[0], env.Nodes[1]
	lock := lockIn(t, s, from, "moving")
	slot := int(s.slot(shardOf(lock)))
	r := request(lock, "r")
	l := granted(t, s, r)
	renew := func() error {
		_, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute})
		return err
	}
	m := env.BeginMove(t, slot, from, to)
	// Of several keys a server has some: it says so, until the time is over.
	m.Key(t, s.shardPrefix(shardOf(lock))+"l:"+lock)
	short := openURL(t, env.URL("timeout=2s"))
	if _, err := short.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute}); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("a lock that is in two places: %v", err)
	}
	moved := make(chan error, 1)
	go func() { moved <- renew() }()
	m.Keys(t)
	m.End(t)
	if err := <-moved; err != nil {
		t.Errorf("a renewal that came during the move: %v", err)
	}
	if err := renew(); err != nil {
		t.Errorf("a renewal after the move: %v", err)
	}
	if n := s.topology.route(uint16(slot)); n.addr != to.Addr() {
		t.Errorf("the slot is taken to be with %s", n.addr)
	}
	load := underLoad(t, s, 4)
	for range 20 {
		env.MoveSlot(t, slot, to, from)
		env.MoveSlot(t, slot, from, to)
		if err := renew(); err != nil {
			t.Errorf("a renewal while the slot moves back and forth: %v", err)
		}
	}
	load.end()
	if load.failed.Load() > 0 {
		t.Errorf("%d calls failed while one slot moved", load.failed.Load())
	}
}

func TestClusterFailoverUnderLoad(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 1, testenv.RedisOptions{})
	s := openURL(t, env.URL("timeout=1s&max_ttl=1s"))
	eventually(t, s, request("warm", "r"))
	victim := env.Primaries(t)[0]
	held := request(lockIn(t, s, victim, "held"), "r")
	held.TTL = time.Minute
	lease := granted(t, s, held)
	victim.WaitReplicated(t, 1)
	l := underLoad(t, s, 4)
	l.further(t, 100)
	victim.Kill()
	env.WaitForFailover(t, int(s.slot(shardOf(held.LockID))), victim)
	until(t, "the lease that the replica had is renewed", func() bool {
		renewed, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(held, lease), TTL: time.Minute})
		if err != nil && !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, driver.ErrIndeterminate) {
			t.Fatal(err)
		}
		return err == nil && renewed.Token == lease.Token
	})
	l.further(t, 100)
}

// One node that hangs does not hold up the others' locks.
func TestASlowNodeHoldsUpItsOwnLocksOnly(t *testing.T) {
	t.Parallel()
	env := testenv.StartCluster(t, 0, testenv.RedisOptions{Args: []string{"--cluster-node-timeout", "60000"}})
	s := openURL(t, env.URL("timeout=20s"))
	eventually(t, s, request("warm", "r"))
	slow, fast := lockIn(t, s, env.Nodes[0], "slow"), lockIn(t, s, env.Nodes[1], "fast")
	granted(t, s, request(slow, "before"))
	if err := env.Nodes[0].Pause(); err != nil {
		t.Fatal(err)
	}
	stuck := make(chan error, maxFlying+1)
	for i := range cap(stuck) {
		s.AcquireAsync(t.Context(), request(slow, fmt.Sprint("r", i)), func(_ *driver.AcquireResult, err error) { stuck <- err })
	}
	r := request(fast, "r")
	release(t, s, r, granted(t, s, r))
	select {
	case err := <-stuck:
		t.Errorf("a call to a node that hangs ended before: %v", err)
	default:
	}
	if err := env.Nodes[0].Resume(); err != nil {
		t.Fatal(err)
	}
	for range cap(stuck) {
		t.Logf("a stuck call ended: %v", <-stuck)
	}
}
