package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// Every command of the runbooks runs, as it stands, where there is something to
// see: a sidecar with metrics and a configuration file, on a Redis of the page's
// own, on which web-1 holds orders/42 and web-2 waits for it.
func TestSnippetsOfTheRunbooksRun(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d runbooks: %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			all := snippets(t, filepath.Join("docs", "runbooks", name))
			all = slices.DeleteFunc(all, func(s snippet) bool { return s.how == "cluster" }) // internal/kubetest runs those
			if len(all) == 0 {
				return
			}
			on := site(t)
			for _, s := range all {
				t.Run(fmt.Sprintf("line_%d", s.line), func(t *testing.T) {
					if s.how != "runbook" {
						t.Fatalf("%s:%d: a block of kind %q; runbooks have those of kind %q", s.file, s.line, s.how, "runbook")
					}
					ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
					defer cancel()
					run(t, ctx, on.env, on.theirs(s.text))
				})
			}
		})
	}
}

// place is where a runbook's commands run.
type place struct {
	env    []string
	theirs func(text string) string
}

// siteTTL is the longest TTL of a site, which is how long a quarantine lasts.
const siteTTL = "max_ttl=30s"

func site(t *testing.T) place {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsrun") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	redis := testenv.StartRedisT(t)
	file := filepath.Join(dir, "config.yaml")
	replace(t, file, fmt.Sprintf("socket: {path: %s}\nbackends: {main: {url: %q}}\nlock_classes: [{match: orders/**, class: orders}]\n",
		filepath.Join(dir, "run", "api.sock"), redis.URL(siteTTL)))
	d := testenv.Daemon(t, "serve", "--config", file, "--metrics", "127.0.0.1:0", "--socket", filepath.Join(dir, "run", "api.sock"))
	eventually(t, "the log says where metrics are served", func() bool { return served.MatchString(d.Output()) })
	metrics := strings.TrimSuffix(strings.TrimPrefix(served.FindString(d.Output()), "http://"), "/metrics")
	// Few runbooks are about etcd.
	etcd := sync.OnceValue(func() string { return testenv.StartEtcd(t, testenv.EtcdOptions{}).Members[0].Addr() })
	p := place{
		env: append(os.Environ(),
			"LOCKSIDECAR_ENDPOINT="+d.Endpoint(),
			"PATH="+filepath.Dir(testenv.Binary(t))+":"+testenv.ToolsDir(t)+":"+os.Getenv("PATH")),
		theirs: func(text string) string {
			for from, to := range map[string]string{
				"--backend redis://127.0.0.1:6379": "--backend 'redis://127.0.0.1:6379?" + siteTTL + "'",
				"/run/locksidecar/":                filepath.Join(dir, "run") + "/",
				"/etc/locksidecar/":                dir + "/",
				"127.0.0.1:9718":                   metrics,
			} {
				text = strings.ReplaceAll(text, from, to)
			}
			text = strings.ReplaceAll(text, "127.0.0.1:6379", redis.Addr())
			if strings.Contains(text, "127.0.0.1:2379") {
				text = strings.ReplaceAll(text, "127.0.0.1:2379", etcd())
			}
			return text
		},
	}
	c := dial(t, d.Endpoint())
	(&configured{client: c, d: d}).becomes(t, `locksidecar_backend_memory_used_ratio{backend="main"}`, 1e-9) // the store was asked
	p.application(t, "web-1")
	eventually(t, "web-1 holds the lock", func() bool { return len(c.lock(t, "orders/42").GetHolders()) == 1 })
	p.application(t, "web-2")
	eventually(t, "web-2 waits for the lock", func() bool { return len(c.lock(t, "orders/42").GetWaiters()) == 1 })
	return p
}

// application runs a command under the lock until the test ends.
func (p place) application(t *testing.T, owner string) {
	t.Helper()
	var out testenv.Output
	cmd := exec.Command(testenv.Binary(t), "lock", "orders/42", "--owner", owner, "--", "sleep", "600")
	cmd.Env, cmd.Stdout, cmd.Stderr = p.env, &out, &out
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan struct{})
	go func() {
		_ = cmd.Wait() // it is ended by a signal
		close(ended)
	}()
	t.Cleanup(func() {
		_ = cmd.Process.Signal(syscall.SIGTERM)
		select {
		case <-ended:
		case <-time.After(patience):
			_ = cmd.Process.Kill()
			t.Errorf("%s does not end; it printed:\n%s", owner, out.String())
		}
	})
}
