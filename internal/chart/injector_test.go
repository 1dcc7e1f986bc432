package chart

import (
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// injected is a pod that the injector was given, and its sidecar, by what is rendered
// for it.
func injected(t *testing.T, binary, rendered, name string) (pod, sidecar object) {
	t.Helper()
	path := filepath.Join(t.TempDir(), "injector.yaml")
	if err := os.WriteFile(path, []byte(one(t, rendered, "ConfigMap/"+name+"-injector").text("data", "injector.yaml")), 0o600); err != nil {
		t.Fatal(err)
	}
	var errs strings.Builder
	cmd := exec.CommandContext(t.Context(), binary, "inject", "-f", "-", "--config", path)
	cmd.Stdin = strings.NewReader("apiVersion: v1\nkind: Pod\nmetadata: {name: app, labels: {locksidecar.dev/inject: 'true'}}\nspec: {containers: [{name: app, image: app}]}\n")
	cmd.Stderr = &errs
	out, err := cmd.Output()
	if err != nil {
		t.Fatalf("%v\n%s%s", err, errs.String(), out)
	}
	pod = one(t, string(out), "Pod/app")
	containers, _ := pod.at("spec", "initContainers").([]any)
	if len(containers) != 1 {
		t.Fatalf("there are %d init containers:\n%s", len(containers), out)
	}
	sidecar, _ = containers[0].(map[string]any)
	return pod, sidecar
}

// The injector takes what is rendered for it, and makes pods of it: without a
// cluster, as it does for its users.
func TestInjectorTakesItsFile(t *testing.T) {
	binary := filepath.Join(t.TempDir(), "locksidecar-injector")
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", binary, "github.com/locksidecar/locksidecar/cmd/locksidecar-injector").CombinedOutput(); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	each(t, func(t *testing.T, rendered string) {
		name := prefix(t)
		pod, sidecar := injected(t, binary, rendered, name)
		want := injectorFile(t, rendered, name)
		for _, d := range []string{
			cmp.Diff(want.at("sidecar", "image"), sidecar["image"]),
			cmp.Diff(want.at("sidecar", "resources"), sidecar["resources"]),
			cmp.Diff(want.text("configuration"), pod.text("metadata", "annotations", "locksidecar.dev/configuration")),
		} {
			if d != "" {
				t.Error(d)
			}
		}
		// What the PodMonitor of sidecars looks for.
		ports, _ := sidecar["ports"].([]any)
		if port, _ := ports[0].(map[string]any); port["name"] != "ls-metrics" {
			t.Errorf("the sidecar's ports are %v", ports)
		}
	})
	// One value is enough where another goes with it, and quantities have many forms.
	for name, set := range map[string]string{
		"a validity alone": "certificates.validity=24h", "the shortest": "certificates.validity=1h", "the latest rotation": "certificates.validity=1h30m,certificates.rotateBefore=45m",
		"the limit itself": "sidecar.resources.requests.memory=0.25Gi", "in bytes": "sidecar.resources.requests.memory=268435456", "as a power": "sidecar.resources.requests.memory=2.6e8",
		"in thousandths": "sidecar.resources.requests.cpu=1100m,sidecar.resources.limits.cpu=1.1", "a large one": "sidecar.resources.limits.memory=1E",
	} {
		t.Run(name, func(t *testing.T) {
			injected(t, binary, render(t, append(variants["dev"], "--set", set)...), "locksidecar")
		})
	}
	rendered := render(t, variants["all"]...)
	// The alert about pods without a sidecar names their namespace, not the injector's.
	own, _ := one(t, rendered, "PodMonitor/locks-injector").at("spec", "podMetricsEndpoints").([]any)
	if e, _ := own[0].(map[string]any); e["honorLabels"] != true {
		t.Errorf("the injector's own labels are lost: %v", e)
	}
	monitor := one(t, rendered, "PodMonitor/locks-sidecars")
	endpoints, _ := monitor.at("spec", "podMetricsEndpoints").([]any)
	if e, _ := endpoints[0].(map[string]any); e["port"] != "ls-metrics" || monitor.at("spec", "namespaceSelector", "any") != true {
		t.Errorf("the PodMonitor looks for %v", monitor["spec"])
	}
}
