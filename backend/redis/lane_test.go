package redis

import (
	"context"
	"errors"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

// gate counts a client's pipelines and, while it is shut, holds them up before
// they are sent.
type gate struct {
	mu      sync.Mutex
	shut    chan struct{}
	held    chan struct{}
	sizes   []int
	largest int
}

func (g *gate) close() {
	g.mu.Lock()
	defer g.mu.Unlock()
	g.shut, g.held = make(chan struct{}), make(chan struct{}, 100)
}

func (g *gate) open() {
	g.mu.Lock()
	defer g.mu.Unlock()
	close(g.shut)
	g.shut = nil
}

func (g *gate) DialHook(next redis.DialHook) redis.DialHook          { return next }
func (g *gate) ProcessHook(next redis.ProcessHook) redis.ProcessHook { return next }
func (g *gate) ProcessPipelineHook(next redis.ProcessPipelineHook) redis.ProcessPipelineHook {
	return func(ctx context.Context, cmds []redis.Cmder) error {
		if cmds[0].Name() != "evalsha" { // how a connection introduces itself
			return next(ctx, cmds)
		}
		size := 0
		for _, c := range cmds { // not what the pipeline takes along
			if c.Name() == "evalsha" {
				size += locksOf(c)
			}
		}
		g.mu.Lock()
		g.sizes = append(g.sizes, size)
		g.largest = max(g.largest, size)
		shut, held := g.shut, g.held
		g.mu.Unlock()
		if shut != nil {
			held <- struct{}{}
			<-shut
		}
		return next(ctx, cmds)
	}
}

// locksOf is how many calls a script carries.
func locksOf(c redis.Cmder) int {
	keys, _ := c.Args()[2].(int)
	switch c.Args()[1] {
	case acquireScript.sha:
		return keys / 6
	case releaseScript.sha:
		return keys / 5
	}
	return 1
}

func (g *gate) sent() int {
	g.mu.Lock()
	defer g.mu.Unlock()
	n := 0
	for _, size := range g.sizes {
		n += size
	}
	return n
}

// gated opens a driver whose pipelines pass a gate, its scripts loaded.
func gated(t *testing.T, server *testenv.Redis) (*Store, *gate) {
	t.Helper()
	s := openOn(t, server, "x")
	r := request("warm", "r")
	release(t, s, r, granted(t, s, r))
	if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: "warm", RequestID: "r"}); err != nil {
		t.Fatal(err)
	}
	g := &gate{}
	n := s.topology.route(0)
	n.client.AddHook(g)
	var all []*link // that may be needed at once
	for range 2 * maxFlying {
		l := n.links.take()
		l.client.AddHook(g)
		if err := l.client.Ping(t.Context()).Err(); err != nil {
			t.Fatal(err)
		}
		all = append(all, l)
	}
	for _, l := range all {
		n.links.give(l)
	}
	return s, g
}

// fill puts as many pipelines on their way as a lane has.
func fill(t *testing.T, s *Store, g *gate, answers chan<- error) {
	t.Helper()
	g.close()
	for i := range maxFlying {
		s.AcquireAsync(t.Context(), request(fmt.Sprint("flying", i), "r"), func(_ *driver.AcquireResult, err error) { answers <- err })
		<-g.held
	}
}

func TestASingleCallIsOneCommand(t *testing.T) {
	server := testenv.StartRedisT(t)
	s, g := gated(t, server)
	seen := server.Monitor(t)
	commands := func() (n int) {
		for line := range strings.SplitSeq(seen.String(), "\n") {
			if strings.Contains(line, `"evalsha"`) || strings.Contains(line, `"EVALSHA"`) {
				n++
			}
		}
		return n
	}
	// A monitor reports its own start before anything else that comes.
	until(t, "the monitor runs", func() bool { return strings.Contains(seen.String(), "OK") })
	r := request("a", "r")
	release(t, s, r, granted(t, s, r))
	until(t, "the monitor has seen both", func() bool { return commands() >= 2 })
	server.Must(t, "ECHO", "the end")
	until(t, "the monitor has seen the end", func() bool { return strings.Contains(seen.String(), "the end") })
	top := 0
	for line := range strings.SplitSeq(seen.String(), "\n") {
		if strings.Contains(line, " lua]") || !strings.Contains(line, "]") {
			continue
		}
		if before, _, found := strings.Cut(line, `"ECHO"`); !found && before != "" {
			lower := strings.ToLower(line)
			// The test's own connection introduces itself; a driver that was idle reads
			// the server's identity again.
			if !slices.ContainsFunc([]string{`"hello"`, `"client"`, `"echo"`, `"info"`}, func(s string) bool { return strings.Contains(lower, s) }) {
				top++
			}
		}
	}
	if top != 2 || commands() != 2 || len(g.sizes) != 2 {
		t.Errorf("an acquire and a release were %d commands in %d pipelines:\n%s", top, len(g.sizes), seen.String())
	}
}

