package e2e

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"syscall"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// scenario is one of examples/spec.json; what its steps mean is the runners'.
type scenario struct {
	Name  string            `json:"name"`
	Needs []string          `json:"needs,omitempty"`
	Steps []json.RawMessage `json:"steps"`
}

// The needs of scenarios: of each pair a store meets one.
const (
	outlives = "store_outlives_the_sidecar"
	ends     = "store_ends_with_the_sidecar"
)

func scenarios(t *testing.T) []scenario {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(root, "examples", "spec.json"))
	if err != nil {
		t.Fatal(err)
	}
	var spec struct {
		Version   int        `json:"version"`
		Scenarios []scenario `json:"scenarios"`
	}
	if err := json.Unmarshal(raw, &spec); err != nil {
		t.Fatal(err)
	}
	for _, s := range spec.Scenarios {
		for _, n := range s.Needs {
			if n != outlives && n != ends {
				t.Errorf("%s: unknown need %q", s.Name, n)
			}
		}
	}
	return spec.Scenarios
}

// runners play the scenarios, one for each way to use a client.
var runners = []struct {
	name string
	argv func(t *testing.T) []string
}{
	{"python-sync", func(t *testing.T) []string {
		return []string{testenv.Python(t), filepath.Join(root, "examples/python/scenarios.py"), "--flavour", "sync"}
	}},
	{"python-asyncio", func(t *testing.T) []string {
		return []string{testenv.Python(t), filepath.Join(root, "examples/python/scenarios.py"), "--flavour", "asyncio"}
	}},
	{"node", func(t *testing.T) []string {
		return []string{testenv.Node(t), filepath.Join(root, "examples/node/dist/scenarios.js")}
	}},
}

// Every client behaves as the scenarios say, on every store, whatever happens
// to the sidecar.
func TestClientsBehaveAsTheScenariosSay(t *testing.T) {
	all := scenarios(t)
	stores := []struct {
		name, meets string
		url         func(t *testing.T) string
	}{
		{"embedded", ends, func(*testing.T) string { return "embedded:" }},
		{"embedded-durable", outlives, func(t *testing.T) string { return "embedded://" + filepath.Join(t.TempDir(), "locks.db") }},
		{"redis", outlives, func(t *testing.T) string { return testenv.StartRedisT(t).URL() }},
		{"etcd", outlives, func(t *testing.T) string { return testenv.StartEtcd(t, testenv.EtcdOptions{}).URL() }},
	}
	for _, runner := range runners {
		for _, store := range stores {
			t.Run(runner.name+"/"+store.name, func(t *testing.T) {
				t.Parallel()
				p := newPlayer(t, store.url(t), runner.argv(t))
				for _, s := range all {
					if !slices.ContainsFunc(s.Needs, func(n string) bool { return n != store.meets }) {
						t.Run(s.Name, func(t *testing.T) { p.play(t, s) })
					}
				}
			})
		}
	}
}

// player is a runner with the sidecar that it works on.
type player struct {
	t       *testing.T // of the sidecars, which outlive a scenario
	args    []string
	sidecar *testenv.Process
	stdin   io.WriteCloser
	lines   chan []byte
}

func newPlayer(t *testing.T, url string, argv []string) *player {
	t.Helper()
	dir, err := os.MkdirTemp("", "lsspec") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	socket := filepath.Join(dir, "run", "api.sock")
	p := &player{t: t, args: []string{"serve", "--backend", url, "--socket", socket}, lines: make(chan []byte, 64)}
	p.sidecar = testenv.Daemon(t, p.args...)

	argv = append(argv, "--endpoint", p.sidecar.Endpoint())
	cmd := exec.Command(argv[0], argv[1:]...)
	cmd.SysProcAttr = testenv.DieWithParent(&syscall.SysProcAttr{})
	var stderr testenv.Output
	cmd.Stderr = &stderr
	if p.stdin, err = cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	stdout, err := cmd.StdoutPipe()
	if err != nil {
		t.Fatal(err)
	}
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	go func() {
		defer close(p.lines)
		for in := bufio.NewScanner(stdout); in.Scan(); {
			p.lines <- slices.Clone(in.Bytes())
		}
	}()
	t.Cleanup(func() {
		_ = p.stdin.Close()
		ended := time.AfterFunc(patience, func() { _ = cmd.Process.Kill() })
		defer ended.Stop()
		for range p.lines { // drained, so that the runner can end
		}
		if err := cmd.Wait(); err != nil {
			t.Errorf("the runner ended with %v", err)
		}
		if t.Failed() {
			t.Logf("the runner wrote to stderr:\n%s", stderr.String())
		}
	})
	return p
}

// play runs one scenario.
func (p *player) play(t *testing.T, s scenario) {
	t.Helper()
	p.say(t, map[string]any{"run": s})
	for {
		var answer struct {
			Result, Message, Sidecar string
			Step                     int
		}
		select {
		case line, open := <-p.lines:
			if !open {
				t.Fatal("the runner ended in the middle of a scenario")
			}
			if err := json.Unmarshal(line, &answer); err != nil {
				t.Fatalf("the runner wrote %q: %v", line, err)
			}
		case <-time.After(2 * patience):
			t.Fatal("the runner says nothing")
		}
		switch {
		case answer.Sidecar != "":
			p.control(t, answer.Sidecar)
			p.say(t, map[string]any{"done": answer.Sidecar})
		case answer.Result == "pass":
			return
		default:
			step := json.RawMessage("?")
			if answer.Step >= 0 && answer.Step < len(s.Steps) {
				step = s.Steps[answer.Step]
			}
			t.Errorf("step %d %s: %s", answer.Step, step, answer.Message)
			return
		}
	}
}

func (p *player) say(t *testing.T, v any) {
	t.Helper()
	line, err := json.Marshal(v)
	if err != nil {
		t.Fatal(err)
	}
	if _, err := fmt.Fprintf(p.stdin, "%s\n", line); err != nil {
		t.Fatal(err)
	}
}

// control does to the sidecar what a scenario asks for.
func (p *player) control(t *testing.T, action string) {
	t.Helper()
	var err error
	switch action {
	case "kill":
		p.sidecar.Kill()
	case "terminate":
		err = p.sidecar.Stop()
	case "start":
		p.sidecar = testenv.Daemon(p.t, p.args...)
	case "pause":
		err = p.sidecar.Pause()
	case "resume":
		err = p.sidecar.Resume()
	default:
		t.Fatalf("a scenario asks for the unknown action %q", action)
	}
	if err != nil {
		t.Fatal(err)
	}
}
