package e2e

import (
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// socketPath is a path whose directory does not exist yet.
func socketPath(t *testing.T) string {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsa") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	return filepath.Join(dir, "run", "api.sock")
}

// command runs the command line to its end.
func command(t *testing.T, args ...string) (exit int, printed string) {
	t.Helper()
	cmd := exec.CommandContext(within(t), testenv.Binary(t), args...)
	out, err := cmd.CombinedOutput()
	var ended *exec.ExitError
	if err != nil && !errors.As(err, &ended) {
		t.Fatalf("%v: %v\n%s", args, err, out)
	}
	return cmd.ProcessState.ExitCode(), string(out)
}

// Two daemons never share a path: the second ends and says why, the first is
// not disturbed. What a killed one leaves behind is taken over, by one.
func TestTwoDaemonsNeverShareAPath(t *testing.T) {
	path := socketPath(t)
	serve := []string{"serve", "--backend", "embedded:", "--socket", path}
	first := testenv.Daemon(t, serve...)
	c := dial(t, first.Endpoint())
	l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "a"})
	if err != nil {
		t.Fatal(err)
	}
	if exit, printed := command(t, serve...); exit == 0 || !strings.Contains(printed, "another process serves") {
		t.Errorf("the second daemon ended with %d and printed:\n%s", exit, printed)
	}
	c.release(t, l) // over the socket of before

	first.Kill()
	if _, err := os.Lstat(path); err != nil {
		t.Fatalf("the killed daemon left no socket: %v", err)
	}
	// Several at once, as a hurried operator's.
	type outcome struct {
		exit    int
		printed string
	}
	const hurried = 4
	ended := make(chan outcome, hurried)
	var daemons []*exec.Cmd
	for range hurried {
		var out testenv.Output
		cmd := exec.CommandContext(t.Context(), testenv.Binary(t), serve...)
		cmd.Stdout, cmd.Stderr = &out, &out
		if err := cmd.Start(); err != nil {
			t.Fatal(err)
		}
		daemons = append(daemons, cmd)
		go func() {
			_ = cmd.Wait()
			ended <- outcome{cmd.ProcessState.ExitCode(), out.String()}
		}()
	}
	for range hurried - 1 {
		if o := <-ended; o.exit == 0 || !strings.Contains(o.printed, "another process serves") {
			t.Errorf("a daemon ended with %d and printed:\n%s", o.exit, o.printed)
		}
	}
	again := dial(t, "unix://"+path)
	eventually(t, "the one that is left serves", func() bool {
		_, err := again.Get(within(t), &lockpb.GetRequest{LockId: "a"})
		return err == nil
	})
	for _, d := range daemons {
		_ = d.Process.Signal(os.Interrupt)
	}
	if o := <-ended; o.exit != 0 {
		t.Errorf("the last one ended with %d and printed:\n%s", o.exit, o.printed)
	}
}

func TestPolicyOfADaemon(t *testing.T) {
	path := socketPath(t)
	file := filepath.Join(t.TempDir(), "policy.yaml")
	write := func(text string) {
		t.Helper()
		if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	write(fmt.Sprintf(`rules:
  - who: {uid: %d, socket: %s}
    locks: ["jobs/*"]
    may: [acquire, inspect]
  - who: {gid: %d}
    locks: [ops/**]
    may: [inspect, force]
`, os.Getuid(), path, os.Getgid()))
	serve := []string{"serve", "--backend", "embedded:", "--socket", path, "--policy", file}
	d := testenv.Daemon(t, serve...)
	endpoint := d.Endpoint()
	for _, run := range []struct {
		exit int
		args []string
	}{
		{0, []string{"acquire", "--endpoint", endpoint, "jobs/nightly"}},
		{0, []string{"get", "--endpoint", endpoint, "jobs/nightly"}},
		{77, []string{"acquire", "--endpoint", endpoint, "jobs/nightly/part"}},
		{77, []string{"acquire", "--endpoint", endpoint, "ops/a"}},
		{77, []string{"lock", "--endpoint", endpoint, "ops/a", "--", "true"}},
		{0, []string{"get", "--endpoint", endpoint, "ops/a"}},
		{77, []string{"force-release", "--endpoint", endpoint, "jobs/nightly", "--token", "1", "--reason", "test"}},
		{0, []string{"ls", "--endpoint", endpoint}},
	} {
		exit, printed := command(t, run.args...)
		if exit != run.exit {
			t.Errorf("%v ended with %d, want %d:\n%s", run.args, exit, run.exit, printed)
		}
		if strings.Contains(printed, "rule") {
			t.Errorf("%v tells of the policy:\n%s", run.args, printed)
		}
	}
	if _, err := dial(t, endpoint).ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "jobs/nightly", FencingToken: 1, Reason: "test"}); status.Code(err) != codes.PermissionDenied {
		t.Errorf("force: %v", err)
	}
	for _, says := range []string{"line 5", "line 2", "jobs/nightly", "force"} {
		eventually(t, fmt.Sprintf("the log says %q", says), func() bool { return strings.Contains(d.Output(), says) })
	}
	write("rules:\n  - locks: [a]\n    may: [own]\n")
	if exit, printed := command(t, serve...); exit != 64 || !strings.Contains(printed, "line 3") {
		t.Errorf("with a mistake it ended with %d and printed:\n%s", exit, printed)
	}
}
