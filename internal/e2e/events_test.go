package e2e

import (
	"context"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"os/exec"
	"slices"
	"strconv"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/backend"
	"github.com/locksidecar/locksidecar/backend/embedded"
	"github.com/locksidecar/locksidecar/internal/events"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// stream collects the events of one sidecar.
type stream struct {
	mu     sync.Mutex
	events []*lockpb.Event
}

func (s *stream) add(e ...*lockpb.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.events = append(s.events, e...)
}

// of returns the events of a type; of every type if it is empty.
func (s *stream) of(kind string) (found []*lockpb.Event) {
	s.mu.Lock()
	defer s.mu.Unlock()
	for _, e := range s.events {
		if kind == "" || e.GetType() == kind {
			found = append(found, e)
		}
	}
	return found
}

// watch collects a sidecar's events from now until the test ends or the stream
// does.
func watch(t *testing.T, c client, in *lockpb.WatchRequest) *stream {
	t.Helper()
	w, err := c.Watch(within(t), in)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Header(); err != nil {
		t.Fatal(err)
	}
	s := &stream{}
	go func() {
		for {
			e, err := w.Recv()
			if err != nil {
				return
			}
			s.add(e)
		}
	}()
	return s
}

// union are the events of a type in all the streams.
func union(streams []*stream, kind string) (all []*lockpb.Event) {
	for _, s := range streams {
		all = append(all, s.of(kind)...)
	}
	return all
}

// toldAgain is more than the time after which an end that nobody acknowledged
// is told again.
const toldAgain = 7 * time.Second

// Holders die, by their process, by their sidecar, and one that never renewed;
// nobody waits: the fleet tells each expiry once.
func TestADeadHoldersExpiryIsToldOnceInTheFleet(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	var fleet []*configured
	var streams []*stream
	for range 3 {
		c := configure(t, fmt.Sprintf("backends: {main: {url: %q}}\n", redis.URL()))
		fleet, streams = append(fleet, c), append(streams, watch(t, c.client, &lockpb.WatchRequest{}))
	}
	want := map[string]int64{}
	died := time.Now()
	for i, c := range fleet {
		id := fmt.Sprint("never/renewed/", i)
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Ttl: seconds(1)})
		if err != nil {
			t.Fatal(err)
		}
		want[id] = l.GetFencingToken()
	}

	holder := exec.Command(testenv.Binary(t), "lock", "process", "--ttl", "10s", "--", "sleep", "60")
	holder.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+fleet[0].d.Endpoint())
	if err := holder.Start(); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the process holds its lock", func() bool { return len(fleet[0].lock(t, "process").GetHolders()) == 1 })
	want["process"] = fleet[0].lock(t, "process").GetFencingToken()
	if err := holder.Process.Kill(); err != nil {
		t.Fatal(err)
	}
	_ = holder.Wait() // killed: its error says so

	held, err := fleet[2].Hold(within(t))
	if err != nil {
		t.Fatal(err)
	}
	if err := held.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "sidecar", Ttl: seconds(2)}}}); err != nil {
		t.Fatal(err)
	}
	granted, err := held.Recv()
	if err != nil || granted.GetGranted() == nil {
		t.Fatalf("%v, %v", granted, err)
	}
	want["sidecar"] = granted.GetGranted().GetFencingToken()

	// Before the sidecar dies, so that what it told is not lost with it, or told
	// again by another one because it had no time to acknowledge it.
	eventually(t, "the first expiries are told", func() bool { return len(union(streams, "expired")) >= 4 })
	t.Logf("told after %v", time.Since(died).Round(time.Millisecond))
	fleet[2].sweepsAgain(t)
	fleet[2].d.Kill()
	eventually(t, "every expiry is told", func() bool { return len(union(streams, "expired")) >= len(want) })
	<-time.After(toldAgain) // the time in which an expiry could be told again

	ids := map[string]bool{}
	for _, e := range union(streams, "expired") {
		if ids[e.GetId()] {
			t.Errorf("%s was told twice", e.GetId())
		}
		ids[e.GetId()] = true
		if want[e.GetLockId()] != e.GetFencingToken() || e.GetOwnerId() == "" {
			t.Errorf("told %v", e)
		}
	}
	if len(ids) != len(want) {
		t.Errorf("told %v, want the expiries of %v", ids, want)
	}
}

// sweepsAgain waits for a sidecar's next sweep: it begins once everything that was
// told before is acknowledged.
func (c *configured) sweepsAgain(t *testing.T) {
	t.Helper()
	const series = `locksidecar_backend_calls_total{backend="main",operation="sweep",outcome="ok"}`
	before, err := strconv.ParseFloat(c.metric(t, series), 64)
	if err != nil {
		t.Fatal(err)
	}
	c.becomes(t, series, before+1)
}

// diarist is a store's observer that keeps the events alone.
type diarist struct{ *events.Log }

