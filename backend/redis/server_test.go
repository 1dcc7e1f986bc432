package redis

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"os"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/redis/go-redis/v9"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

func TestScriptsAreLoadedAgainUnderLoad(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	stop, stopped := make(chan struct{}), sync.WaitGroup{}
	cycles := make(chan struct{}, 1<<16)
	for i := range 16 {
		stopped.Go(func() {
			for n := 0; ; n++ {
				select {
				case <-stop:
					return
				default:
				}
				r := request(fmt.Sprint("a", i), fmt.Sprint("r", n))
				l := granted(t, s, r)
				if res := s.RenewMany(t.Context(), []driver.RenewRequest{{LeaseRef: refOf(r, l), TTL: time.Minute}}); res[0].Err != nil {
					t.Error(res[0].Err)
				}
				release(t, s, r, l)
				select {
				case cycles <- struct{}{}:
				default:
				}
			}
		})
	}
	for range 50 {
		server.Must(t, "SCRIPT", "FLUSH")
		for range 20 {
			<-cycles
		}
	}
	close(stop)
	stopped.Wait()
	for i := range 16 {
		if n := holders(t, s, fmt.Sprint("a", i)); n != 0 {
			t.Errorf("lock %d has %d holders", i, n)
		}
	}
}

func TestServerThatRestarts(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openURL(t, server.URL("max_ttl=1s"))
	first := granted(t, s, request("a", "first"))
	server.Kill()
	// A connection that was open may have carried the call before it broke; one
	// that cannot be made has not.
	until(t, "calls are certainly not done", func() bool {
		_, err := s.Acquire(t.Context(), request("a", "down"))
		if !errors.Is(err, driver.ErrUnavailable) && !errors.Is(err, driver.ErrIndeterminate) {
			t.Fatalf("a server that is down: %v", err)
		}
		return errors.Is(err, driver.ErrUnavailable)
	})
	if err := s.Ping(t.Context()); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("ping: %v", err)
	}
	if err := server.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	var second *driver.Lease
	until(t, "calls are done again", func() bool {
		res, err := s.Acquire(t.Context(), request("a", "second"))
		if err == nil {
			second = res.Lease
		}
		return err == nil
	})
	if second == nil || second.Token <= first.Token {
		t.Errorf("the lease after a restart without data is %+v, before it the token was %d", second, first.Token)
	}
}

func TestAReplyThatIsLostIsIndeterminate(t *testing.T) {
	server := testenv.StartRedisT(t)
	proxy := testenv.StartProxy(t, server.Addr())
	s := openURL(t, "redis://"+proxy.Addr()+"?timeout=3s")
	warm := request("warm", "r")
	release(t, s, warm, granted(t, s, warm))
	r := request("a", "r")
	proxy.DropReplies.Store(true)
	if _, err := s.Acquire(t.Context(), r); !errors.Is(err, driver.ErrIndeterminate) || errors.Is(err, driver.ErrUnavailable) {
		t.Fatalf("a lost reply: %v", err)
	}
	proxy.DropReplies.Store(false)
	proxy.Reset()
	l := granted(t, s, r)
	if len(l.Holds) != 1 || l.Attach != 1 {
		t.Errorf("the repeat is %+v, want the one hold", l)
	}
	proxy.DropReplies.Store(true)
	if _, err := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "r"}); !errors.Is(err, driver.ErrIndeterminate) {
		t.Fatalf("a lost reply to a release: %v", err)
	}
	proxy.DropReplies.Store(false)
	proxy.Reset()
	release(t, s, r, l)
}

// A renewal whose reply is lost gives up at its deadline, long before the
// client's timeout: there is to be time for another one.
func TestALostReplyHoldsARenewalUpForNoLongerThanItsDeadline(t *testing.T) {
	server := testenv.StartRedisT(t)
	proxy := testenv.StartProxy(t, server.Addr())
	s := openURL(t, "redis://"+proxy.Addr()+"?timeout=1h")
	r := request("a", "r")
	l := granted(t, s, r)
	renewals := []driver.RenewRequest{{LeaseRef: refOf(r, l), TTL: time.Minute}}
	ended := make(chan driver.RenewResult)
	renew := func(timeout time.Duration) driver.RenewResult {
		go func() {
			ctx, cancel := context.WithTimeout(t.Context(), timeout)
			defer cancel()
			ended <- s.RenewMany(ctx, renewals)[0]
		}()
		select {
		case res := <-ended:
			return res
		case <-time.After(patience):
			t.Fatal("the renewal waits for the reply that was lost")
			return driver.RenewResult{}
		}
	}
	lost := proxy.FailAt(1, testenv.LoseReply, "evalsha")
	if res := renew(3 * time.Second); !errors.Is(res.Err, driver.ErrIndeterminate) || !lost.Happened() {
		t.Errorf("a lost reply: %+v", res)
	}
	if res := renew(patience); res.Err != nil {
		t.Errorf("the next renewal: %v", res.Err)
	}
}

