package e2e

import (
	"bytes"
	"encoding/json"
	"io"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
	lockpb "github.com/locksidecar/locksidecar/socket/lockpb/locksidecar/v1"
)

// chosen are secrets that a caller chose, so that nothing recognises them by
// their form.
const (
	chosenRequest = "a-request-that-only-its-caller-knows"
	chosenLease   = "a-lease-that-only-its-caller-knows"
)

// post is a request over HTTP whose answer does not matter.
func post(t *testing.T, path, url, body string) {
	t.Helper()
	c, err := net.Dial("unix", path)
	if err != nil {
		return // the daemon may be stopped by now
	}
	defer func() { _ = c.Close() }()
	_ = c.SetDeadline(time.Now().Add(patience))
	_, _ = io.WriteString(c, "POST "+url+" HTTP/1.1\r\nHost: x\r\nConnection: close\r\nContent-Length: "+strconv.Itoa(len(body))+"\r\n\r\n"+body)
	_, _ = io.ReadAll(c)
}

// Whatever goes wrong, at the most talkative level, the log has no secret, and
// each of its lines is one event. A daemon whose store answers, then refuses its
// password, then is gone, with leases held.
func TestNoSecretReachesTheLog(t *testing.T) {
	redis := testenv.StartRedisT(t)
	const password = "hunter2/with:odd@signs"
	redis.Must(t, "ACL", "SETUSER", "sidecar", "on", ">"+password, "~*", "&*", "+@all")
	file := filepath.Join(t.TempDir(), "password")
	if err := os.WriteFile(file, []byte(password+"\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	for name, url := range map[string]string{
		"in the URL": "redis://sidecar:hunter2%2Fwith%3Aodd%40signs@" + redis.Addr() + "?timeout=2s&new=1&prefix=u",
		"in a file":  "redis://" + redis.Addr() + "?username=sidecar&timeout=2s&new=1&prefix=f&password_file=" + file,
	} {
		t.Run(name, func(t *testing.T) {
			redis.Must(t, "ACL", "SETUSER", "sidecar", "on", ">"+password)
			path := socketPath(t)
			d := testenv.Daemon(t, "serve", "--backend", url, "--socket", path, "--log-level", "debug", "--log-format", "json")
			c := dial(t, d.Endpoint())
			var secrets []string
			var leases []*lockpb.Lease
			for _, id := range []string{"a", "b"} {
				l, err := c.Acquire(within(t), &lockpb.AcquireRequest{LockId: id, RequestId: chosenRequest + id})
				if err != nil {
					t.Fatal(err)
				}
				leases = append(leases, l)
				secrets = append(secrets, l.GetLeaseId(), chosenRequest)
			}
			held, err := c.Hold(within(t))
			if err != nil {
				t.Fatal(err)
			}
			if err := held.Send(&lockpb.HoldRequest{Request: &lockpb.HoldRequest_Acquire{Acquire: &lockpb.AcquireRequest{LockId: "h", RequestId: chosenRequest}}}); err != nil {
				t.Fatal(err)
			}
			if r, err := held.Recv(); err != nil || r.GetGranted() == nil {
				t.Fatalf("hold: %v, %v", r, err)
			} else {
				secrets = append(secrets, r.GetGranted().GetLeaseId())
			}
			// Everything that can go wrong, with secrets in it.
			wrong := func() {
				for _, l := range leases {
					_, _ = c.Renew(within(t), &lockpb.RenewRequest{LockId: l.GetLockId(), LeaseId: chosenLease, FencingToken: l.GetFencingToken()})
					_, _ = c.Renew(within(t), &lockpb.RenewRequest{LockId: l.GetLockId(), LeaseId: l.GetLeaseId(), FencingToken: 1})
					_, _ = c.Release(within(t), &lockpb.ReleaseRequest{LockId: l.GetLockId() + "/none", RequestId: chosenRequest})
					_, _ = c.Acquire(within(t), &lockpb.AcquireRequest{LockId: l.GetLockId(), RequestId: chosenRequest, LeaseId: chosenLease, Wait: seconds(0)})
					_, _ = c.Acquire(within(t), &lockpb.AcquireRequest{LockId: "free/" + l.GetLockId(), RequestId: chosenRequest + "\n", Wait: seconds(0.1)})
					_, _ = c.ForceRelease(within(t), &lockpb.ForceReleaseRequest{LockId: "c", FencingToken: 1, Reason: "forged\n{\"level\":\"ERROR\"}"})
				}
				body := `{"wait":"0s","lease_id":"` + chosenLease + `","request_id":"` + chosenRequest + `"`
				for _, url := range []string{"/locks/a:acquire", "/locks/a:renew", "/locks/a:release", "/locks/a:hold", "/locks/a%0a:acquire"} {
					post(t, path, url, body+`}`)
					post(t, path, url, body) // no JSON
					post(t, path, url, `{"lease_id":{"`+chosenLease+`":1}}`)
					post(t, path, url, `{"`+chosenLease+`":"`+chosenRequest+`"}`)
				}
			}
			wrong()
			// Its password is taken away, and its connections with it.
			redis.Must(t, "ACL", "SETUSER", "sidecar", "resetpass", ">another")
			redis.Must(t, "CLIENT", "KILL", "TYPE", "normal", "SKIPME", "yes")
			wrong()
			_ = held.CloseSend()
			if err := d.Stop(); err != nil {
				t.Error(err)
			}
			secrets = append(secrets, password, "hunter2", "odd%40signs", chosenLease)
			checkLog(t, d.Output(), secrets)
			if !strings.Contains(d.Output(), `"level":"WARN"`) || !strings.Contains(d.Output(), "a call failed") {
				t.Errorf("nothing went wrong:\n%s", d.Output())
			}
		})
	}
}

// checkLog looks at every line of a log.
func checkLog(t *testing.T, log string, secrets []string) {
	t.Helper()
	for line := range bytes.Lines([]byte(log)) {
		var event struct {
			Level, Msg, Time string
		}
		if err := json.Unmarshal(line, &event); err != nil || event.Level == "" || event.Msg == "" || event.Time == "" {
			t.Errorf("a line is no event: %s", line)
		}
		for _, s := range secrets {
			if bytes.Contains(line, []byte(s)) {
				t.Errorf("the secret %q is in the log: %s", s, line)
			}
		}
	}
}

// A daemon that does not even start tells no secret either, nor does its help.
func TestNoSecretInErrorsOfTheStart(t *testing.T) {
	const password = "hunter2"
	for _, url := range []string{
		"redis://u:" + password + "@[::1", "redis://u:" + password + "@127.0.0.1:1/?wrong=1", "redis://u:" + password + "@127.0.0.1:99999",
		"rediss://u:" + password + "@127.0.0.1:1?ca_file=/nonexistent", "nosuch://u:" + password + "@127.0.0.1", "redis://u:" + password + "@a b",
		"redis://u:" + password + "%zz@127.0.0.1", "redis://u:" + password + "@127.0.0.1/notadb", "u:" + password + "@127.0.0.1",
		"redis:u:" + password + "@127.0.0.1", "redis://127.0.0.1:1?password=" + password, "redis+unix://u:" + password + "@",
		"etcd://u:" + password + "@[::1", "etcd://u:" + password + "@127.0.0.1:1?wrong=1", "etcd://u:" + password + "@127.0.0.1:99999", "etcd://u:" + password + "@a,,b",
		"etcds://u:" + password + "@127.0.0.1:1?ca_file=/nonexistent", "etcd://u:" + password + "@127.0.0.1/path", "etcd:u:" + password + "@127.0.0.1",
	} {
		cmd := exec.CommandContext(within(t), testenv.Binary(t), "serve", "--backend", url, "--socket", "/nonexistent/"+strings.Repeat("n", 120))
		out, err := cmd.CombinedOutput()
		if err == nil {
			t.Errorf("%s: it served", url)
		}
		if bytes.Contains(out, []byte(password)) || len(out) == 0 {
			t.Errorf("%s: it printed:\n%s", url, out)
		}
	}
}