func TestCallsGatherBehindPipelinesOnTheirWay(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	const n = 1000
	answers := make(chan error, n+maxFlying)
	fill(t, s, g, answers)
	for i := range n {
		s.AcquireAsync(t.Context(), request(fmt.Sprint("a", i), "r"), func(_ *driver.AcquireResult, err error) { answers <- err })
	}
	g.open()
	for range n + maxFlying {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	if want := maxFlying + (n+maxBatch-1)/maxBatch; len(g.sizes) != want || g.largest > maxBatch || g.sent() != n+maxFlying {
		t.Errorf("%d calls went in pipelines of %v, want %d of at most %d", n, g.sizes, want, maxBatch)
	}
}

func TestAnAcquireWhoseCallerLeftIsNotSent(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	answers := make(chan error, 10)
	fill(t, s, g, answers)
	ctx, cancel := context.WithCancel(t.Context())
	left := make(chan error)
	go func() {
		_, err := s.Acquire(ctx, request("a", "r"))
		left <- err
	}()
	until(t, "the call is pending", func() bool {
		s.topology.route(0).hot.mu.Lock()
		defer s.topology.route(0).hot.mu.Unlock()
		return len(s.topology.route(0).hot.pending) == 1
	})
	s.AcquireAsync(ctx, request("b", "r"), func(_ *driver.AcquireResult, err error) { answers <- err })
	s.ReleaseAsync(ctx, &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "c", Key: driver.KeyOf("r"), Token: 1}}, func(_ *driver.ReleaseResult, err error) {
		if causeOf(err) != driver.CauseUnknown {
			t.Errorf("a release is sent all the same, and got %v", err)
		}
		answers <- nil
	})
	cancel()
	if err := <-left; !errors.Is(err, driver.ErrIndeterminate) || !errors.Is(err, context.Canceled) {
		t.Errorf("the caller that left got %v", err)
	}
	g.open()
	var refused int
	for range maxFlying + 2 {
		if err := <-answers; errors.Is(err, driver.ErrUnavailable) && errors.Is(err, context.Canceled) {
			refused++
		} else if err != nil {
			t.Error(err)
		}
	}
	if refused != 1 || g.sent() != maxFlying+1 {
		t.Errorf("%d calls were refused and %d sent, want 1 and %d", refused, g.sent(), maxFlying+1)
	}
	if n := holders(t, s, "a") + holders(t, s, "b"); n != 0 {
		t.Errorf("%d leases were granted to nobody", n)
	}
}

// A caller that leaves while its call is on its way does not know the outcome.
// The call goes on, and what undoes it does not overtake it.
func TestLeaveWaitsForTheAcquireOnItsWay(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	g.close()
	s.o.Timeout = time.Hour // longer than the caller has, who so does not write for itself
	ctx, cancel := context.WithTimeout(t.Context(), 30*time.Minute)
	defer cancel()
	left := make(chan error)
	go func() {
		_, err := s.Acquire(ctx, request("a", "r"))
		left <- err
	}()
	<-g.held
	cancel()
	if err := <-left; !errors.Is(err, driver.ErrIndeterminate) || ctx.Err() == nil {
		t.Errorf("the caller that left got %v", err)
	}
	short, stop := context.WithCancel(t.Context())
	stop()
	if err := s.Leave(short, &driver.LeaveRequest{LockID: "a", RequestID: "r"}); !errors.Is(err, context.Canceled) {
		t.Errorf("a leave that cannot wait: %v", err)
	}
	undone := make(chan error)
	go func() { undone <- s.Leave(t.Context(), &driver.LeaveRequest{LockID: "a", RequestID: "r"}) }()
	select {
	case <-g.held:
		t.Error("the leave was sent while the acquire was on its way")
	case err := <-undone:
		t.Errorf("the leave ended before the acquire: %v", err)
	case <-time.After(50 * time.Millisecond): // what must not happen has no event
	}
	g.open()
	if err := <-undone; err != nil {
		t.Fatal(err)
	}
	if n := holders(t, s, "a"); n != 0 {
		t.Errorf("%d leases are left", n)
	}
	until(t, "the acquire is forgotten", func() bool {
		s.abandoned.mu.Lock()
		defer s.abandoned.mu.Unlock()
		return len(s.abandoned.calls) == 0
	})
}

