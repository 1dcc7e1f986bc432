//go:build cluster

package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// cluster is that of this package's tests, with a node.
var cluster *kube.Cluster

const (
	// daemonImage is what make node-test builds.
	daemonImage = "localhost/locksidecar:dev"
	// appImage is the tests' application.
	appImage = "locksidecar.test/app:1"
)

func TestMain(m *testing.M) {
	kube.Main(m, start, func(failed bool) {
		if cluster == nil {
			return
		}
		if failed {
			fmt.Fprintln(os.Stderr, cluster.Logs())
		}
		cluster.Stop()
	})
}

func start() (err error) {
	root, err := kube.Root()
	if err != nil {
		return err
	}
	archive := filepath.Join(root, "build", "node", "locksidecar.oci.tar")
	if _, err := os.Stat(archive); err != nil {
		return fmt.Errorf("%w; make it by: make node-test", err)
	}
	dir, err := os.MkdirTemp("", "lsapp")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-o", binary, "github.com/locksidecar/locksidecar/internal/kubetest/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	if err := kube.WriteImage(binary+".tar", appImage, binary, "10001:10001"); err != nil {
		return err
	}
	ctx := context.Background()
	if cluster, err = kube.Start(ctx); err != nil {
		return err
	}
	return cluster.StartNode(ctx, binary, archive, binary+".tar")
}

func TestSmoke(t *testing.T) {
	t.Log(cluster.Kubectl(t, "get", "node", "-o", "wide"))
	cluster.KubectlIn(t, `
apiVersion: v1
kind: Pod
metadata: {name: p}
spec:
  terminationGracePeriodSeconds: 5
  initContainers:
  - name: locksidecar
    image: `+daemonImage+`
    restartPolicy: Always
    args: [serve, --backend, "embedded:", --socket, /run/locksidecar/api.sock, --socket-mode, "0666"]
    startupProbe: {exec: {command: [/locksidecar, health, --live]}, periodSeconds: 1}
    securityContext: {runAsNonRoot: true, runAsUser: 65532, readOnlyRootFilesystem: true, allowPrivilegeEscalation: false, capabilities: {drop: [ALL]}, seccompProfile: {type: RuntimeDefault}}
    volumeMounts: [{name: s, mountPath: /run/locksidecar}]
  containers:
  - name: app
    image: `+appImage+`
    args: [pause]
    volumeMounts: [{name: s, mountPath: /run/locksidecar, readOnly: true}]
  volumes: [{name: s, emptyDir: {medium: Memory, sizeLimit: 1Mi}}]
`, "apply", "-f", "-")
	t.Log(cluster.TryKubectl(t, "", "wait", "--for=condition=Ready", "pod/p", "--timeout=30s"))
	t.Log(cluster.Kubectl(t, "get", "pod", "p", "-o", "yaml"))
	t.Log(cluster.Kubectl(t, "get", "events"))
	t.Log(cluster.TryKubectl(t, "", "logs", "p", "-c", "locksidecar"))
	t.Log(cluster.TryKubectl(t, "", "exec", "p", "-c", "locksidecar", "--", "/locksidecar", "health"))
	t.Error("look")
}
