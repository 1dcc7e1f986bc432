package main

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"google.golang.org/protobuf/types/known/durationpb"

	"github.com/locksidecar/locksidecar/backend/driver"
	"github.com/locksidecar/locksidecar/internal/client"
	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// family is a command with a child, a child in a session of its own, and a
// grandchild that was orphaned in another group. It says who they are and waits.
const family = `
sleep 1000 & A=$!
setsid sleep 1000 & B=$!
C=$(setsid sh -c 'sleep 1000 >/dev/null 2>&1 & echo $!')
echo pids $$ $A $B $C
wait
`

// A revoked command: child and grandchildren are gone before the next holder is
// granted, which happens as soon as they are and not at the lease's end.
func TestRevokedCommandIsGoneBeforeTheNextHolder(t *testing.T) {
	t.Parallel()
	for name, text := range map[string]string{
		"obedient": family,
		// Nothing of it ends by SIGTERM.
		"deaf": "trap '' TERM\n" + family,
		// SIGTERM ends the command alone.
		"deaf grandchildren": "trap '' TERM\nsleep 1000 & A=$!\ntrap - TERM\necho pids $$ $A\nwait\n",
		// A stopped process does not act on SIGTERM.
		"stopped": "sleep 1000 & A=$!\nkill -STOP $A\necho pids $$ $A\nkill -STOP $$\nwait\n",
		// It acts on SIGTERM after a while, well within its time.
		"tidy": "trap 'sleep 0.2; echo tidied; exit 0' TERM\nsleep 1000 & A=$!\necho pids $$ $A\nwait\n",
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			d, cl := dev(t)
			l := begin(t, d.Endpoint(), "lock", "job", "--ttl", "60", "--", script(t, text))
			pids := l.pids(t, "pids")
			if alive := running(pids); len(alive) != len(pids) {
				t.Fatalf("of %v only %v run", pids, alive)
			}
			force(t, cl, "job")
			if ran := next(t, cl, "job", pids); len(ran) > 0 {
				t.Errorf("granted while %v of %v ran", ran, pids)
			}
			if got := l.code(t); got != exitLost {
				t.Errorf("exit code %d, want %d", got, exitLost)
			}
			if want := `locksidecar: the lease of "job" was lost (forced); the command was ended`; !strings.Contains(l.errs.String(), want) {
				t.Errorf("it said %q, want %q", l.errs.String(), want)
			}
			if name == "tidy" && !strings.Contains(l.out.String(), "tidied") {
				t.Error("the command was not given time to tidy up")
			}
		})
	}
}

// The sidecar falls silent, killed or stopped: the command's own clock ends it
// before its lease ends.
func TestSilentSidecarEndsTheCommandBeforeItsLeaseEnds(t *testing.T) {
	t.Parallel()
	for name, silence := range map[string]func(*testenv.Process) error{
		"killed":  func(p *testenv.Process) error { p.Kill(); return nil },
		"stopped": (*testenv.Process).Pause,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			for again := 2; ; again-- {
				longest := stalls(t)
				ran := silent(t, silence)
				stall := longest()
				if len(ran) == 0 {
					return
				}
				// A supervisor that does not run for longer than its margin cannot
				// end anything: that says nothing of it.
				if stall < 300*time.Millisecond || again == 0 {
					t.Fatalf("granted while %v ran; the machine's longest stall was %v", ran, stall)
				}
				t.Logf("granted while %v ran, after a stall of %v: once more", ran, stall)
			}
		})
	}
}

// silent has a sidecar fall silent under a command, and says what of that ran when
// the next holder was granted.
func silent(t *testing.T, silence func(*testenv.Process) error) (ran []int) {
	t.Helper()
	redis := testenv.StartRedisT(t)
	first := testenv.Daemon(t, "serve", "--backend", redis.URL())
	other := connect(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	l := begin(t, first.Endpoint(), "lock", "job", "--ttl", "30", "--", script(t, "trap '' TERM\n"+family))
	pids := l.pids(t, "pids")
	if err := silence(first); err != nil {
		t.Fatal(err)
	}
	ran = next(t, other, "job", pids)
	if got := l.code(t); got != exitLost {
		t.Errorf("exit code %d, want %d", got, exitLost)
	}
	if !strings.Contains(l.errs.String(), "not renewed in time") {
		t.Errorf("it said %q", l.errs.String())
	}
	return ran
}

// A sidecar that is killed or stopped and comes back: the lease is adopted, and
// the command never knows.
func TestCommandOutlivesARestartOfTheSidecar(t *testing.T) {
	t.Parallel()
	for name, end := range map[string]func(*testenv.Process) error{
		"killed":  func(p *testenv.Process) error { p.Kill(); return nil },
		"stopped": (*testenv.Process).Stop,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			outlives(t, end)
		})
	}
}

