package chart

import (
	"path/filepath"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// What is optional can all be off, and what is left is the least that works.
func TestEverythingOptionalIsOff(t *testing.T) {
	rendered := render(t, append(variants["dev"],
		"--set", "helmTest.enabled=false,storeInit.enabled=false,sidecar.metricsPort=0",
		"--set-json", `sidecar.resources={"requests":null,"limits":null}`)...)
	var names []string
	for _, o := range objects(t, rendered) {
		names = append(names, o.String())
	}
	slices.Sort(names)
	const name = "locksidecar-injector"
	want := []string{
		"ClusterRole/" + name, "ClusterRoleBinding/" + name, "ConfigMap/" + name, "Deployment/" + name, webhook,
		"Role/" + name, "RoleBinding/" + name, "Secret/" + name + "-certificates", "Service/" + name, "ServiceAccount/" + name,
	}
	if d := cmp.Diff(want, names); d != "" {
		t.Error(d)
	}
	webhooks, _ := one(t, rendered, webhook)["webhooks"].([]any)
	if len(webhooks) != 1 {
		t.Errorf("without a check there are %d webhooks", len(webhooks))
	}
	if got := injectorFile(t, rendered, "locksidecar").at("sidecar", "metricsPort"); got != 0 {
		t.Errorf("the sidecar's port is %v", got)
	}
	monitors := render(t, append(variants["dev"], "--set", "metrics.podMonitor.enabled=true,sidecar.metricsPort=0")...)
	for _, o := range objects(t, monitors) {
		if o.String() == "PodMonitor/locksidecar-sidecars" {
			t.Error("there is a PodMonitor for a port that there is not")
		}
	}
}

// The archive has all that the directory has.
func TestArchiveIsTheChart(t *testing.T) {
	dir := t.TempDir()
	if out, errs, err := helm(t, "package", directory, "--destination", dir); err != nil {
		t.Fatalf("%v\n%s%s", err, out, errs)
	}
	out, errs, err := helm(t, append([]string{"template", "locksidecar", filepath.Join(dir, "locksidecar-0.0.0.tgz"), "--namespace", "locks"}, variants["all"]...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	if d := cmp.Diff(render(t, variants["all"]...), out); d != "" {
		t.Error(d)
	}
}
