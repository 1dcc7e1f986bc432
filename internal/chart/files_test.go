package chart

import (
	"encoding/json"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/config"
)

func file(t *testing.T, path string) []byte {
	t.Helper()
	raw, err := os.ReadFile(path)
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

func unmarshal(t *testing.T, raw []byte) (v map[string]any) {
	t.Helper()
	if err := yaml.Unmarshal(raw, &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// The alerts and the dashboard have {{ }} of their own, which helm must leave
// alone.
func TestAlertsAreTheFiles(t *testing.T) {
	got := one(t, render(t, variants["all"]...), "PrometheusRule/locks").at("spec")
	if d := cmp.Diff(any(unmarshal(t, file(t, filepath.Join(directory, "files/alerts.yaml")))), got); d != "" {
		t.Error(d)
	}
}

func TestDashboardIsTheFile(t *testing.T) {
	o := one(t, render(t, variants["all"]...), "ConfigMap/locks-dashboard")
	want := file(t, filepath.Join(directory, "files/dashboard.json"))
	if got := o.text("data", "locksidecar.json"); got != string(want) || !json.Valid([]byte(got)) {
		t.Error(cmp.Diff(string(want), got))
	}
	if o.text("metadata", "labels", "grafana_dashboard") != "1" {
		t.Error("Grafana does not find it")
	}
}

// injectorFile is the injector's configuration, as it is rendered under a name.
func injectorFile(t *testing.T, rendered, name string) object {
	t.Helper()
	return unmarshal(t, []byte(one(t, rendered, "ConfigMap/"+name+"-injector").text("data", "injector.yaml")))
}

// What the sidecars are given is what the values say, and the daemon takes it.
func TestConfigurationIsTheValues(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		raw := injectorFile(t, rendered, prefix(t)).text("configuration")
		f, err := config.Parse([]byte(raw))
		if err != nil {
			t.Fatalf("%v\n%s", err, raw)
		}
		secret := filepath.Join(t.TempDir(), "url")
		if err := os.WriteFile(secret, []byte("redis://payments:6379"), 0o600); err != nil {
			t.Fatal(err)
		}
		for name, b := range f.Backends {
			if b.URLFile != "" {
				b.URLFile = secret
				f.Backends[name] = b
			}
		}
		if _, err := f.Compile("values", config.Overrides{}); err != nil {
			t.Errorf("%v\n%s", err, raw)
		}
	})
}

// Every key of the daemon's example gets through, large numbers as they are.
func TestEveryKeyOfTheConfigurationGetsThrough(t *testing.T) {
	// A sidecar can write its audit log in one place alone.
	example := strings.Replace(string(file(t, filepath.Join(root, "docs/config.example.yaml"))), "/var/log/locksidecar/", "/run/locksidecar/", 1)
	want := unmarshal(t, []byte(example))
	delete(want, "socket")
	delete(want, "metrics")
	raw, err := yaml.Marshal(map[string]any{"config": want})
	if err != nil {
		t.Fatal(err)
	}
	values := filepath.Join(t.TempDir(), "values.yaml")
	if err := os.WriteFile(values, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	got := unmarshal(t, []byte(injectorFile(t, render(t, "--set", "image.repository=r/l", "--values", values), "locksidecar").text("configuration")))
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The injector's file, whole: it is read strictly.
func TestInjectorsFile(t *testing.T) {
	got := injectorFile(t, render(t, variants["ha"]...), "locksidecar")
	delete(got, "configuration")
	want := object{
		"sidecar": map[string]any{
			"image": "registry.example/locksidecar:0.0.0", "imagePullPolicy": "IfNotPresent", "runAsUser": 65532, "logLevel": "info", "metricsPort": 9718,
			"resources": map[string]any{"requests": map[string]any{"cpu": "50m", "memory": "64Mi"}, "limits": map[string]any{"memory": "256Mi"}},
		},
		"secrets": []any{map[string]any{"name": "locksidecar-redis", "path": "redis"}},
		"certificates": map[string]any{
			"webhookConfiguration": "locksidecar-injector", "service": "locksidecar-injector", "secret": "locksidecar-injector-certificates",
			"validity": "2160h",
		},
	}
	if d := cmp.Diff(want, got); d != "" {
		t.Error(d)
	}
}

// The mirrors of the image reach the injector, if there are any.
func TestMirrorsReachTheInjector(t *testing.T) {
	file := injectorFile(t, render(t, append(variants["dev"], "--set", "sidecar.mirrors={mirror.example/locksidecar}")...), "locksidecar")
	if d := cmp.Diff([]any{"mirror.example/locksidecar"}, file.at("sidecar", "mirrors")); d != "" {
		t.Error(d)
	}
}

// The injector is told to keep the caBundle where nobody else does: there it has the
// right to, and the authorities.
func TestTheCaBundleHasOneKeeper(t *testing.T) {
	for name, c := range map[string]struct {
		args []string
		hook string
	}{
		"the injector's own": {nil, "locksidecar-injector"},
		"existing":           {[]string{"--set", "certificates.existingSecret=s"}, "locksidecar-injector"},
		"the chart's":        {[]string{"--set", "certificates.existingSecret=s", "--set-literal", "certificates.caBundle=-----BEGIN CERTIFICATE-----"}, ""},
		"cert-manager's":     {[]string{"--set", "certificates.existingSecret=s", "--set", "certificates.certManager=a/b"}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			rendered := render(t, append(slices.Clone(variants["dev"]), c.args...)...)
			if got := injectorFile(t, rendered, "locksidecar").text("certificates", "webhookConfiguration"); got != c.hook {
				t.Errorf("it keeps %q, want %q", got, c.hook)
			}
			rules, _ := one(t, rendered, "ClusterRole/locksidecar-injector")["rules"].([]any)
			if may := len(rules) == 3; may != (c.hook != "") {
				t.Errorf("it may write it: %v", may)
			}
		})
	}
}

// New stores are stamped by a Job that has what the sidecars have; an embedded
// one has no stamp, and there is no Job.
func TestStoresAreStamped(t *testing.T) {
	rendered := render(t, variants["all"]...)
	job, configuration := one(t, rendered, "Job/locks-store-init"), one(t, rendered, "ConfigMap/locks-store-init")
	if got := configuration.text("data", "locksidecar.yaml"); got != injectorFile(t, rendered, "locks").text("configuration")+"\n" {
		t.Errorf("the Job's configuration is another:\n%s", got)
	}
	spec := podOf(job)
	containers, _ := spec["containers"].([]any)
	c, _ := containers[0].(map[string]any)
	mounts, _ := c["volumeMounts"].([]any)
	paths := map[any]bool{}
	for _, v := range mounts {
		m, _ := v.(map[string]any)
		paths[m["mountPath"]] = true
	}
	for _, path := range []string{"/etc/locksidecar/config", "/etc/locksidecar/secrets/payments", "/etc/locksidecar/secrets/ca"} {
		if !paths[path] {
			t.Errorf("the Job lacks %s: %v", path, paths)
		}
	}
	if d := cmp.Diff([]any{map[string]any{"name": "AWS_REGION", "value": "eu-west-1"}}, c["env"]); d != "" {
		t.Error(d)
	}
	if job.hook() != "pre-install,pre-upgrade" || one(t, render(t, variants["ha"]...), "Job/locksidecar-store-init").hook() != "pre-install" {
		t.Error("an upgrade stamps a store without being told to")
	}
	for name, args := range map[string][]string{
		"embedded": variants["dev"], "off": append(variants["ha"], "--set", "storeInit.enabled=false"),
	} {
		for _, o := range objects(t, render(t, args...)) {
			if o.text("kind") == "Job" {
				t.Errorf("%s: there is %v", name, o)
			}
		}
	}
}
