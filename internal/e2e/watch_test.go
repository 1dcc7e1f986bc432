package e2e

import (
	"bytes"
	"encoding/json"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// The command reads on when its sidecar has been restarted, and says that
// events are missing.
func TestWatchCommandOutlivesItsSidecar(t *testing.T) {
	dir, err := os.MkdirTemp("", "lsw") // short: a socket's path is bounded
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() { _ = os.RemoveAll(dir) })
	path := filepath.Join(dir, "run", "api.sock")
	d := testenv.Daemon(t, "serve", "--backend", "embedded:", "--socket", path)
	var out testenv.Output
	cmd := exec.Command(testenv.Binary(t), "watch", "--prefix", "w/", "-o", "json")
	cmd.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT=unix://"+path)
	cmd.Stdout, cmd.Stderr = &out, &out
	if err := cmd.Start(); err != nil {
		t.Fatal(err)
	}
	// The command says nothing until there is an event: acquire until it has one.
	one := dial(t, "unix://"+path)
	eventually(t, "the command watches", func() bool {
		hold(t, one, unique("w/begin"))
		return strings.Contains(out.String(), "w/begin")
	})
	hold(t, one, "w/before")
	hold(t, one, "other")
	eventually(t, "an event is printed", func() bool { return strings.Contains(out.String(), `"w/before"`) })
	if err := d.Stop(); err != nil {
		t.Fatal(err)
	}
	testenv.Daemon(t, "serve", "--backend", "embedded:", "--socket", path)
	eventually(t, "the command says what is missing", func() bool { return strings.Contains(out.String(), `"missed"`) })
	hold(t, dial(t, "unix://"+path), "w/after")
	eventually(t, "the command reads on", func() bool { return strings.Contains(out.String(), `"w/after"`) })
	if err := cmd.Process.Signal(syscall.SIGTERM); err != nil {
		t.Fatal(err)
	}
	if _ = cmd.Wait(); cmd.ProcessState.ExitCode() != 128+int(syscall.SIGTERM) {
		t.Errorf("a watch that was ended by SIGTERM exits with %d, want 143", cmd.ProcessState.ExitCode())
	}
	var types []string
	for line := range strings.Lines(out.String()) {
		var e struct {
			Type   string `json:"type"`
			LockID string `json:"lock_id"`
		}
		if strings.HasPrefix(line, "locksidecar: ") {
			continue // a message
		}
		if err := json.Unmarshal([]byte(line), &e); err != nil {
			t.Fatalf("%v: %s", err, line)
		}
		if !strings.HasPrefix(e.LockID, "w/begin") {
			types = append(types, e.Type+" "+e.LockID)
		}
	}
	if want := []string{"acquired w/before", "missed ", "acquired w/after"}; !slices.Equal(types, want) {
		t.Errorf("printed %v, want %v", types, want)
	}
}

func TestWatchCommandsExitCodes(t *testing.T) {
	d := testenv.Daemon(t, "serve", "--backend", "embedded:")
	for _, c := range []struct {
		endpoint string
		args     []string
		code     int
	}{
		{"unix:///nobody/listens/here.sock", nil, 69},
		{d.Endpoint(), []string{"--after", "made-up"}, 64},
		{d.Endpoint(), []string{"-o", "yaml"}, 64},
		{d.Endpoint(), []string{"surplus"}, 64},
	} {
		cmd := exec.CommandContext(within(t), testenv.Binary(t), append([]string{"watch"}, c.args...)...)
		cmd.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+c.endpoint)
		var errs bytes.Buffer
		cmd.Stderr = &errs
		if _ = cmd.Run(); cmd.ProcessState.ExitCode() != c.code {
			t.Errorf("watch %v exited with %d, want %d: %s", c.args, cmd.ProcessState.ExitCode(), c.code, errs.String())
		}
	}
}
