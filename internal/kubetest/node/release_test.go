//go:build cluster

package node

import (
	"encoding/json"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

const (
	releaseNamespace = "locksidecar"
	appsNamespace    = "apps"
)

// install installs the chart for the node's Redis, whose password is in a Secret, as
// docs/kubernetes.md says, with two injectors and `store init`, and waits until it
// runs.
func install(t *testing.T) {
	t.Helper()
	namespace(t, releaseNamespace)
	namespace(t, appsNamespace)
	for _, ns := range []string{releaseNamespace, appsNamespace} {
		cluster.Kubectl(t, "create", "secret", "generic", "locksidecar-redis", "-n", ns, "--from-literal=password="+redis.Password())
	}
	values, err := json.Marshal(map[string]any{
		"image":    map[string]any{"repository": "localhost/locksidecar", "tag": "dev", "pullPolicy": "Never"},
		"config":   map[string]any{"backends": map[string]any{"main": map[string]any{"url": storeURL(t)}}},
		"secrets":  []any{map[string]any{"name": "locksidecar-redis", "path": "redis"}},
		"injector": map[string]any{"replicas": 2},
	})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "values.json")
	if err := os.WriteFile(file, values, 0o600); err != nil {
		t.Fatal(err)
	}
	root, err := kube.Root()
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		ctx := cluster.Outliving(t)
		if t.Failed() {
			out, _ := cluster.TryKubectl(ctx, "", "get", "pods,events", "-A", "-o", "wide")
			t.Log(out)
			out, _ = cluster.TryKubectl(ctx, "", "logs", "-n", releaseNamespace, "--all-pods", "--prefix", "deployment/locksidecar-injector")
			t.Log(out)
		}
		cluster.Helm(ctx, "uninstall", "locksidecar", "-n", releaseNamespace, "--wait")
		cluster.Eventually(ctx, "nothing of the release is left", func() error {
			if left := cluster.Kubectl(ctx, "get", kinds, "-A", "-l", "app.kubernetes.io/part-of=locksidecar", "-o", "name"); left != "" {
				return errors.New(left)
			}
			return nil
		})
		cluster.Kubectl(ctx, "delete", "namespace", releaseNamespace, appsNamespace, "--timeout=80s")
	})
	cluster.Helm(t, "install", "locksidecar", filepath.Join(root, "charts", "locksidecar"), "-n", releaseNamespace, "-f", file, "--wait", "--timeout", "80s")
	if got := redis.Must(t, "KEYS", "*"); len(got.([]any)) == 0 {
		t.Error("store init wrote nothing")
	}
}

// kinds are those of what the chart makes.
const kinds = "pods,jobs,deployments,replicasets,services,configmaps,secrets,serviceaccounts,poddisruptionbudgets,networkpolicies," +
	"roles,rolebindings,clusterroles,clusterrolebindings,mutatingwebhookconfigurations"

// storeURL is the Redis of these tests, as pods reach it.
func storeURL(t *testing.T) string {
	t.Helper()
	_, port, err := net.SplitHostPort(redis.Addr())
	if err != nil {
		t.Fatal(err)
	}
	return "redis://" + net.JoinHostPort(kube.NodeAddress, port) + "?password_file=/etc/locksidecar/secrets/redis/password"
}

// namespace makes one that enforces what Pod Security calls restricted.
func namespace(t *testing.T, name string) {
	t.Helper()
	cluster.KubectlIn(t, fmt.Sprintf(`{"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": %q, "labels": {"pod-security.kubernetes.io/enforce": "restricted"}}}`, name), "apply", "-f", "-")
	cluster.Eventually(t, "the namespace has its account", func() error {
		_, err := cluster.TryKubectl(t, "", "get", "-n", name, "serviceaccount/default", "configmap/kube-root-ca.crt")
		return err
	})
}

// template is that of a labelled pod of the application, whose user is not the
// sidecar's; more is added to its specification.
func template(args []string, more string) string {
	raw, err := json.Marshal(args)
	if err != nil {
		panic(err) // texts
	}
	return fmt.Sprintf(`{"metadata": {"labels": {"locksidecar.dev/inject": "true", "app": "app"}}, "spec": {%s
		"terminationGracePeriodSeconds": 60, "securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
		"containers": [{"name": "app", "image": %q, "imagePullPolicy": "Never", "args": %s,
		"env": [{"name": "POD", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}}],
		"securityContext": {"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": {"drop": ["ALL"]}}}]}}`, more, appImage, raw)
}

// run creates a pod of the application that a director directs.
func (d *director) run(t *testing.T, name string, annotations ...string) {
	t.Helper()
	object := strings.Replace(template([]string{"direct", d.url}, `"restartPolicy": "Never",`), `{"metadata": {`,
		fmt.Sprintf(`{"apiVersion": "v1", "kind": "Pod", "metadata": {"name": %q, "annotations": {%s}, `, name, strings.Join(annotations, ",")), 1)
	cluster.KubectlIn(t, object, "create", "-n", appsNamespace, "-f", "-")
	t.Cleanup(func() {
		ctx := cluster.Outliving(t)
		if t.Failed() {
			out, _ := cluster.TryKubectl(ctx, "", "describe", "-n", appsNamespace, "pod/"+name)
			t.Log(out)
			out, _ = cluster.TryKubectl(ctx, "", "logs", "-n", appsNamespace, name, "--all-containers", "--prefix")
			t.Log(out)
		}
		_, _ = cluster.TryKubectl(ctx, "", "delete", "-n", appsNamespace, "pod/"+name, "--ignore-not-found", "--grace-period=0", "--force")
	})
}

// status is what the kubelet says of a pod.
type status struct {
	Metadata struct{ Name, DeletionTimestamp string }
	Status   struct {
		Phase, PodIP                             string
		InitContainerStatuses, ContainerStatuses []containerStatus
	}
}

type containerStatus struct {
	Name, ContainerID string
	RestartCount      int
	Ready, Started    bool
	State             struct {
		Running    *struct{ StartedAt string }
		Terminated *struct {
			ExitCode              int
			StartedAt, FinishedAt string
		}
	}
}

// sidecar is the sidecar's status.
func (s status) sidecar(t *testing.T) containerStatus {
	t.Helper()
	if len(s.Status.InitContainerStatuses) != 1 || s.Status.InitContainerStatuses[0].Name != "locksidecar" {
		t.Fatalf("no sidecar: %+v", s)
	}
	return s.Status.InitContainerStatuses[0]
}

// look reads a pod's status.
func look(t *testing.T, name string) (s status) {
	t.Helper()
	cluster.Get(t, &s, "-n", appsNamespace, "pod/"+name)
	return s
}
