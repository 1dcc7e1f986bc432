package e2e

import (
	"context"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"syscall"
	"testing"

	"google.golang.org/genproto/googleapis/rpc/errdetails"
	"google.golang.org/grpc/codes"
	healthpb "google.golang.org/grpc/health/grpc_health_v1"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// configured is a daemon with a configuration file.
type configured struct {
	client
	d    *testenv.Process
	file string
}

// replace puts a text in the file's place, as a whole.
func replace(t *testing.T, file, text string) {
	t.Helper()
	next := file + ".next"
	if err := os.WriteFile(next, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(next, file); err != nil {
		t.Fatal(err)
	}
}

func configure(t *testing.T, text string) *configured {
	t.Helper()
	c := &configured{file: filepath.Join(t.TempDir(), "config.yaml")}
	replace(t, c.file, text)
	c.d = testenv.Daemon(t, "serve", "--config", c.file, "--metrics", "127.0.0.1:0")
	c.client = dial(t, c.d.Endpoint())
	return c
}

func (c *configured) status(t *testing.T) *lockpb.Status {
	t.Helper()
	s, err := c.GetStatus(within(t), &lockpb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	return s
}

// hangup sends SIGHUP, and waits until the file was taken over or refused. Both may
// come twice: the daemon looks at the file by itself, too.
func (c *configured) hangup(t *testing.T, text string) *lockpb.Configuration {
	t.Helper()
	before := c.status(t).GetConfiguration()
	replace(t, c.file, text)
	if err := syscall.Kill(c.d.Pid(), syscall.SIGHUP); err != nil {
		t.Fatal(err)
	}
	return c.looked(t, before)
}

// looked waits until the daemon has looked at the file since before.
func (c *configured) looked(t *testing.T, before *lockpb.Configuration) (after *lockpb.Configuration) {
	t.Helper()
	eventually(t, "the daemon looks at the file", func() bool {
		after = c.status(t).GetConfiguration()
		return after.GetReloads()+after.GetRefused() > before.GetReloads()+before.GetRefused()
	})
	return after
}

var served = regexp.MustCompile(`http://127\.0\.0\.1:\d+/metrics`)

// metric is a line of the metrics.
func (c *configured) metric(t *testing.T, series string) string {
	t.Helper()
	eventually(t, "the log says where metrics are served", func() bool { return served.MatchString(c.d.Output()) })
	req, err := http.NewRequestWithContext(within(t), http.MethodGet, served.FindString(c.d.Output()), nil)
	if err != nil {
		t.Fatal(err)
	}
	resp, err := http.DefaultClient.Do(req)
	if err != nil {
		t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		t.Fatal(err)
	}
	for line := range strings.Lines(string(raw)) {
		if rest, ok := strings.CutPrefix(line, series+" "); ok {
			return strings.TrimSpace(rest)
		}
	}
	return "none"
}

// health is what grpc.health.v1 says of a backend.
func (c *configured) health(t *testing.T, name string) healthpb.HealthCheckResponse_ServingStatus {
	t.Helper()
	r, err := healthpb.NewHealthClient(c.conn).Check(within(t), &healthpb.HealthCheckRequest{Service: name})
	if err != nil {
		t.Fatal(err)
	}
	return r.GetStatus()
}

// reasonOf is the reason of a call's error.
func reasonOf(err error) string {
	for _, d := range status.Convert(err).Details() {
		if info, ok := d.(*errdetails.ErrorInfo); ok {
			return info.GetReason() + " " + info.GetMetadata()["backend"] + info.GetMetadata()["leases"]
		}
	}
	return "none"
}

// A backend that is down when the daemon starts does not stop it: the others
// serve, it is reported, and it serves as soon as it is up.
func TestBackendDownAtStart(t *testing.T) {
	up, down := testenv.StartRedisT(t), testenv.StartRedisT(t)
	down.Kill()
	c := configure(t, fmt.Sprintf(`backends:
  up: {url: "%s"}
  down: {url: "%s"}
routes:
  - {match: down/**, backend: down}
  - {match: up/**, backend: up}
`, up.URL(), down.URL("timeout=500ms")))
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "up/a", Wait: seconds(0), Ttl: seconds(60)}); err != nil {
		t.Errorf("the backend that is up does not serve: %v", err)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "down/a", Wait: seconds(0)}); status.Code(err) != codes.Unavailable || !strings.HasSuffix(reasonOf(err), " down") {
		t.Errorf("the backend that is down: %v, %s", err, reasonOf(err))
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "elsewhere"}); status.Code(err) != codes.InvalidArgument || reasonOf(err) != "NO_ROUTE " {
		t.Errorf("a lock without a route: %v, %s", err, reasonOf(err))
	}
	eventually(t, "both are reported", func() bool {
		return c.health(t, "up") == healthpb.HealthCheckResponse_SERVING && c.health(t, "down") == healthpb.HealthCheckResponse_NOT_SERVING &&
			c.metric(t, `locksidecar_backend_ready{backend="up"}`) == "1" && c.metric(t, `locksidecar_backend_ready{backend="down"}`) == "0"
	})
	for _, b := range c.status(t).GetBackends() {
		if b.GetServing() != (b.GetName() == "up") || b.GetDriver() != "redis" {
			t.Errorf("status: %v", b)
		}
	}
	if err := down.Restart(t.Context()); err != nil {
		t.Fatal(err)
	}
	eventually(t, "the backend serves once it is up", func() bool {
		l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "down/a", Wait: seconds(0)})
		if err == nil {
			c.release(t, l)
		}
		return err == nil && c.health(t, "down") == healthpb.HealthCheckResponse_SERVING
	})
	for _, id := range []string{"up/b", "down/b", "down/c"} {
		if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, Ttl: seconds(60)}); err != nil {
			t.Fatal(err)
		}
	}
	// A listing goes through all backends, page by page.
	var listed []string
	for page := ""; ; {
		r, err := c.List(within(t), &lockpb.ListRequest{PageSize: 1, PageToken: page})
		if err != nil {
			t.Fatal(err)
		}
		for _, l := range r.GetLocks() {
			listed = append(listed, l.GetBackend()+":"+l.GetLockId())
		}
		if page = r.GetNextPageToken(); page == "" {
			break
		}
	}
	for _, want := range []string{"up:up/a", "up:up/b", "down:down/b", "down:down/c"} {
		if !strings.Contains(strings.Join(listed, " "), want) {
			t.Errorf("the listing lacks %s: %v", want, listed)
		}
	}
}