func TestPendingAcquiresAreBounded(t *testing.T) {
	s, g := gated(t, testenv.StartRedisT(t))
	flying := make(chan error, maxFlying)
	fill(t, s, g, flying)
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var answered sync.WaitGroup
	var refused atomic.Int64
	answered.Add(maxPending)
	for range maxPending {
		s.AcquireAsync(ctx, request("a", "r"), func(_ *driver.AcquireResult, err error) {
			if errors.Is(err, driver.ErrUnavailable) {
				refused.Add(1)
			}
			answered.Done()
		})
	}
	if n := refused.Load(); n != 0 {
		t.Fatalf("%d of the first %d were refused", n, maxPending)
	}
	if _, err := s.Acquire(t.Context(), request("a", "one more")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("one more acquire: %v", err)
	}
	released := make(chan error, 1)
	s.ReleaseAsync(t.Context(), &driver.ReleaseRequest{LeaseRef: driver.LeaseRef{LockID: "a", Key: driver.KeyOf("r"), Token: 1}}, func(_ *driver.ReleaseResult, err error) { released <- err })
	cancel()
	g.open()
	answered.Wait()
	if err := <-released; causeOf(err) != driver.CauseUnknown {
		t.Errorf("a release is exempt, and got %v", err)
	}
	if refused.Load() != maxPending || g.sent() != maxFlying+1 {
		t.Errorf("%d calls were answered unsent and %d sent, want %d and %d", refused.Load(), g.sent(), maxPending, maxFlying+1)
	}
}

func TestCloseWithCallsInFlight(t *testing.T) {
	s := openOn(t, testenv.StartRedisT(t), "x")
	watched := make(chan error, 1)
	subscribed := make(chan struct{})
	first := sync.OnceFunc(func() { close(subscribed) })
	go func() { watched <- s.Watch(t.Context(), func(driver.Hint) { first() }) }()
	<-subscribed
	var all sync.WaitGroup
	var running sync.WaitGroup
	running.Add(32)
	for i := range 32 {
		all.Go(func() {
			for n := 0; ; n++ {
				r := request(fmt.Sprint("a", i), fmt.Sprint("r", n))
				res, err := s.Acquire(t.Context(), r)
				if n == 0 {
					running.Done()
				}
				if err == nil {
					_, err = s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, res.Lease), RequestID: r.RequestID})
				}
				if err != nil {
					if !errors.Is(err, driver.ErrClosed) {
						t.Error(err)
					}
					return
				}
			}
		})
	}
	running.Wait()
	if err := s.Close(); err != nil {
		t.Error(err)
	}
	all.Wait()
	if err := <-watched; !errors.Is(err, driver.ErrClosed) {
		t.Errorf("the watch ended with %v", err)
	}
	for name, err := range map[string]error{
		"ping": s.Ping(t.Context()), "watch": s.Watch(t.Context(), nil), "leave": s.Leave(t.Context(), &driver.LeaveRequest{}), "close": s.Close(),
		"renew": s.RenewMany(t.Context(), make([]driver.RenewRequest, 1))[0].Err,
	} {
		if !errors.Is(err, driver.ErrClosed) && (name != "close" || err != nil) {
			t.Errorf("%s after close: %v", name, err)
		}
	}
	s.ReleaseAsync(t.Context(), &driver.ReleaseRequest{}, func(_ *driver.ReleaseResult, err error) {
		if !errors.Is(err, driver.ErrClosed) {
			t.Error(err)
		}
	})
}

func TestAServerThatRefusesChannelsStillGrants(t *testing.T) {
	server := testenv.StartRedisT(t)
	server.Must(t, "ACL", "SETUSER", "app", "on", ">pw", "~*", "resetchannels", "+@all")
	o := Options{Prefix: "x", New: true}
	o.Client.Addr, o.Client.Username, o.Client.Password = server.Addr(), "app", "pw"
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	holder, waiter := request("a", "holder"), queued(request("a", "w"))
	l := granted(t, s, holder)
	if _, err := s.Acquire(t.Context(), waiter); err != nil {
		t.Fatal(err)
	}
	release(t, s, holder, l)
	l = granted(t, s, waiter)
	if _, err := s.Revoke(t.Context(), &driver.EvictRequest{LockID: "a", Token: l.Token, Cause: driver.CauseForced}); err != nil {
		t.Error(err)
	}
}

func TestTLSToAServerWithoutItIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			_, _ = c.Write([]byte("-ERR this is no TLS\r\n"))
			_ = c.Close()
		}
	}()
	d := openURL(t, "rediss://"+l.Addr().String()+"?timeout=5s")
	if err := d.Ping(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
}
