package e2e

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// root is the repository's.
const root = "../.."

// snippet is a fenced block of a document. Its language is the fence's first
// word; the second one, if any, says how the block is run.
type snippet struct {
	file, how, text string
	line            int
}

// patience bounds the block's run. One that compiles, or runs the whole suite, may
// take long on a busy machine.
func (s snippet) patience() time.Duration {
	if strings.Contains(s.text, "conformance") || strings.Contains(s.text, "go run") {
		return 15 * time.Minute
	}
	return 5 * time.Minute
}

// snippets returns the blocks of a document.
func snippets(t *testing.T, file string) []snippet {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var found []snippet
	var open *snippet
	for i, line := range strings.Split(string(raw), "\n") {
		switch {
		case open != nil && strings.HasPrefix(line, "```"):
			if open.how != "excerpt" {
				found = append(found, *open)
			}
			open = nil
		case open != nil:
			open.text += line + "\n"
		case strings.HasPrefix(line, "```sh"):
			open = &snippet{file: file, line: i + 1, how: strings.TrimSpace(strings.TrimPrefix(line, "```sh"))}
		case line == "```python", line == "```js":
			open = &snippet{file: file, line: i + 1, how: strings.TrimPrefix(line, "```")}
		case strings.HasPrefix(line, "```go "):
			open = &snippet{how: "excerpt"} // internal/tree compares it with the source
		case strings.HasPrefix(line, "```"):
			t.Errorf("%s:%d: a block of a language that no test runs: %s", file, i+1, line)
		}
	}
	return found
}

// Every block of the documents runs, as it stands, against a real daemon.
func TestSnippetsOfTheDocumentsRun(t *testing.T) {
	t.Parallel()
	files, err := filepath.Glob(filepath.Join(root, "docs", "*.md"))
	if err != nil || len(files) == 0 {
		t.Fatalf("no documents: %v", err)
	}
	for i, f := range files {
		files[i] = filepath.Join("docs", filepath.Base(f))
	}
	for _, file := range append(files, "README.md", "CONTRIBUTING.md", "SECURITY.md") {
		run := shell(t)
		for _, s := range snippets(t, file) {
			t.Run(fmt.Sprintf("%s:%d", s.file, s.line), func(t *testing.T) { run(t, s) })
		}
	}
}

// shell returns what runs the blocks of one document, one after the other, in
// an environment with a dev daemon and a Redis of its own.
func shell(t *testing.T) func(*testing.T, snippet) {
	t.Helper()
	runtime, err := os.MkdirTemp("", "lsdocs") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(runtime) })
	env := append(os.Environ(),
		"XDG_RUNTIME_DIR="+runtime,
		"PATH="+filepath.Dir(testenv.Binary(t))+":"+testenv.ToolsDir(t)+":"+os.Getenv("PATH"),
	)
	redis := testenv.StartRedisT(t)
	// Few documents are about etcd.
	etcd := sync.OnceValue(func() string { return testenv.StartEtcd(t, testenv.EtcdOptions{}).Members[0].Addr() })
	testenv.Daemon(t, "dev", "--socket", filepath.Join(runtime, "locksidecar", "api.sock"))

	return func(t *testing.T, s snippet) {
		t.Helper()
		ctx, cancel := context.WithTimeout(t.Context(), s.patience())
		defer cancel()
		switch s.how {
		case "", "grpcurl":
			run(t, ctx, env, s.text)
		case "python":
			run(t, ctx, append(env, "PROGRAM="+s.text), "PYTHONPATH=examples/python '"+testenv.Python(t)+"' -c \"$PROGRAM\"")
		case "js":
			// Inside the package its own name is found, as where it is installed.
			run(t, ctx, append(env, "PROGRAM="+s.text), "cd examples/node && '"+testenv.Node(t)+"' --input-type=module -e \"$PROGRAM\"")
		case "redis", "etcd":
			const theirs = "redis://127.0.0.1:6379"
			text := strings.ReplaceAll(s.text, theirs+"?", redis.URL()+"&") // which has a parameter already
			text = strings.ReplaceAll(text, theirs, redis.URL())
			if s.how == "etcd" {
				text = strings.ReplaceAll(text, "127.0.0.1:2379", etcd())
			}
			text = strings.ReplaceAll(text, "/tmp/locksidecar", filepath.Join(runtime, "serve"))
			if strings.Contains(text, "locksidecar serve") {
				serves(t, ctx, env, text)
				return
			}
			run(t, ctx, env, text)
		case "dynamodb":
			dynamo := testenv.StartDynamoT(t)
			text := strings.ReplaceAll(s.text, "http://127.0.0.1:8000", dynamo.Endpoint())
			text = strings.ReplaceAll(text, "/tmp/locksidecar", filepath.Join(runtime, "serve"))
			own := append(env, "AWS_ACCESS_KEY_ID=test", "AWS_SECRET_ACCESS_KEY=test", "AWS_EC2_METADATA_DISABLED=true")
			if strings.Contains(text, "locksidecar serve") {
				serves(t, ctx, own, text)
				return
			}
			run(t, ctx, own, text)
		case "events":
			text := strings.ReplaceAll(s.text, "127.0.0.1:8081", "127.0.0.1:"+testenv.FreePort(t))
			text = strings.ReplaceAll(text, "/tmp/locksidecar", filepath.Join(runtime, "events"))
			run(t, ctx, env, "trap 'kill $(jobs -p) 2>/dev/null || true' EXIT\n"+text)
		case "daemon":
			own := append(env, "XDG_RUNTIME_DIR="+t.TempDir())
			serves(t, ctx, own, s.text)
		case "cluster":
			// It needs a cluster: internal/kubetest runs it there.
		case "make":
			// This very test runs inside it: what can be checked is that the
			// target exists.
			run(t, ctx, env, strings.Replace(s.text, "make ", "make --dry-run ", 1))
		default:
			t.Fatalf("%s:%d: no test knows how to run a block of kind %q", s.file, s.line, s.how)
		}
	}
}

func run(t *testing.T, ctx context.Context, env []string, text string) {
	t.Helper()
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env = root, env
	out, err := cmd.CombinedOutput()
	if err != nil {
		t.Fatalf("%v\n%s\nprinted:\n%s", err, text, out)
	}
	// curl exits with 0 whatever the server answered.
	if strings.Contains(string(out), `"code":`) {
		t.Fatalf("answered with an error:\n%s\nprinted:\n%s", text, out)
	}
	t.Logf("%s", out)
}

// serves runs a block that starts a server and ends it once it says that it
// listens.
func serves(t *testing.T, ctx context.Context, env []string, text string) {
	t.Helper()
	var out testenv.Output
	cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", text)
	cmd.Dir, cmd.Env, cmd.Stdout, cmd.Stderr = root, env, &out, &out
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	eventually(t, "the server says where it listens", func() bool {
		select {
		case err := <-ended:
			t.Fatalf("the server ended: %v\n%s", err, out.String())
		default:
		}
		return strings.Contains(out.String(), "api.sock")
	})
	if err := syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	t.Logf("ended by SIGTERM: %v", <-ended)
}