func outlives(t *testing.T, end func(*testenv.Process) error) {
	redis := testenv.StartRedisT(t)
	path := socketPath(t)
	serve := []string{"serve", "--backend", redis.URL(), "--socket", path}
	first := testenv.Daemon(t, serve...)
	l := begin(t, first.Endpoint(), "lock", "job", "--ttl", "60", "--", script(t, "echo pids $$\nread -t 60 <>"+fifo(t)+"\nexit 3\n"))
	pids := l.pids(t, "pids")
	if err := end(first); err != nil {
		t.Fatal(err)
	}
	second := testenv.Daemon(t, serve...)
	cl := connect(t, second.Endpoint())
	token := held(t, cl, "job").GetFencingToken()
	// Held by the second: it renews.
	eventually(t, "the second sidecar holds the lease", func() bool {
		s, err := cl.GetStatus(t.Context(), &lockpb.GetStatusRequest{})
		return err == nil && s.GetLeasesHeld() == 1
	})
	if h := holder(t, cl, "job"); h.GetFencingToken() != token || len(running(pids)) != 1 {
		t.Errorf("after the restart the lock is held by %v, want token %d; %v run", h, token, running(pids))
	}
	l.signal(t, syscall.SIGTERM)
	if got := l.code(t); got != exitSignal+int(syscall.SIGTERM) {
		t.Errorf("exit code %d, want %d", got, exitSignal+int(syscall.SIGTERM))
	}
	if h := holder(t, cl, "job"); h != nil {
		t.Errorf("after the command's end the lock is held by %v", h)
	}
}

// waits is a loop that acts on traps. It reads for a short time only: a signal
// that comes just before a read does not interrupt it.
func waits(t *testing.T) string {
	t.Helper()
	return "while :; do read -t 0.1 <>" + fifo(t) + "; done"
}

// fifo is a pipe that nobody writes to.
func fifo(t *testing.T) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), "fifo")
	if err := syscall.Mkfifo(path, 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// It waits for the socket at its start, and through a restart while it waits
// for the lock, under one request id.
func TestLockWaitsForTheSocketAndThroughARestart(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	path := socketPath(t)
	serve := []string{"serve", "--backend", redis.URL(), "--socket", path}
	other := connect(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	lease, err := other.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: "job", Ttl: durationpb.New(time.Minute)})
	if err != nil {
		t.Fatal(err)
	}
	waiting := func() bool {
		got, err := other.Get(t.Context(), &lockpb.GetRequest{LockId: "job"})
		return err == nil && len(got.GetWaiters()) == 1
	}
	l := begin(t, "unix://"+path, "lock", "job", "--", "echo", "granted") // before there is a socket
	first := testenv.Daemon(t, serve...)
	eventually(t, "it waits", waiting)
	first.Kill()
	testenv.Daemon(t, serve...)
	_, err = other.Release(t.Context(), &lockpb.ReleaseRequest{LockId: "job", LeaseId: lease.GetLeaseId(), FencingToken: lease.GetFencingToken()})
	if err != nil && !client.Gone(err) {
		t.Fatal(err)
	}
	if got := l.code(t); got != 0 || l.out.String() != "granted\n" {
		t.Errorf("exit code %d, printed %q", got, l.out.String())
	}
}

// Every signal that can be passed on reaches the command, which decides what to
// make of it.
func TestSignalsReachTheCommand(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	var traps strings.Builder
	for _, s := range forwarded {
		_, _ = fmt.Fprintf(&traps, "trap 'echo got %d' %d\n", s, s)
	}
	l := begin(t, d.Endpoint(), "lock", "job", "--", script(t, traps.String()+"echo ready\n"+waits(t)))
	l.says(t, "ready")
	for _, s := range forwarded {
		l.signal(t, s.(syscall.Signal))
		l.says(t, fmt.Sprintf("got %d", s))
	}
	l.signal(t, syscall.SIGKILL)
	l.code(t)
}