func TestRefusalsAreCertain(t *testing.T) {
	server := testenv.StartRedisT(t, "--enable-debug-command", "yes")
	s := openOn(t, server, "x")
	r := request("a", "r")
	l := granted(t, s, r)
	release(t, s, r, l)
	calls := func(t *testing.T, s *Store, want string) {
		t.Helper()
		_, acquire := s.Acquire(t.Context(), request("new", "r"))
		_, again := s.Acquire(t.Context(), queued(request("a", "again")))
		_, rel := s.Release(t.Context(), &driver.ReleaseRequest{LeaseRef: refOf(r, l), RequestID: "other"})
		for name, err := range map[string]error{"acquire": acquire, "acquire again": again, "leave": s.Leave(t.Context(), &driver.LeaveRequest{LockID: "b", RequestID: "x"})} {
			if !errors.Is(err, driver.ErrUnavailable) || !strings.Contains(err.Error(), want) {
				t.Errorf("%s: %v, want ErrUnavailable by %s", name, err, want)
			}
		}
		_ = rel // it may find that nothing is to be done
	}
	t.Run("replica", func(t *testing.T) {
		server.Must(t, "REPLICAOF", "127.0.0.1", "1")
		defer server.Must(t, "REPLICAOF", "NO", "ONE")
		calls(t, s, "replica") // READONLY, in the server's words
		// What a new connection meets is no store of locks, even to read from.
		calls(t, openOn(t, server, "x"), "replica")
		if _, err := openOn(t, server, "x").Inspect(t.Context(), "a"); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("inspect: %v", err)
		}
	})
	t.Run("out of memory", func(t *testing.T) {
		server.Must(t, "CONFIG", "SET", "maxmemory-policy", "noeviction", "maxmemory", "1")
		defer server.Must(t, "CONFIG", "SET", "maxmemory", "0")
		calls(t, s, "OOM")
	})
	t.Run("loading", func(t *testing.T) {
		server.Must(t, "CONFIG", "SET", "key-load-delay", "200", "loading-process-events-interval-bytes", "1024")
		server.Must(t, "DEBUG", "POPULATE", "20000")
		loaded := make(chan error, 1)
		c := redis.NewClient(&redis.Options{Addr: server.Addr(), MaxRetries: -1, ReadTimeout: time.Minute})
		defer func() { _ = c.Close() }()
		go func() { loaded <- c.Do(t.Context(), "DEBUG", "RELOAD").Err() }()
		until(t, "the server is loading", func() bool {
			_, err := s.Acquire(t.Context(), request("new", "r"))
			return err != nil && strings.Contains(err.Error(), "LOADING")
		})
		if _, err := s.Acquire(t.Context(), request("new", "r")); !errors.Is(err, driver.ErrUnavailable) {
			t.Errorf("a server that loads: %v", err)
		}
		server.Must(t, "CONFIG", "SET", "key-load-delay", "0")
		if err := <-loaded; err != nil {
			t.Error(err)
		}
		server.Must(t, "FLUSHALL")
	})
	t.Run("no permission", func(t *testing.T) {
		server.Must(t, "ACL", "SETUSER", "reader", "on", ">pw", "~*", "-@all", "+@connection")
		calls(t, openURL(t, "redis://reader:pw@"+server.Addr()), "NOPERM")
	})
	t.Run("keys without permission", func(t *testing.T) {
		server.Must(t, "ACL", "SETUSER", "tenant", "on", ">pw", "~tenant:*", "&*", "+@all")
		calls(t, openURL(t, "redis://tenant:pw@"+server.Addr()), "NOPERM")
		granted(t, openURL(t, "redis://tenant:pw@"+server.Addr()+"?prefix=tenant"), request("a", "r"))
	})
	t.Run("wrong password", func(t *testing.T) {
		wrong := openURL(t, "redis://reader:hunter2@"+server.Addr())
		calls(t, wrong, "WRONGPASS")
		if err := wrong.Ping(t.Context()); err == nil || strings.Contains(err.Error(), "hunter2") {
			t.Errorf("ping: %v", err)
		}
	})
	t.Run("password that is replaced", func(t *testing.T) {
		file := filepath.Join(t.TempDir(), "password")
		write := func(password string) {
			t.Helper()
			if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
				t.Fatal(err)
			}
		}
		write("first")
		server.Must(t, "ACL", "SETUSER", "rotated", "on", ">first", "~*", "&*", "+@all")
		s := openURL(t, "redis://rotated@"+server.Addr()+"?password_file="+file)
		granted(t, s, request("rotated", "before"))
		write("second")
		server.Must(t, "ACL", "SETUSER", "rotated", "resetpass", ">second")
		server.Must(t, "CLIENT", "KILL", "USER", "rotated")
		granted(t, s, request("rotated", "before")) // on a new connection
		if err := os.Remove(file); err != nil {
			t.Fatal(err)
		}
		server.Must(t, "CLIENT", "KILL", "USER", "rotated")
		for { // until a call needs a new connection
			_, err := s.Acquire(t.Context(), request("rotated", "before"))
			if errors.Is(err, fs.ErrNotExist) {
				if !errors.Is(err, driver.ErrUnavailable) {
					t.Errorf("without the file: %v", err)
				}
				break
			}
			if err == nil {
				t.Fatal("granted without a password")
			}
		}
	})
	t.Run("no password", func(t *testing.T) {
		server.Must(t, "ACL", "SETUSER", "default", "resetpass", ">secret")
		calls(t, openURL(t, "redis://"+server.Addr()), "NOAUTH")
		c := redis.NewClient(&redis.Options{Addr: server.Addr(), Password: "secret"})
		defer func() { _ = c.Close() }()
		if err := c.Do(t.Context(), "ACL", "SETUSER", "default", "nopass").Err(); err != nil {
			t.Fatal(err)
		}
	})
	t.Run("password where none is", func(t *testing.T) {
		calls(t, openURL(t, "redis://nobody:pw@"+server.Addr()), "WRONGPASS")
	})
	t.Run("database out of range", func(t *testing.T) {
		calls(t, openURL(t, "redis://"+server.Addr()+"/99"), "DB index")
	})
}

