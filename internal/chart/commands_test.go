package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// argsOf are the arguments of an object's one container, whose command is the
// daemon's.
func argsOf(t *testing.T, o object) (args []string) {
	t.Helper()
	containers, _ := podOf(o)["containers"].([]any)
	c, _ := containers[0].(map[string]any)
	if command, _ := c["command"].([]any); len(command) != 1 || command[0] != "/locksidecar" {
		t.Fatalf("%v runs %v", o, c["command"])
	}
	list, _ := c["args"].([]any)
	for _, a := range list {
		s, _ := a.(string)
		args = append(args, s)
	}
	return args
}

// What helm test runs in a pod takes a lock, here through a daemon's socket.
func TestCheckTakesALock(t *testing.T) {
	d := testenv.Daemon(t, "dev", "--admin", "127.0.0.1:0")
	args := argsOf(t, one(t, render(t, variants["dev"]...), "Pod/locksidecar-check"))
	for i, a := range args {
		if a == "/locksidecar" {
			args[i] = testenv.Binary(t)
		}
	}
	cmd := exec.CommandContext(t.Context(), testenv.Binary(t), args...)
	cmd.Env = append(os.Environ(), "LOCKSIDECAR_ENDPOINT="+d.Endpoint())
	out, err := cmd.CombinedOutput()
	if err != nil || !strings.Contains(string(out), "locksidecar/check") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What the hook runs stamps a store, by the configuration that it is given.
func TestHookStampsAStore(t *testing.T) {
	url := "redis://" + testenv.StartRedisT(t).Addr() + "?prefix=hook&timeout=10s"
	rendered := render(t, append(variants["dev"], "--set", "config.backends.main.url="+url)...)
	path := filepath.Join(t.TempDir(), "locksidecar.yaml")
	if err := os.WriteFile(path, []byte(one(t, rendered, "ConfigMap/locksidecar-store-init").text("data", "locksidecar.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	args := argsOf(t, one(t, rendered, "Job/locksidecar-store-init"))
	for i := range args {
		args[i] = strings.Replace(args[i], "/etc/locksidecar/config/locksidecar.yaml", path, 1)
	}
	out, err := exec.CommandContext(t.Context(), testenv.Binary(t), args...).CombinedOutput()
	if err != nil || !strings.Contains(string(out), "main: the store is stamped") {
		t.Errorf("%v\n%s", err, out)
	}
}

// What is printed after an install says how to check it.
func TestNotes(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		says []string
	}{
		"dev": {variants["dev"], []string{"labelled or not: kube-system, kube-node-lease, locks.", "The locks are embedded: each pod has its own.", "There is one injector"}},
		"ha":  {variants["ha"], []string{"needs the Secret: locksidecar-redis"}},
		"all": {append(variants["all"], "--set", "storeInit.enabled=false"), []string{"needs the Secrets: payments-redis, authorities", "kubectl label namespace", "labelled or not: kube-system, kube-node-lease, locks, monitoring.", "storeInit.enabled is off"}},
	} {
		t.Run(name, func(t *testing.T) {
			out, errs, err := helm(t, append([]string{"install", "locksidecar", directory, "--namespace", "locks", "--dry-run=client"}, c.args...)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			_, notes, _ := strings.Cut(out, "\nNOTES:\n")
			for _, want := range append(c.says, `locksidecar.dev/inject: "true"`, "helm test locksidecar --namespace locks\n", `--selector 'locksidecar.dev/inject,locksidecar.dev/inject!=false'`, `locksidecar\.dev/status`) {
				if !strings.Contains(notes, want) {
					t.Errorf("the notes do not say %q:\n%s", want, notes)
				}
			}
			if strings.Contains(notes, "--logs") {
				t.Errorf("an older helm fails by --logs: the pod is gone when it asks for its log\n%s", notes)
			}
		})
	}
}
