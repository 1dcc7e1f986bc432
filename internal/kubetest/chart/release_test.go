//go:build cluster

package chart

import (
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/internal/testenv"
	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

const (
	// releaseName and releaseNamespace are those of docs/kubernetes.md.
	releaseName      = "locksidecar"
	releaseNamespace = "locksidecar"
	// appsNamespace is one of applications, which admits only what Pod Security calls
	// restricted.
	appsNamespace = "apps"
	injector      = "locksidecar-injector" // what the chart calls its objects
)

// release is an installed chart.
type release struct {
	before   []string // the cluster's objects
	rendered string   // what was applied, where helm only rendered
	dir      string   // what the injectors' volumes hold
	replicas []*testenv.Process
}

// install installs the chart as docs/kubernetes.md says, with the values of
// values-dev.yaml and the further arguments. When the test ends it is uninstalled,
// and nothing of it may be left.
func install(t *testing.T, args ...string) *release {
	t.Helper()
	r := prepare(t)
	cluster.Helm(t, append([]string{"install", releaseName, chartDir(t), "-n", releaseNamespace, "-f", chartDir(t) + "/values-dev.yaml"}, args...)...)
	r.cleanup(t)
	return r
}

// apply is install by what renders the chart and applies that: a GitOps tool.
func apply(t *testing.T, args ...string) *release {
	t.Helper()
	r := prepare(t)
	r.rendered = cluster.Helm(t, "template", releaseName, chartDir(t), "-n", releaseNamespace, "-f", chartDir(t)+"/values-dev.yaml", "--no-hooks", "--skip-tests")
	cluster.Apply(t, r.rendered, append(args, "-n", releaseNamespace)...)
	r.cleanup(t)
	return r
}

func prepare(t *testing.T) *release {
	t.Helper()
	namespace(t, releaseNamespace, "restricted")
	namespace(t, appsNamespace, "restricted")
	return &release{before: objects(t), dir: t.TempDir()}
}

func (r *release) cleanup(t *testing.T) {
	t.Cleanup(func() {
		if t.Failed() {
			for i, p := range r.replicas {
				t.Logf("injector %d printed:\n%s", i, p.Output())
			}
		}
		r.uninstall(t)
	})
}

// uninstall ends the injectors and uninstalls the release: what the cluster has
// then is what it had.
func (r *release) uninstall(t *testing.T) {
	ctx := cluster.Outliving(t) // the test may be over
	for i := range r.replicas {
		r.kill(ctx, i)
	}
	if r.rendered == "" {
		cluster.Helm(ctx, "uninstall", releaseName, "-n", releaseNamespace)
	} else {
		cluster.KubectlIn(ctx, r.rendered, "delete", "-n", releaseNamespace, "-f", "-")
	}
	cluster.Kubectl(ctx, "delete", "pods,deployments,jobs,replicasets", "--all", "-n", appsNamespace, "--grace-period=0", "--force", "--wait=true")
	cluster.Eventually(ctx, "nothing of the release is left", func() error {
		if diff := cmp.Diff(r.before, objects(ctx)); diff != "" {
			return fmt.Errorf("the cluster's objects before and after:\n%s", diff)
		}
		return nil
	})
}

// namespace makes a namespace that enforces a level of Pod Security.
func namespace(t testing.TB, name, level string, labels ...string) {
	t.Helper()
	cluster.KubectlIn(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q}}`, name), "apply", "-f", "-")
	cluster.Kubectl(t, append([]string{"label", "--overwrite", "namespace", name,
		"pod-security.kubernetes.io/enforce=" + level, "pod-security.kubernetes.io/warn=" + level}, labels...)...)
	cluster.Eventually(t, "the namespace has its account", func() error {
		_, err := cluster.TryKubectl(t, "", "get", "-n", name, "serviceaccount/default", "configmap/kube-root-ca.crt")
		return err
	})
}

// objects are all of the cluster's, but what comes and goes by itself: events,
// leases, and addresses that the cluster derives.
func objects(t testing.TB) (names []string) {
	t.Helper()
	derived := []string{"events", "leases", "endpoints", "endpointslices", "componentstatuses", "ipaddresses", "metrics"}
	var kinds []string
	for kind := range strings.FieldsSeq(cluster.Kubectl(t, "api-resources", "--verbs=list", "-o", "name")) {
		if name, _, _ := strings.Cut(kind, "."); !slices.Contains(derived, name) {
			kinds = append(kinds, kind)
		}
	}
	out := cluster.Kubectl(t, "get", strings.Join(kinds, ","), "-A", "--ignore-not-found", "--no-headers",
		"-o", "custom-columns=KIND:.kind,NAMESPACE:.metadata.namespace,NAME:.metadata.name")
	for line := range strings.Lines(out) {
		names = append(names, strings.Join(strings.Fields(line), " "))
	}
	if len(names) < 20 {
		t.Fatalf("the cluster has only %v", names)
	}
	slices.Sort(names)
	return names
}

// chartDir is the chart's directory.
func chartDir(t testing.TB) string {
	t.Helper()
	root, err := kube.Root()
	if err != nil {
		t.Fatal(err)
	}
	return filepath.Join(root, "charts", "locksidecar")
}

// built builds the injector, once.
var built = sync.OnceValues(func() (string, error) {
	path := filepath.Join(binaries, "locksidecar-injector")
	out, err := exec.Command("go", "build", "-o", path, "github.com/locksidecar/locksidecar/cmd/locksidecar-injector").CombinedOutput()
	if err != nil {
		return "", fmt.Errorf("%w\n%s", err, out)
	}
	return path, nil
})

// deployment is what an injector's pod is made of.
type deployment struct {
	Spec struct {
		Replicas int
		Template struct {
			Spec struct {
				ServiceAccountName string
				Containers         []struct {
					Command, Args []string
				}
				Volumes []struct {
					Name      string
					ConfigMap struct{ Name string }
					Secret    struct{ SecretName string }
				}
			}
		}
	}
}

// start runs one more injector, as its pod would: the command and the arguments of
// the Deployment, by the token of its account, with the files of its volumes, and
// behind the Service. There is no node; what is not the same is the process's
// network and, for a second one, its ports. It returns when the injector is ready.
func (r *release) start(t *testing.T, extra ...string) *testenv.Process {
	t.Helper()
	n := len(r.replicas)
	var d deployment
	cluster.Get(t, &d, "deployment", injector, "-n", releaseNamespace)
	pod := d.Spec.Template.Spec
	if len(pod.Containers) != 1 || !slices.Equal(pod.Containers[0].Command, []string{"/locksidecar-injector"}) {
		t.Fatalf("the containers are %+v", pod.Containers)
	}
	r.volumes(t)
	listen, metrics := 9443+n, 9719+10*n
	replace := strings.NewReplacer(
		"/etc/locksidecar-injector", filepath.Join(r.dir, "config"),
		"/etc/locksidecar-certificates", filepath.Join(r.dir, "certificates"),
		"--listen=:9443", fmt.Sprintf("--listen=:%d", listen),
		"--metrics=:9719", fmt.Sprintf("--metrics=:%d", metrics),
	)
	args := []string{}
	for _, a := range pod.Containers[0].Args {
		args = append(args, replace.Replace(a))
	}
	args = append(args, "--kubeconfig="+cluster.AccountConfig(t, releaseNamespace, pod.ServiceAccountName))
	args = append(args, extra...)
	binary, err := built()
	if err != nil {
		t.Fatal(err)
	}
	cmd := exec.Command(binary, args...)
	cmd.Env = append(os.Environ(), "POD_NAMESPACE="+releaseNamespace, fmt.Sprintf("POD_NAME=%s-%d", injector, n))
	p, err := testenv.Start(cmd)
	if err != nil {
		t.Fatal(err)
	}
	r.replicas = append(r.replicas, p)
	cluster.Eventually(t, "the injector is ready", func() error {
		select {
		case <-p.Ended():
			t.Fatalf("the injector ended; it printed:\n%s", p.Output())
		default:
		}
		return get(fmt.Sprintf("http://127.0.0.1:%d/readyz", metrics))
	})
	cluster.KubectlIn(t, fmt.Sprintf(`{"apiVersion": "discovery.k8s.io/v1", "kind": "EndpointSlice",
		"metadata": {"name": "%s-%d", "namespace": %q, "labels": {"kubernetes.io/service-name": %q, "endpointslice.kubernetes.io/managed-by": "test"}},
		"addressType": "IPv4", "ports": [{"name": "webhook", "port": %d, "protocol": "TCP"}],
		"endpoints": [{"addresses": [%q], "conditions": {"ready": true}}]}`, injector, n, releaseNamespace, injector, listen, kube.NodeAddress), "apply", "-f", "-")
	return p
}

// volumes writes what the volumes of the injector's pod hold, as the kubelet would:
// all files of a volume change at once. What names their directories is changed to
// where they are here.
func (r *release) volumes(t *testing.T) {
	t.Helper()
	var d deployment
	cluster.Get(t, &d, "deployment", injector, "-n", releaseNamespace)
	for _, v := range d.Spec.Template.Spec.Volumes {
		files := make(map[string][]byte)
		if v.Secret.SecretName != "" {
			var secret struct{ Data map[string][]byte }
			cluster.Get(t, &secret, "secret", v.Secret.SecretName, "-n", releaseNamespace)
			files = secret.Data
		} else {
			var m struct{ Data map[string]string }
			cluster.Get(t, &m, "configmap", v.ConfigMap.Name, "-n", releaseNamespace)
			for name, text := range m.Data {
				files[name] = []byte(strings.ReplaceAll(text, "/etc/locksidecar-certificates", filepath.Join(r.dir, "certificates")))
			}
		}
		r.swap(t, v.Name, files)
	}
}

// swap replaces a volume's directory, which is a link to one of its own each time.
func (r *release) swap(t *testing.T, volume string, files map[string][]byte) {
	t.Helper()
	dir, err := os.MkdirTemp(r.dir, volume+".")
	if err != nil {
		t.Fatal(err)
	}
	for name, content := range files {
		if err := os.WriteFile(filepath.Join(dir, name), content, 0o600); err != nil {
			t.Fatal(err)
		}
	}
	link := filepath.Join(r.dir, volume)
	if err := errors.Join(os.Symlink(dir, link+".new"), os.Rename(link+".new", link)); err != nil {
		t.Fatal(err)
	}
}

// kill ends an injector as the end of its node does, and takes it from the Service
// as the control plane does then.
func (r *release) kill(t testing.TB, n int) {
	t.Helper()
	r.replicas[n].Kill()
	cluster.Kubectl(t, "delete", "endpointslice", "--ignore-not-found", "-n", releaseNamespace, fmt.Sprintf("%s-%d", injector, n))
}

// get says whether a URL answers with success.
func get(url string) error {
	res, err := http.Get(url) //nolint:noctx // the caller polls
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	if res.StatusCode != http.StatusOK {
		return fmt.Errorf("%s: %s", url, res.Status)
	}
	return nil
}