func TestRefusedConnectionIsUnavailable(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	addr := l.Addr().String()
	if err := l.Close(); err != nil {
		t.Fatal(err)
	}
	s := openURL(t, "redis://"+addr)
	if _, err := s.Acquire(t.Context(), request("a", "r")); !errors.Is(err, driver.ErrUnavailable) {
		t.Errorf("acquire: %v", err)
	}
	results := s.RenewMany(t.Context(), make([]driver.RenewRequest, 300))
	for _, res := range results {
		if !errors.Is(res.Err, driver.ErrUnavailable) {
			t.Fatalf("renew: %v", res.Err)
		}
	}
}

// The SDK must not repeat a call by itself: a call that was cut is seen once.
func TestTheClientDoesNotRetry(t *testing.T) {
	l, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = l.Close() }()
	var mu sync.Mutex
	var seen strings.Builder
	go func() {
		for {
			c, err := l.Accept()
			if err != nil {
				return
			}
			go func() {
				defer func() { _ = c.Close() }()
				buf := make([]byte, 16<<10)
				for {
					n, err := c.Read(buf)
					if err != nil {
						return
					}
					mu.Lock()
					seen.Write(buf[:n])
					mu.Unlock()
					if strings.Contains(string(buf[:n]), "evalsha") {
						return // cut without an answer
					}
					for range strings.Count(string(buf[:n]), "*") {
						if _, err := c.Write([]byte("-ERR unknown command\r\n")); err != nil {
							return
						}
					}
				}
			}()
		}
	}()
	s := openURL(t, "redis://"+l.Addr().String()+"?allow_eviction=1&new=0") // such a server does not say who it is
	if _, err := s.Acquire(t.Context(), request("a", "r")); !errors.Is(err, driver.ErrIndeterminate) {
		t.Errorf("a call that was cut: %v", err)
	}
	mu.Lock()
	defer mu.Unlock()
	if n := strings.Count(seen.String(), "evalsha"); n != 1 {
		t.Errorf("the call was sent %d times:\n%q", n, seen.String())
	}
}

func TestThousandCyclesLeaveOnlyIdleRecordsWhichGo(t *testing.T) {
	server := testenv.StartRedisT(t)
	o := Options{MinTTL: time.Millisecond, Retention: 300 * time.Millisecond, New: true}
	o.Client.Addr = server.Addr()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	const locks = 20
	for i := range 1000 {
		lock := fmt.Sprint("a", i%locks)
		r := request(lock, fmt.Sprint("r", i))
		r.TTL = max(time.Second, patience/12)
		l := granted(t, s, r)
		waiter := queued(request(lock, fmt.Sprint("w", i)))
		waiter.TTL = r.TTL
		switch i % 4 {
		case 1: // a waiter, so that the general text decides
			if _, err := s.Acquire(t.Context(), waiter); err != nil {
				t.Fatal(err)
			}
			release(t, s, r, l)
			release(t, s, waiter, granted(t, s, waiter))
		case 2:
			if err := s.Leave(t.Context(), &driver.LeaveRequest{LockID: lock, RequestID: r.RequestID}); err != nil {
				t.Fatal(err)
			}
		case 3:
			e, err := s.Evict(t.Context(), &driver.EvictRequest{LockID: lock, Token: l.Token, Cause: driver.CauseForced})
			if err == nil {
				err = s.Told(t.Context(), []driver.Ended{*e})
			}
			if err != nil {
				t.Fatal(err)
			}
		default:
			release(t, s, r, l)
		}
	}
	keys := server.Must(t, "KEYS", "*").([]any)
	for _, key := range keys {
		if kind := key.(string); !strings.Contains(kind, "}:l:") && !strings.HasSuffix(kind, "}:z") && kind != "locksidecar:store" {
			t.Errorf("%s is left", key)
		}
	}
	if len(keys) > locks+shards+1 {
		t.Errorf("%d keys are left of %d locks", len(keys), locks)
	}
	until(t, "the idle records are collected", func() bool { return server.Must(t, "DBSIZE").(int64) == shards+1 })
	granted(t, s, request("a0", "afterwards"))
}