// A signal ends the command, not its supervisor alone: nothing is left, and the
// lock is free.
func TestSignalsDoNotOrphanTheCommand(t *testing.T) {
	t.Parallel()
	for _, s := range []syscall.Signal{syscall.SIGTERM, syscall.SIGHUP, syscall.SIGUSR1} {
		t.Run(s.String(), func(t *testing.T) {
			t.Parallel()
			d, cl := dev(t)
			l := begin(t, d.Endpoint(), "lock", "job", "--", script(t, family))
			pids := l.pids(t, "pids")
			l.signal(t, s)
			if got := l.code(t); got != exitSignal+int(s) {
				t.Errorf("exit code %d, want %d", got, exitSignal+int(s))
			}
			if ran := running(pids); len(ran) > 0 {
				t.Errorf("%v of %v still run", ran, pids)
			}
			if h := holder(t, cl, "job"); h != nil {
				t.Errorf("the lock is held by %v", h)
			}
		})
	}
}

// Signals while it waits end the wait and leave the queue.
func TestSignalsEndTheWait(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	redis := testenv.StartRedisT(t)
	on := testenv.Daemon(t, "serve", "--backend", redis.URL())
	for name, way := range map[string]struct {
		cl   *client.Client
		args []string
	}{
		"daemon":  {cl, []string{"lock"}},
		"backend": {connect(t, on.Endpoint()), []string{"lock", "--backend", redis.URL()}},
		"acquire": {cl, []string{"acquire"}},
	} {
		t.Run(name, func(t *testing.T) {
			for _, s := range []syscall.Signal{syscall.SIGINT, syscall.SIGTERM} {
				lock := fmt.Sprintf("wait/%s/%d", name, s)
				if _, err := way.cl.Acquire(t.Context(), &lockpb.AcquireRequest{LockId: lock, Ttl: secondsOf(60)}); err != nil {
					t.Fatal(err)
				}
				endpoint := d.Endpoint()
				args := append(way.args[:len(way.args):len(way.args)], lock)
				if way.args[0] == "lock" {
					args = append(args, "--", "echo", "never")
				}
				if len(way.args) > 1 {
					endpoint = ""
				}
				l := begin(t, endpoint, args...)
				waiters := func(n int) func() bool {
					return func() bool {
						got, err := way.cl.Get(t.Context(), &lockpb.GetRequest{LockId: lock})
						return err == nil && len(got.GetWaiters()) == n
					}
				}
				eventually(t, "it waits", waiters(1))
				l.signal(t, s)
				if got := l.code(t); got != exitSignal+int(s) || l.out.String() != "" {
					t.Errorf("%v: exit code %d, want %d; printed %q", s, got, exitSignal+int(s), l.out.String())
				}
				eventually(t, "it has left the queue", waiters(0))
			}
		})
	}
}

// What was ignored at the start stays ignored, in the command too: nohup.
func TestIgnoredSignalsStayIgnored(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	l := &locked{Cmd: exec.Command("bash", "-c", "trap '' HUP; exec locksidecar lock job -- "+
		script(t, "trap 'echo got' USR1; kill -HUP $$; echo ready; "+waits(t))), ended: make(chan struct{})}
	l.Env, l.Stdout, l.Stderr = environ(d.Endpoint()), &l.out, &l.errs
	l.run(t)
	l.says(t, "ready") // it outlived its own SIGHUP
	l.signal(t, syscall.SIGHUP)
	l.signal(t, syscall.SIGUSR1)
	l.says(t, "got")
}

// kill -9 of the supervisor: the command dies with it, and the lease stands for
// its time, since something may have survived.
func TestKilledSupervisorTakesTheCommandAndLeavesTheLease(t *testing.T) {
	t.Parallel()
	d, cl := dev(t)
	l := begin(t, d.Endpoint(), "lock", "job", "--ttl", "60", "--", script(t, "echo pids $$\nread -t 60 <>"+fifo(t)))
	pids := l.pids(t, "pids")
	l.signal(t, syscall.SIGKILL)
	l.code(t)
	eventually(t, "the command has died", func() bool { return len(running(pids)) == 0 })
	// The sidecar has noticed that the connection is gone.
	eventually(t, "the sidecar renews no more", func() bool {
		s, err := cl.GetStatus(t.Context(), &lockpb.GetStatusRequest{})
		return err == nil && s.GetLeasesHeld() == 0
	})
	if h := holder(t, cl, "job"); h == nil {
		t.Error("the lease was released")
	}
}

// on is the lock command on a Redis, directly or through a daemon.
func on(t *testing.T, redis *testenv.Redis, where string) []string {
	t.Helper()
	if where == "--backend" {
		return []string{"lock", where, redis.URL()}
	}
	return []string{"lock", where, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint()}
}

