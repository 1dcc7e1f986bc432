//go:build linux

package kube

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"
)

// NodeName is that of the only node.
const NodeName = "node-1"

// podRange are the pods' addresses.
const podRange = "10.98.0.0/24"

// node is what StartNode added to a cluster.
type node struct {
	binder context.CancelFunc
	bound  chan struct{} // closed when the binder has ended
	socket string        // containerd's
}

// pauseImage keeps the namespaces of a pod.
const pauseImage = "locksidecar.test/pause:1"

// StartNode starts containerd and kubelet, imports the images and waits until the
// node is ready. pause is a static binary that waits until it is ended, for what
// keeps a pod's namespaces.
func (c *Cluster) StartNode(ctx context.Context, pause string, archives ...string) error {
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.startNode(ctx, pause, archives); err != nil {
		return fmt.Errorf("the node does not start: %w%s", err, c.Logs())
	}
	return nil
}

func (c *Cluster) startNode(ctx context.Context, pause string, archives []string) error {
	if err := able(); err != nil {
		return err
	}
	programs, err := tool("node")
	if err != nil {
		return err
	}
	if programs, err = filepath.EvalSymlinks(programs); err != nil {
		return err
	}
	c.node = &node{socket: c.file("containerd.sock")}
	if err := os.MkdirAll(c.file("cni.d"), 0o700); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("cni.d/pods.conflist"), []byte(c.network()), 0o600); err != nil {
		return err
	}
	if err := os.WriteFile(c.file("containerd.toml"), []byte(c.containerd(programs)), 0o600); err != nil {
		return err
	}
	path := []string{"PATH=" + programs + ":" + os.Getenv("PATH")}
	if err := c.run("node/containerd", path, "--config", c.file("containerd.toml"), "--log-level", "warn"); err != nil {
		return err
	}
	if err := c.await(ctx, "containerd answers", func() error { return c.ctr(ctx, "version") }); err != nil {
		return err
	}
	archive := c.file("pause.tar")
	if err := WriteImage(archive, pauseImage, pause, "0:0"); err != nil {
		return err
	}
	for _, a := range append([]string{archive}, archives...) {
		if err := c.ctr(ctx, "images", "import", a); err != nil {
			return err
		}
	}
	config, err := c.kubeconfig("kubelet", c.kubelet, "default")
	if err != nil {
		return err
	}
	raw, err := json.Marshal(c.kubeletConfiguration())
	if err != nil {
		return err
	}
	if err := os.WriteFile(c.file("kubelet.json"), raw, 0o600); err != nil {
		return err
	}
	if err := c.run("kubelet", path,
		"--config="+c.file("kubelet.json"), "--kubeconfig="+config, "--root-dir="+c.file("kubelet"), "--cert-dir="+c.file("kubelet-pki"),
		"--hostname-override="+NodeName, "--node-ip="+NodeAddress); err != nil {
		return err
	}
	if err := c.await(ctx, "the node is ready", func() error {
		_, err := c.kubectl(ctx, "", "wait", "--for=condition=Ready", "--timeout=1s", "node/"+NodeName)
		return err
	}); err != nil {
		return err
	}
	c.bind()
	return nil
}

// able says what this machine lacks that a node needs.
func able() error {
	if os.Geteuid() != 0 {
		return errors.New("a node needs root: run its tests by: sudo make node-test")
	}
	if raw, err := os.ReadFile("/proc/self/uid_map"); err != nil {
		return err
	} else if !slices.Equal(strings.Fields(string(raw)), []string{"0", "0", "4294967295"}) {
		return fmt.Errorf("a node needs the machine's root, this one is that of a user namespace (%s): run its tests by: sudo make node-test", strings.TrimSpace(string(raw)))
	}
	raw, err := os.ReadFile("/proc/filesystems")
	if err != nil {
		return err
	}
	if !strings.Contains(string(raw), "\toverlay\n") {
		return errors.New("a node needs overlayfs: modprobe overlay")
	}
	for _, controller := range []string{"cpu", "memory", "pids"} {
		if _, err := os.Stat("/sys/fs/cgroup/" + controller); err == nil {
			continue // version 1
		}
		unified, err := os.ReadFile("/sys/fs/cgroup/cgroup.controllers")
		if err != nil || !strings.Contains(" "+string(unified)+" ", " "+controller) {
			return fmt.Errorf("a node needs the cgroup controller %s under /sys/fs/cgroup: %w", controller, errors.Join(err, syscall.ENOENT))
		}
	}
	return nil
}

// ctr runs containerd's own client.
func (c *Cluster) ctr(ctx context.Context, args ...string) error {
	path, err := tool("node/ctr")
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, path, append([]string{"--address", c.node.socket, "--namespace", "k8s.io"}, args...)...).CombinedOutput()
	if err != nil {
		return fmt.Errorf("ctr %s: %w\n%s", strings.Join(args, " "), err, out)
	}
	return nil
}