func (diarist) Acquired(backend.AcquireObservation) {}
func (diarist) Waiting(int)                         {}

// The same for three stores on one embedded memory.
func TestADeadHoldersExpiryIsToldOnceOnOneMemory(t *testing.T) {
	m, err := embedded.NewMemory(embedded.Options{MinTTL: 100 * time.Millisecond})
	if err != nil {
		t.Fatal(err)
	}
	var streams []*stream
	var stores []*backend.Store
	ctx, cancel := context.WithCancel(within(t))
	var reading sync.WaitGroup
	for range 3 {
		log := events.New(0)
		store := backend.New(m.Open(), backend.Options{MinTTL: 100 * time.Millisecond, Observer: diarist{log}})
		s := &stream{}
		sub, err := log.Subscribe("", "")
		if err != nil {
			t.Fatal(err)
		}
		reading.Go(func() {
			for {
				found, err := sub.Next(ctx)
				if err != nil {
					return
				}
				s.add(found...)
			}
		})
		streams, stores = append(streams, s), append(stores, store)
	}
	const n = 30
	want := map[string]int64{}
	for i := range n {
		l, err := stores[i%3].Acquire(ctx, &backend.AcquireRequest{LockID: fmt.Sprint("dead/", i), TTL: 200 * time.Millisecond})
		if err != nil {
			t.Fatal(err)
		}
		want[l.LockID] = l.Token
	}
	eventually(t, "every expiry is told", func() bool { return len(union(streams, "expired")) >= n })
	<-time.After(time.Second) // several more sweeps by each store
	for _, e := range union(streams, "expired") {
		if want[e.GetLockId()] != e.GetFencingToken() {
			t.Errorf("told %v, or told twice", e)
		}
		delete(want, e.GetLockId())
	}
	if len(want) != 0 {
		t.Errorf("not told: %v", want)
	}
	for _, s := range stores {
		if err := s.Close(); err != nil {
			t.Error(err)
		}
	}
	cancel()
	reading.Wait()
}

// Each type comes once for its cause, from one sidecar of two, and no stream
// shows a secret.
func TestEachCauseIsToldOnceWithoutSecrets(t *testing.T) {
	clients := fleet(t, testenv.StartRedisT(t), 2)
	streams := []*stream{watch(t, clients[0], &lockpb.WatchRequest{}), watch(t, clients[1], &lockpb.WatchRequest{})}
	c := clients[0]
	var secrets []string
	acquire := func(id string, ttl float64) *lockpb.Lease {
		request := unique("5ecret")
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, OwnerId: "one", Ttl: seconds(ttl), RequestId: request})
		if err != nil {
			t.Fatal(err)
		}
		secrets = append(secrets, request, l.GetLeaseId())
		return l
	}
	want := map[string]int{}
	expect := func(kinds ...string) {
		for _, k := range kinds {
			want[k]++
		}
	}

	c.release(t, acquire("released", 30))
	expect("acquired released", "released released")

	acquire("expired", 1)
	expect("acquired expired", "expired expired")

	busy := acquire("busy", 60)
	request := unique("5ecret")
	secrets = append(secrets, request)
	if l, err := clients[1].Acquire(within(t), &lockpb.AcquireRequest{LockId: "busy", Wait: seconds(0.5), RequestId: request}); err == nil {
		t.Fatalf("granted %v", l)
	}
	expect("acquired busy", "queued busy", "abandoned busy")

	request = unique("5ecret")
	secrets = append(secrets, request)
	if _, err := c.LockServiceClient.Release(within(t), &lockpb.ReleaseRequest{LockId: "undone", RequestId: request}); err != nil {
		t.Fatal(err)
	}
	expect("abandoned undone")

	for _, immediate := range []bool{false, true} {
		id := fmt.Sprint("forced/", immediate)
		hold, err := clients[1].Hold(within(t))
		if err != nil {
			t.Fatal(err)
		}
		request := unique("5ecret")
		if err := hold.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: id, Ttl: seconds(60), RequestId: request}}}); err != nil {
			t.Fatal(err)
		}
		granted, err := hold.Recv()
		if err != nil || granted.GetGranted() == nil {
			t.Fatalf("%v, %v", granted, err)
		}
		secrets = append(secrets, request, granted.GetGranted().GetLeaseId())
		if _, err := c.ForceRelease(within(t), &lockpb.ForceReleaseRequest{
			LockId: id, FencingToken: granted.GetGranted().GetFencingToken(), Reason: "it hangs", Immediate: immediate,
		}); err != nil {
			t.Fatal(err)
		}
		if lost, err := hold.Recv(); err != nil || lost.GetLost().GetReason() != "forced" {
			t.Fatalf("%v, %v", lost, err)
		}
		expect("acquired "+id, "force_released "+id, "lost "+id)
		if !immediate { // the acknowledgement
			if err := hold.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Release{Release: &lockpb.ReleaseRequest{
				LockId: id, LeaseId: granted.GetGranted().GetLeaseId(), FencingToken: granted.GetGranted().GetFencingToken(), RequestId: request,
			}}}); err != nil {
				t.Fatal(err)
			}
			expect("released " + id)
		}
	}

	tally := func() map[string]int {
		got := map[string]int{}
		for _, e := range union(streams, "") {
			got[e.GetType()+" "+e.GetLockId()]++
		}
		return got
	}
	eventually(t, "every event is told", func() bool {
		got := tally()
		for k := range want {
			if got[k] == 0 {
				return false
			}
		}
		return true
	})
	c.release(t, busy) // an end after everything else
	expect("released busy")
	eventually(t, "the last event is told", func() bool { return tally()["released busy"] > 0 })
	if got := tally(); !maps.Equal(got, want) {
		t.Errorf("told\n%v\nwant\n%v", got, want)
	}
	for _, e := range union(streams, "") {
		for _, secret := range secrets {
			if strings.Contains(e.String(), secret) {
				t.Errorf("%v shows %s", e, secret)
			}
		}
		switch e.GetType() {
		case "queued":
			if e.GetPosition() != 1 || e.GetQueueLength() != 1 {
				t.Errorf("told %v", e)
			}
		case "force_released":
			if e.GetReason() != "it hangs" || e.GetEnded() != (e.GetLockId() == "forced/true") {
				t.Errorf("told %v", e)
			}
		case "lost":
			if e.GetReason() != "forced" {
				t.Errorf("told %v", e)
			}
		case "released":
			if e.GetLockId() != "undone" && e.GetOwnerId() == "" {
				t.Errorf("told %v", e)
			}
		}
	}
}