// While a lease or a place stands, nothing of its lock may run out.
func TestRetentionSparesWhatIsBusy(t *testing.T) {
	server := testenv.StartRedisT(t)
	o := Options{Retention: time.Millisecond, New: true}
	o.Client.Addr = server.Addr()
	s, err := New(o)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = s.Close() }()
	ttl := func() time.Duration {
		return time.Duration(server.Must(t, "PTTL", s.shardPrefix(shardOf("a"))+"l:a").(int64)) * time.Millisecond
	}
	r := request("a", "r")
	r.TTL = 30 * time.Second
	l := granted(t, s, r)
	if left := ttl(); left < 15*time.Second || left > 31*time.Second {
		t.Errorf("the record of a lease of 30s ends in %v", left)
	}
	if _, err := s.Renew(t.Context(), &driver.RenewRequest{LeaseRef: refOf(r, l), TTL: time.Minute}); err != nil {
		t.Fatal(err)
	}
	if left := ttl(); left < 45*time.Second || left > 61*time.Second {
		t.Errorf("the record of a lease renewed to 60s ends in %v", left)
	}
	w := queued(request("a", "w"))
	w.TTL = max(time.Second, patience/12)
	if _, err := s.Acquire(t.Context(), w); err != nil {
		t.Fatal(err)
	}
	release(t, s, r, l)
	if left := ttl(); left < time.Hour-time.Minute {
		t.Errorf("the record with a waiter ends in %v", left)
	}
	release(t, s, w, granted(t, s, w))
	until(t, "the record is collected", func() bool { return ttl() < 0 })
}

func TestListOf10000Locks(t *testing.T) {
	server := testenv.StartRedisT(t)
	s := openOn(t, server, "x")
	const n = 10_000
	answers := make(chan error, n)
	want := make(map[string]int, n)
	for i := range n {
		id := fmt.Sprintf("team/%d:{%d}", i%7, i)
		want[id] = 0
		s.AcquireAsync(t.Context(), request(id, fmt.Sprint("r", i)), func(_ *driver.AcquireResult, err error) { answers <- err })
	}
	for range n {
		if err := <-answers; err != nil {
			t.Fatal(err)
		}
	}
	ctx, cancel := context.WithCancel(t.Context())
	var churn sync.WaitGroup
	churn.Go(func() { // locks come and go meanwhile
		for i := 0; ctx.Err() == nil; i++ {
			r := request(fmt.Sprint("churn", i%100), fmt.Sprint("c", i))
			release(t, s, r, granted(t, s, r))
		}
	})
	token, pages := "", 0
	for {
		page, err := s.List(t.Context(), &driver.ListRequest{Prefix: "team/", PageSize: 777, PageToken: token})
		if err != nil {
			t.Fatal(err)
		}
		if len(page.Locks) > 777 {
			t.Fatalf("a page of %d", len(page.Locks))
		}
		for _, l := range page.Locks {
			want[l.LockID]++
			if len(l.Holders) != 1 {
				t.Fatalf("%+v has no holder", l)
			}
		}
		pages++
		if token = page.NextPageToken; token == "" {
			break
		}
	}
	cancel()
	churn.Wait()
	for id, times := range want {
		if times != 1 {
			t.Errorf("%s was listed %d times", id, times)
		}
	}
	if len(want) != n || pages < n/777 {
		t.Errorf("%d locks on %d pages", len(want), pages)
	}
	if page, err := s.List(t.Context(), &driver.ListRequest{Contended: true, PageSize: 10}); err != nil || len(page.Locks) != 0 || page.NextPageToken != "" {
		t.Errorf("contended: %+v (%v)", page, err)
	}
	for _, bad := range []string{"x", "000:", "fff:a", "zzz:a", "1000:a", ":a", "-1:a", "000"} {
		if _, err := s.List(t.Context(), &driver.ListRequest{PageSize: 1, PageToken: bad}); !errors.Is(err, driver.ErrInvalid) {
			t.Errorf("page token %q: %v", bad, err)
		}
	}
}
