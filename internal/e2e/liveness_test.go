package e2e

import (
	"net/http"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// An application that makes no call for five TTLs keeps its lease, because the
// sidecar renews it: the store sees the renewals.
func TestSilentHolderKeepsItsLease(t *testing.T) {
	t.Parallel()
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			redis := testenv.StartRedisT(t)
			d := testenv.Daemon(t, "serve", "--backend", redis.URL())
			c := dial(t, d.Endpoint())
			monitor := redis.Monitor(t)
			a := startApp(t, language, d.Endpoint(), "--mode", "hold", "--lock", "silent", "--ttl", "3s")
			granted := a.expect(t, "granted")
			<-time.After(15 * time.Second) // five TTLs: the time is what is tested
			l := c.lock(t, "silent")
			if len(l.GetHolders()) != 1 || token(l) != granted.Token {
				t.Fatalf("after five TTLs the lock is %v, want the lease with token %s", l, granted.Token)
			}
			if n := strings.Count(strings.ToLower(monitor.String()), "evalsha"); n < 10 {
				t.Errorf("the store saw %d scripts in five TTLs, want at least two renewals a TTL", n)
			}
		})
	}
}

func token(l *lockpb.Lock) string {
	if len(l.GetHolders()) == 0 {
		return ""
	}
	return itoa(l.GetHolders()[0].GetFencingToken())
}

// kill -9 of a holder frees its lock long before its TTL.
func TestKilledHolderFreesItsLockLongBeforeItsTTL(t *testing.T) {
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			redis := testenv.StartRedisT(t)
			d := testenv.Daemon(t, "serve", "--backend", redis.URL())
			a := startApp(t, language, d.Endpoint(), "--mode", "hold", "--lock", "killed", "--ttl", "60s")
			a.expect(t, "granted")
			a.signal(t, syscall.SIGKILL)
			died := time.Now()
			l, err := dial(t, d.Endpoint()).Acquire(within(t), &lockpb.AcquireRequest{LockId: "killed"})
			if err != nil {
				t.Fatal(err)
			}
			took := time.Since(died)
			t.Logf("granted %v after the kill, token %d", took.Round(time.Millisecond), l.GetFencingToken())
			// Most of it is the allowance for this machine.
			if bound := 10 * time.Second; took > bound {
				t.Errorf("the lock was free %v after the holder's death, want within %v", took, bound)
			}
		})
	}
}

// A holder that was stopped past its TTL learns LOST when it goes on, and its
// late write is refused by a resource that checks tokens.
func TestStoppedHolderLearnsLostAndItsLateWriteIsRefused(t *testing.T) {
	t.Parallel()
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			redis := testenv.StartRedisT(t)
			d := testenv.Daemon(t, "serve", "--backend", redis.URL())
			reg, url := startRegister(t)
			args := []string{"--mode", "write", "--lock", "stopped", "--ttl", "5s", "--register", url}
			first := startApp(t, language, d.Endpoint(), args...)
			first.expect(t, "granted")
			first.write(t, "first")
			if got := first.expect(t, "write").Status; got != http.StatusOK {
				t.Fatalf("the holder's write was answered with %d", got)
			}
			first.signal(t, syscall.SIGSTOP)

			second := startApp(t, language, d.Endpoint(), args...)
			second.expect(t, "granted")
			second.write(t, "second")
			if got := second.expect(t, "write").Status; got != http.StatusOK {
				t.Fatalf("the next holder's write was answered with %d", got)
			}

			// The two come in either order: it may write before it hears.
			first.signal(t, syscall.SIGCONT)
			first.write(t, "late")
			lost, refused := false, 0
			for !lost || refused == 0 {
				switch e := first.next(t); e.Event {
				case "lost":
					lost = true
				case "write":
					refused = e.Status
				}
			}
			if refused != http.StatusPreconditionFailed {
				t.Errorf("the late write was answered with %d, want 412", refused)
			}
			if _, value := reg.read(); value != "second" {
				t.Errorf("the register holds %q, want the second holder's value", value)
			}
		})
	}
}

// A busy interpreter is not a dead one: three TTLs of computing keep the lease.
func TestBusyHolderKeepsItsLease(t *testing.T) {
	t.Parallel()
	for _, language := range languages {
		t.Run(language, func(t *testing.T) {
			t.Parallel()
			redis := testenv.StartRedisT(t)
			d := testenv.Daemon(t, "serve", "--backend", redis.URL())
			a := startApp(t, language, d.Endpoint(), "--mode", "compute", "--lock", "busy", "--ttl", "5s", "--seconds", "16")
			a.expect(t, "granted")
			// The program asks for the lock's holder and compares the token.
			if e := a.next(t); e.Event != "still_held" {
				t.Errorf("after 16 s of computing: %+v, want the lease still held", e)
			}
		})
	}
}

// Application and sidecar die together: another sidecar gets the lock, not
// before the first one's valid-until, and not later than its TTL and the
// declared lateness, with a higher token.
func TestSecondSidecarTakesOverAfterValidUntil(t *testing.T) {
	t.Parallel()
	redis := testenv.StartRedisT(t)
	first := testenv.Daemon(t, "serve", "--backend", redis.URL())
	second := dial(t, testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint())
	status, err := second.GetStatus(within(t), &lockpb.GetStatusRequest{})
	if err != nil {
		t.Fatal(err)
	}
	lateness := status.GetBackends()[0].GetCapabilities().GetLateness().AsDuration()

	const ttl = 10 * time.Second
	a := startApp(t, "python", first.Endpoint(), "--mode", "hold", "--lock", "takeover", "--ttl", ttl.String())
	granted := a.expect(t, "granted")
	a.signal(t, syscall.SIGSTOP) // so that it cannot release
	first.Kill()
	killed := time.Now()
	before := second.lock(t, "takeover").GetHolders()
	if len(before) != 1 {
		t.Fatalf("the lease is gone with its sidecar: %v", before)
	}
	a.signal(t, syscall.SIGKILL)
	l, err := second.Acquire(within(t), &lockpb.AcquireRequest{LockId: "takeover"})
	if err != nil {
		t.Fatal(err)
	}
	took := time.Since(killed)
	// valid-until lies a hundredth and 50 ms before what the store says.
	validFor := before[0].GetRemaining().AsDuration()*99/100 - 50*time.Millisecond
	t.Logf("taken over after %v; the first holder's time was %v, its TTL %v, lateness %v", took, validFor, ttl, lateness)
	if took < validFor {
		t.Errorf("granted %v after the kill, while the first holder could rely on its lease for %v", took, validFor)
	}
	// Ten seconds are the allowance for this machine.
	if bound := ttl + lateness + 10*time.Second; took > bound {
		t.Errorf("granted %v after the kill, want within %v", took, bound)
	}
	if itoa(l.GetFencingToken()) <= granted.Token {
		t.Errorf("token %d after %s", l.GetFencingToken(), granted.Token)
	}
}