// A file that is not understood, or that wants what needs a restart, is refused
// as a whole: what was in force stays so, and it is told. One that changes is
// taken over without a signal, also behind links as Kubernetes has them.
func TestReloadRefusesABadFileAndKeepsTheOldOne(t *testing.T) {
	const good = "backends: {a: {url: 'embedded:'}}\nroutes:\n- {match: a/**, backend: a}\n"
	c := configure(t, good)
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a/1", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	for refused, bad := range []struct{ text, says string }{
		{good + "- {macth: b/**, backend: a}\n", "line 4: routes[2]: unknown key"},
		{good + "- {match: b/**, backend: b}\n", `line 4: the route leads to the backend \"b\"`},
		{good + "limits: {leases: 5}\n", "limits cannot change while the daemon runs"},
		{good + "lock_classes: [{match: a, class: a}]\n", "lock_classes cannot change while the daemon runs"},
		{good + "socket: {mode: '0666'}\n", "socket.mode cannot change"},
		{"backends: {a: {url: 'redis://u:hunter2@h?wrong=1'}}\n", `backend \"a\"`},
		{"", "it is empty"},
	} {
		if got := c.hangup(t, bad.text); !got.GetStale() || got.GetReloads() != 0 || int(got.GetRefused()) <= refused {
			t.Errorf("%q: %v", bad.text, got)
		}
		eventually(t, "the log says "+bad.says, func() bool {
			return strings.Contains(c.d.Output(), bad.says) && strings.Contains(c.d.Output(), "the configuration was refused")
		})
	}
	if strings.Contains(c.d.Output(), "hunter2") {
		t.Errorf("a secret is in the log:\n%s", c.d.Output())
	}
	c.becomes(t, `locksidecar_config_reloads_total{result="refused"}`, 7)
	if got := c.lock(t, "a/1"); len(got.GetHolders()) != 1 || got.GetHolders()[0].GetFencingToken() != l.GetFencingToken() {
		t.Errorf("the lease is gone: %v", got)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "b/1"}); reasonOf(err) != "NO_ROUTE " {
		t.Errorf("a refused route is in force: %v", err)
	}

	// By itself: the file is a link to a link, of which one is replaced.
	before := c.status(t).GetConfiguration()
	dir := t.TempDir()
	for version, text := range map[string]string{"..1": good, "..2": good + "- {match: b/**, backend: a}\n"} {
		if err := os.Mkdir(filepath.Join(dir, version), 0o700); err != nil {
			t.Fatal(err)
		}
		replace(t, filepath.Join(dir, version, "config.yaml"), text)
	}
	link := func(to, from string) {
		t.Helper()
		next := from + ".next"
		if err := os.Symlink(to, next); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(next, from); err != nil {
			t.Fatal(err)
		}
	}
	link(filepath.Join(dir, "..1"), filepath.Join(dir, "..data"))
	link(filepath.Join(dir, "..data", "config.yaml"), c.file)
	before = c.looked(t, before)
	if before.GetStale() || before.GetReloads() != 1 {
		t.Errorf("a good file behind links: %v", before)
	}
	link(filepath.Join(dir, "..2"), filepath.Join(dir, "..data"))
	if got := c.looked(t, before); got.GetStale() || got.GetReloads() != 2 {
		t.Errorf("another one behind the same link: %v", got)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "b/1"}); err != nil {
		t.Errorf("the new route: %v", err)
	}
	// A policy may come and go: what is held stays, and can be given back.
	if got := c.hangup(t, good+"policy: {rules: [{locks: ['**'], may: [inspect]}]}\n"); got.GetStale() {
		t.Errorf("a policy: %v", got)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a/2"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("the policy is not in force: %v", err)
	}
	c.release(t, l)
}