// Wiped data: the store knows nothing of the lease any more, and the command
// does not go on.
func TestForgottenLeaseEndsTheCommand(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"--backend", "--endpoint"} {
		redis := testenv.StartRedisT(t) // a wiped one grants nothing for a while
		args := on(t, redis, where)
		l := begin(t, "", append(args, "--ttl", "3", "job", "--", script(t, family))...)
		pids := l.pids(t, "pids")
		redis.Must(t, "FLUSHALL")
		if got := l.code(t); got != exitLost {
			t.Errorf("%v: exit code %d, want %d: %s", args, got, exitLost, l.errs.String())
		}
		if ran := running(pids); len(ran) > 0 {
			t.Errorf("%v: %v of %v still run", args, ran, pids)
		}
	}
}

// A lease that ended before the command did is the command's failure, although
// nobody had noticed.
func TestCommandThatEndsAfterItsLeaseFails(t *testing.T) {
	t.Parallel()
	for _, where := range []string{"--backend", "--endpoint"} {
		t.Run(where, func(t *testing.T) {
			redis := testenv.StartRedisT(t)
			args := on(t, redis, where)
			// No renewal comes for 20 s: the release is what finds it.
			l := &locked{Cmd: exec.Command("locksidecar", append(args, "--ttl", "60", "job", "--", "sh", "-c", "echo ready; read line; exit 0")...), ended: make(chan struct{})}
			l.Env, l.Stdout, l.Stderr = os.Environ(), &l.out, &l.errs
			in, err := l.StdinPipe()
			if err != nil {
				t.Fatal(err)
			}
			l.run(t)
			l.says(t, "ready")
			redis.Must(t, "FLUSHALL")
			if err := in.Close(); err != nil {
				t.Fatal(err)
			}
			if got := l.code(t); got != exitLost {
				t.Errorf("exit code %d, want %d: %s", got, exitLost, l.errs.String())
			}
		})
	}
}

// Children of another program, given by an exec, are left alone.
func TestChildrenOfOthersAreLeftAlone(t *testing.T) {
	t.Parallel()
	d, _ := dev(t)
	l := &locked{Cmd: exec.Command("bash", "-c", "sleep 1000 >/dev/null 2>&1 & echo pids $!; exec locksidecar lock job -- "+script(t, "sleep 1000 & echo own $!")), ended: make(chan struct{})}
	l.Env, l.Stdout, l.Stderr = environ(d.Endpoint()), &l.out, &l.errs
	l.run(t)
	theirs := l.pids(t, "pids")
	own := l.pids(t, "own")
	if got := l.code(t); got != 0 {
		t.Errorf("exit code %d", got)
	}
	if len(running(theirs)) != 1 || len(running(own)) != 0 {
		t.Errorf("of the others' %v run, want one; of the command's %v run, want none", running(theirs), running(own))
	}
}

// Between a renewal and valid-until there is room for SIGTERM and SIGKILL,
// whatever the TTL.
func TestMarginsFitIntoEveryLease(t *testing.T) {
	for ttl := time.Second; ttl <= time.Minute; ttl += 100 * time.Millisecond {
		valid := ttl*99/100 - 50*time.Millisecond
		// A renewal comes at a third of the TTL, 10 % later at most.
		afterRenewal := valid - ttl*11/30
		if term, kill := termMargin(ttl), killMargin(ttl); kill <= 0 || term <= kill || term >= afterRenewal {
			t.Fatalf("ttl %v: SIGTERM %v and SIGKILL %v before valid-until, a renewal is due with %v left", ttl, term, kill, afterRenewal)
		}
	}
}

// Errors of the outcome table have the documented codes, from a daemon and from
// a backend in this process.
func TestCodesOfSentinels(t *testing.T) {
	for _, err := range driver.Sentinels() {
		code := codeOf(fmt.Errorf("lock: %w", err))
		if code == 0 {
			t.Errorf("%v: exit code 0", err)
		}
	}
	for err, want := range map[error]int{
		&driver.HeldError{}: exitNo, driver.Lost(driver.CauseForced): exitLost, driver.ErrBreakerOpen: exitNoDaemon,
		driver.ErrIndeterminate: exitNoDaemon, driver.ErrInvalid: exitUsage,
	} {
		if got := codeOf(err); got != want {
			t.Errorf("%v: exit code %d, want %d", err, got, want)
		}
	}
}
