//go:build linux

package kube

import (
	"context"
	"crypto/rand"
	"encoding/hex"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// NodeAddress is the node's address in the network namespace: endpoints may not
// be loopback's.
const NodeAddress = "10.99.0.1"

const (
	// serviceAddress is that of the Service kubernetes: the first of the range.
	serviceAddress = "10.0.0.1"
	serviceRange   = "10.0.0.0/24"
	// startTimeout is how long a program may take to answer.
	startTimeout = 90 * time.Second
	// tail is how much of a program's output is shown when tests fail.
	tail = 8 << 10
)

// Cluster is a control plane, and a node if StartNode made one.
type Cluster struct {
	dir      string
	programs []*program // in the order of their start
	node     *node
	admin    string // the administrators' token
	kubelet  string // the node's
	ca       string // the file of the authority's certificate
	config   string // the administrators' kubeconfig
}

// program is one of the cluster's processes.
type program struct {
	*testenv.Process
	name string
}

// Start starts a control plane and waits until it serves and its controllers run.
// Whatever it returns is to be stopped.
func Start(ctx context.Context) (*Cluster, error) {
	dir, err := os.MkdirTemp("", "lskube")
	if err != nil {
		return nil, err
	}
	c := &Cluster{dir: dir}
	ctx, cancel := context.WithTimeout(ctx, startTimeout)
	defer cancel()
	if err := c.start(ctx); err != nil {
		err = fmt.Errorf("the control plane does not start: %w%s", err, c.Logs())
		c.Stop()
		return nil, err
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.credentials(); err != nil {
		return err
	}
	if err := c.run("etcd", nil,
		"--data-dir="+filepath.Join(c.dir, "etcd"), "--unsafe-no-fsync", "--log-level=warn",
		"--listen-client-urls=http://127.0.0.1:2379", "--advertise-client-urls=http://127.0.0.1:2379",
		"--listen-peer-urls=http://127.0.0.1:2380", "--initial-advertise-peer-urls=http://127.0.0.1:2380",
		"--initial-cluster=default=http://127.0.0.1:2380"); err != nil {
		return err
	}
	if err := c.run("kube-apiserver", nil,
		"--etcd-servers=http://127.0.0.1:2379",
		"--bind-address=0.0.0.0", "--secure-port=443", "--advertise-address="+NodeAddress,
		"--tls-cert-file="+c.file("server.crt"), "--tls-private-key-file="+c.file("server.key"), "--client-ca-file="+c.ca,
		"--token-auth-file="+c.file("tokens"), "--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction",
		"--service-account-issuer=https://kubernetes.default.svc", "--service-account-signing-key-file="+c.file("accounts.key"),
		"--service-account-key-file="+c.file("accounts.key"), "--service-cluster-ip-range="+serviceRange,
		"--endpoint-reconciler-type=none", "--allow-privileged=true",
		// Webhooks are called at their Service's endpoints: there is no kube-proxy.
		"--enable-aggregator-routing=true",
		"--kubelet-preferred-address-types=InternalIP",
	); err != nil {
		return err
	}
	if err := c.await(ctx, "the API server is ready", func() error {
		_, err := c.kubectl(ctx, "", "get", "--raw", "/readyz")
		return err
	}); err != nil {
		return err
	}
	if err := c.run("kube-controller-manager", nil,
		"--kubeconfig="+c.config, "--leader-elect=false", "--use-service-account-credentials=false",
		"--service-account-private-key-file="+c.file("accounts.key"), "--root-ca-file="+c.ca,
		"--controllers="+strings.Join(controllers, ","),
		"--concurrent-gc-syncs=5", "--namespace-sync-period=1m"); err != nil {
		return err
	}
	return c.await(ctx, "the controllers make the namespace's account and its CA", func() error {
		_, err := c.kubectl(ctx, "", "get", "-n", "default", "serviceaccount/default", "configmap/kube-root-ca.crt")
		return err
	})
}

// controllers are those of kube-controller-manager that the tests see work.
var controllers = []string{
	"cronjob-controller", "daemonset-controller", "deployment-controller", "disruption-controller",
	"endpoints-controller", "endpointslice-controller", "garbage-collector-controller", "job-controller",
	"namespace-controller", "pod-garbage-collector-controller", "replicaset-controller",
	"root-ca-certificate-publisher-controller", "serviceaccount-controller", "statefulset-controller",
	"ttl-after-finished-controller",
}

// credentials writes the keys, the certificates and the users of the cluster.
func (c *Cluster) credentials() error {
	c.ca = c.file("ca.crt")
	a, err := newAuthority(c.ca)
	if err != nil {
		return err
	}
	if err := a.server(c.file("server.crt"), c.file("server.key"), NodeAddress, serviceAddress, "127.0.0.1"); err != nil {
		return err
	}
	if _, err := newKey(c.file("accounts.key")); err != nil {
		return err
	}
	c.admin, c.kubelet = secret(), secret()
	users := c.admin + `,admin,1,"system:masters"` + "\n" + c.kubelet + `,system:node:` + NodeName + `,2,"system:nodes"` + "\n"
	if err := os.WriteFile(c.file("tokens"), []byte(users), 0o600); err != nil {
		return err
	}
	c.config, err = c.kubeconfig("admin", c.admin, "default")
	return err
}

// secret is one that nobody guesses.
func secret() string {
	var b [16]byte
	_, _ = rand.Read(b[:]) // it never fails
	return hex.EncodeToString(b[:])
}

func (c *Cluster) file(name string) string { return filepath.Join(c.dir, name) }

// run starts a program of build/tools.
func (c *Cluster) run(name string, env []string, args ...string) error {
	path, err := tool(name)
	if err != nil {
		return err
	}
	cmd := exec.Command(path, args...)
	cmd.Dir, cmd.Env = c.dir, append(os.Environ(), env...)
	p, err := testenv.Start(cmd)
	if err != nil {
		return fmt.Errorf("%s: %w", name, err)
	}
	c.programs = append(c.programs, &program{p, filepath.Base(name)})
	return nil
}

// await polls until try succeeds; it gives up when ctx ends or a program does.
func (c *Cluster) await(ctx context.Context, what string, try func() error) error {
	tick := time.NewTicker(50 * time.Millisecond)
	defer tick.Stop()
	for {
		err := try()
		if err == nil {
			return nil
		}
		for _, p := range c.programs {
			select {
			case <-p.Ended():
				return fmt.Errorf("%s has ended", p.name)
			default:
			}
		}
		select {
		case <-tick.C:
		case <-ctx.Done():
			return fmt.Errorf("waited in vain until %s: %w", what, errors.Join(context.Cause(ctx), err))
		}
	}
}

// Logs is the end of what each program printed.
func (c *Cluster) Logs() string {
	var b strings.Builder
	for _, p := range c.programs {
		out := p.Output()
		if len(out) > tail {
			out = "...\n" + out[len(out)-tail:]
		}
		fmt.Fprintf(&b, "\n--- %s printed:\n%s", p.name, out)
	}
	return b.String()
}

// Stop ends the cluster's programs, the last one first, and removes its data.
func (c *Cluster) Stop() {
	c.stopNode()
	for _, p := range slices.Backward(c.programs) {
		p.Kill() // nothing is kept that a clean end would save
	}
	c.programs = nil
	_ = os.RemoveAll(c.dir)
}

// tool is a program of build/tools.
func tool(name string) (string, error) {
	root, err := Root()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "tools", name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%w; make it by: make kube-tools node-tools", err)
	}
	return path, nil
}

// Root is the directory of the repository.
func Root() (string, error) {
	dir, err := os.Getwd()
	if err != nil {
		return "", err
	}
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil {
			return dir, nil
		}
		if parent := filepath.Dir(dir); parent != dir {
			dir = parent
			continue
		}
		return "", errors.New("the tests run outside of the repository")
	}
}