// cycles acquires and releases n times, with several clients at once.
func cycles(t *testing.T, ctx context.Context, c client, n int) {
	t.Helper()
	const workers = 8
	var all sync.WaitGroup
	for w := range workers {
		all.Go(func() {
			for i := range n / workers {
				id := fmt.Sprintf("cycle/%d/%d", w, i%8)
				l, err := c.Acquire(ctx, &lockpb.AcquireRequest{LockId: id, Ttl: seconds(30)})
				if err == nil {
					_, err = c.Release(ctx, &lockpb.ReleaseRequest{LockId: id, LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken()})
				}
				if err != nil {
					t.Errorf("%s: %v", id, err)
					return
				}
			}
		})
	}
	all.Wait()
}

// A watcher whose streams break again and again reads, by its last cursor, what
// one reads whose stream stands.
func TestResumingLosesAndRepeatsNothing(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:")
	c := dial(t, d.Endpoint())
	whole := watch(t, c, &lockpb.WatchRequest{})
	const n = 1600
	working := make(chan struct{})
	go func() {
		defer close(working)
		cycles(t, within(t), c, n)
	}()
	var read []string
	cursor, streams := events.Oldest, 0
	for ctx := within(t); len(read) < 2*n; streams++ {
		once, cut := context.WithCancel(ctx)
		w, err := dial(t, d.Endpoint()).Watch(once, &lockpb.WatchRequest{After: cursor})
		if err != nil {
			t.Fatal(err)
		}
		for range 1 + rand.IntN(200) {
			e, err := w.Recv()
			if err != nil {
				t.Fatal(err)
			}
			read, cursor = append(read, e.GetId()), e.GetCursor()
			if len(read) == 2*n {
				break
			}
		}
		cut()
	}
	<-working
	eventually(t, "the whole stream has ended", func() bool { return len(whole.of("")) >= 2*n })
	var want []string
	for _, e := range whole.of("") {
		want = append(want, e.GetId())
	}
	if !slices.Equal(read, want) {
		t.Errorf("%d events over %d streams are not the %d of one stream", len(read), streams, len(want))
	}
}

// A watcher that does not read while more happens than is kept is told how much
// it missed.
func TestSlowWatcherIsToldWhatItMissed(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:")
	c := dial(t, d.Endpoint())
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute) // it is a lot of work
	defer cancel()
	w, err := dial(t, d.Endpoint()).Watch(ctx, &lockpb.WatchRequest{})
	if err != nil {
		t.Fatal(err)
	}
	if _, err := w.Header(); err != nil {
		t.Fatal(err)
	}
	const n = 12_000 // two events each: more than is kept and what the connection takes
	cycles(t, ctx, c, n)
	c.release(t, hold(t, c, "last"))
	told, missed := 0, 0
	for last := ""; last != "released last"; {
		e, err := w.Recv()
		if err != nil {
			t.Fatal(err)
		}
		last = e.GetType() + " " + e.GetLockId()
		if told++; e.GetType() == "missed" {
			missed += int(e.GetMissed())
			told--
		}
	}
	if missed == 0 || told+missed != 2*n+2 {
		t.Errorf("told %d events and of %d missed ones; want %d in all", told, missed, 2*n+2)
	}
}