// A backend's URL in a file of its own is read again when that file changes, and
// is a secret.
func TestURLFile(t *testing.T) {
	first, second := testenv.StartRedisT(t), testenv.StartRedisT(t)
	secret := filepath.Join(t.TempDir(), "url")
	const password = "hunter2"
	write := func(r *testenv.Redis) {
		r.Must(t, "ACL", "SETUSER", "sidecar", "on", ">"+password, "~*", "&*", "+@all")
		replace(t, secret, "redis://sidecar:"+password+"@"+r.Addr()+"?new=1\n")
	}
	write(first)
	c := configure(t, "backends: {a: {url_file: '"+secret+"'}}\n")
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "x", Ttl: seconds(60)})
	if err != nil {
		t.Fatal(err)
	}
	before := c.status(t).GetConfiguration()
	write(second)
	if got := c.looked(t, before); got.GetStale() {
		t.Errorf("%v\n%s", got, c.d.Output())
	}
	// Two backends of one name, until the lease of the older has ended.
	if s := c.status(t); len(s.GetBackends()) != 2 || s.GetBackends()[0].GetRetired() || !s.GetBackends()[1].GetRetired() {
		t.Errorf("status: %v", s)
	}
	if _, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "y"}); err != nil {
		t.Errorf("the new backend: %v", err)
	}
	c.release(t, l)
	eventually(t, "the older one is closed", func() bool { return len(c.status(t).GetBackends()) == 1 })
	if n := c.metric(t, `locksidecar_backend_ready{backend="a"}`); n != "1" {
		t.Errorf("the backend is reported as %s", n)
	}
	onSecond := dial(t, testenv.Daemon(t, "serve", "--backend", second.URL()).Endpoint())
	if got := onSecond.lock(t, "y"); len(got.GetHolders()) != 1 {
		t.Errorf("the new backend has %v", got)
	}
	exit, printed := command(t, "config", "explain", "--config", c.file, "x")
	if exit != 0 || !strings.Contains(printed, second.Addr()) || strings.Contains(printed+c.d.Output(), password) {
		t.Errorf("explain ended with %d:\n%s\nthe log:\n%s", exit, printed, c.d.Output())
	}
}

// On SIGTERM waiters are told; what a stream holds is released, or left for the
// next process to adopt, as the configuration says. Nothing else stays behind.
func TestDrain(t *testing.T) {
	for _, policy := range []string{"release", "leave"} {
		t.Run(policy, func(t *testing.T) {
			redis := testenv.StartRedisT(t)
			c := configure(t, fmt.Sprintf("backends: {main: {url: '%s'}}\ndrain: {leases: %s, timeout: 9s}\n", redis.URL(), policy))
			held := c.stream(t)
			held.send(t, &lockpb.AcquireRequest{LockId: "job", Ttl: seconds(60)})
			l := held.granted(t)
			waits := make(chan error, 1)
			go func() {
				_, err := dial(t, c.d.Endpoint()).Acquire(context.Background(), &lockpb.AcquireRequest{LockId: "job"})
				waits <- err
			}()
			eventually(t, "one waits", func() bool { return len(c.lock(t, "job").GetWaiters()) == 1 })
			if err := c.d.Stop(); err != nil {
				t.Fatal(err)
			}
			told := "DRAINING "
			if policy == "leave" {
				told = "DRAINING left"
			}
			for {
				_, err := held.Recv()
				if err == nil {
					continue
				}
				if reasonOf(err) != told {
					t.Errorf("the stream ended with %v, %s", err, reasonOf(err))
				}
				break
			}
			if err := <-waits; !strings.HasPrefix(reasonOf(err), "DRAINING") {
				t.Errorf("the waiter: %v", err)
			}
			path := strings.TrimPrefix(c.d.Endpoint(), "unix://")
			entries, err := os.ReadDir(filepath.Dir(path))
			if err != nil {
				t.Fatal(err)
			}
			for _, e := range entries {
				if e.Name() != filepath.Base(path)+".lock" { // which the next one locks
					t.Errorf("%s is left behind", e.Name())
				}
			}

			testenv.Daemon(t, "serve", "--config", c.file, "--socket", path)
			next := dial(t, c.d.Endpoint())
			got := next.lock(t, "job")
			if len(got.GetWaiters()) != 0 {
				t.Errorf("a waiter is left behind: %v", got)
			}
			if policy == "release" {
				if len(got.GetHolders()) != 0 {
					t.Errorf("a lease is left behind: %v", got)
				}
				return
			}
			adopted := next.stream(t)
			if err := adopted.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Adopt{Adopt: &lockpb.AdoptRequest{
				LockId: "job", LeaseId: l.GetLeaseId(), FencingToken: l.GetFencingToken(), RequestId: l.GetRequestId(), Ttl: seconds(60),
			}}}); err != nil {
				t.Fatal(err)
			}
			if again := adopted.granted(t); again.GetFencingToken() != l.GetFencingToken() {
				t.Errorf("adopted as %v", again)
			}
		})
	}
}