// containerd is its configuration: everything in the cluster's directory, runc by
// cgroups of its own driver, and nothing that a plain machine does not allow.
func (c *Cluster) containerd(programs string) string {
	return fmt.Sprintf(`version = 2
root = %q
state = %q
disabled_plugins = ["io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.zfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.nri.v1.nri", "io.containerd.internal.v1.tracing"]
[grpc]
address = %q
[ttrpc]
address = %q
[plugins."io.containerd.grpc.v1.cri"]
sandbox_image = %q
restrict_oom_score_adj = true
disable_apparmor = true
netns_mounts_under_state_dir = true
[plugins."io.containerd.grpc.v1.cri".cni]
bin_dir = %q
conf_dir = %q
[plugins."io.containerd.grpc.v1.cri".containerd]
snapshotter = "overlayfs"
default_runtime_name = "runc"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
runtime_type = "io.containerd.runc.v2"
[plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc.options]
BinaryName = %q
SystemdCgroup = false
Root = %q
`, c.file("containerd"), c.file("containerd-state"), c.node.socket, c.node.socket+".ttrpc", pauseImage,
		programs, c.file("cni.d"), filepath.Join(programs, "runc"), c.file("runc"))
}

// network gives each pod an address and a link to the node, which forwards.
func (c *Cluster) network() string {
	return fmt.Sprintf(`{"cniVersion": "1.0.0", "name": "pods", "plugins": [{"type": "ptp", "ipMasq": false, "ipam": {
"type": "host-local", "dataDir": %q, "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}}]}`, c.file("cni"), podRange)
}

// kubeletConfiguration keeps the kubelet from what concerns a machine and not its
// pods: cgroups of QoS classes, swap, evictions, iptables, the kernel's settings.
func (c *Cluster) kubeletConfiguration() map[string]any {
	none := map[string]any{"memory.available": "0%", "nodefs.available": "0%", "nodefs.inodesFree": "0%", "imagefs.available": "0%", "imagefs.inodesFree": "0%"}
	return map[string]any{
		"apiVersion": "kubelet.config.k8s.io/v1beta1", "kind": "KubeletConfiguration",
		"address": NodeAddress, "healthzBindAddress": "127.0.0.1", "containerRuntimeEndpoint": "unix://" + c.node.socket,
		"authentication": map[string]any{"anonymous": map[string]any{"enabled": true}, "webhook": map[string]any{"enabled": false}},
		"authorization":  map[string]any{"mode": "AlwaysAllow"}, // it listens in the tests' network alone
		"cgroupDriver":   "cgroupfs", "cgroupsPerQOS": false, "enforceNodeAllocatable": []string{}, "failCgroupV1": false,
		"failSwapOn": false, "protectKernelDefaults": false, "makeIPTablesUtilChains": false, "localStorageCapacityIsolation": false,
		"evictionHard": none, "imageGCHighThresholdPercent": 100,
		"featureGates": map[string]any{"KubeletInUserNamespace": true},
		"podLogsDir":   c.file("pod-logs"), "volumePluginDir": c.file("volume-plugins"), "registerNode": true,
		"resolvConf": "", "clusterDNS": []string{}, "serializeImagePulls": false,
		// A ConfigMap that changes is seen soon, and a pod's state too.
		"syncFrequency": "10s", "nodeStatusUpdateFrequency": "10s", "configMapAndSecretChangeDetectionStrategy": "Watch",
		"shutdownGracePeriod": "0s",
	}
}

// stopNode ends the pods and unmounts what they left; the kubelet and containerd
// are ended with the other programs.
func (c *Cluster) stopNode() {
	if c.node == nil {
		return
	}
	if c.node.binder != nil {
		c.node.binder()
		<-c.node.bound
	}
	kill := func(names ...string) {
		for _, p := range c.programs {
			if slices.Contains(names, p.name) {
				p.Kill()
			}
		}
	}
	kill("kube-controller-manager") // nobody makes new ones
	ctx, cancel := context.WithTimeout(context.Background(), 30*time.Second)
	defer cancel()
	// Their cgroups are the machine's: the pods are ended while there is who ends them.
	_, _ = c.kubectl(ctx, "", "delete", "pods", "--all", "--all-namespaces", "--grace-period=1", "--timeout=25s")
	kill("kubelet", "containerd")
	raw, _ := os.ReadFile("/proc/self/mountinfo")
	for line := range strings.Lines(string(raw)) {
		if point := strings.Fields(line)[4]; strings.HasPrefix(point, c.dir) {
			_ = syscall.Unmount(point, syscall.MNT_DETACH)
		}
	}
	// containerd's own groups, unless somebody else's containers are in them.
	groups, _ := filepath.Glob("/sys/fs/cgroup/*/k8s.io")
	for _, group := range append(groups, "/sys/fs/cgroup/k8s.io") {
		_ = os.Remove(group)
	}
}
