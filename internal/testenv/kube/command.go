//go:build linux

package kube

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"strings"
	"testing"
	"time"
)

// Patience bounds each wait for something that must come.
const Patience = 90 * time.Second

// kubeconfig writes the configuration of a user with a token.
func (c *Cluster) kubeconfig(name, token, namespace string) (string, error) {
	file := c.file(name + ".kubeconfig")
	config := map[string]any{
		"apiVersion": "v1", "kind": "Config", "current-context": "test",
		"clusters": []any{map[string]any{"name": "test", "cluster": map[string]any{"server": "https://" + NodeAddress + ":443", "certificate-authority": c.ca}}},
		"users":    []any{map[string]any{"name": "test", "user": map[string]any{"token": token}}},
		"contexts": []any{map[string]any{"name": "test", "context": map[string]any{"cluster": "test", "user": "test", "namespace": namespace}}},
	}
	raw, err := json.Marshal(config)
	if err != nil {
		return "", err
	}
	return file, os.WriteFile(file, raw, 0o600)
}

// Kubeconfig is the administrators' configuration file.
func (c *Cluster) Kubeconfig() string { return c.config }

// AccountConfig is a configuration file of a ServiceAccount, with a token that
// the API server issued for it.
func (c *Cluster) AccountConfig(t testing.TB, namespace, account string) string {
	t.Helper()
	token := c.Kubectl(t, "create", "token", account, "-n", namespace, "--duration=2h")
	file, err := c.kubeconfig(namespace+"."+account, strings.TrimSpace(token), namespace)
	if err != nil {
		t.Fatal(err)
	}
	return file
}

// Env is the environment in which kubectl and helm find the cluster.
func (c *Cluster) Env() []string {
	env := []string{"KUBECONFIG=" + c.config}
	for _, kind := range []string{"CACHE", "CONFIG", "DATA"} {
		env = append(env, "HELM_"+kind+"_HOME="+c.file("helm"))
	}
	return append(os.Environ(), append(env, "HOME="+c.file("home"))...)
}

// Kubectl runs kubectl as an administrator and returns what it prints. A failure
// is the test's.
func (c *Cluster) Kubectl(t testing.TB, args ...string) string {
	t.Helper()
	return c.KubectlIn(t, "", args...)
}

// KubectlIn is Kubectl with something to read.
func (c *Cluster) KubectlIn(t testing.TB, stdin string, args ...string) string {
	t.Helper()
	out, err := c.TryKubectl(t, stdin, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryKubectl is KubectlIn of a command that may fail; the error says what it
// printed on standard error.
func (c *Cluster) TryKubectl(t testing.TB, stdin string, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	return c.kubectl(ctx, stdin, args...)
}

func (c *Cluster) kubectl(ctx context.Context, stdin string, args ...string) (string, error) {
	return c.command(ctx, "kubectl", stdin, args...)
}

// Apply applies objects and returns what kubectl prints, its warnings included.
func (c *Cluster) Apply(t testing.TB, objects string, args ...string) string {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	out, problems, err := c.output(ctx, "kubectl", objects, append([]string{"apply", "-f", "-"}, args...)...)
	if err != nil {
		t.Fatal(err)
	}
	return out + problems
}

// Helm runs helm as an administrator and returns what it prints.
func (c *Cluster) Helm(t testing.TB, args ...string) string {
	t.Helper()
	out, err := c.TryHelm(t, args...)
	if err != nil {
		t.Fatal(err)
	}
	return out
}

// TryHelm is Helm of a command that may fail.
func (c *Cluster) TryHelm(t testing.TB, args ...string) (string, error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), 2*Patience)
	defer cancel()
	return c.command(ctx, "helm", "", args...)
}

func (c *Cluster) command(ctx context.Context, name, stdin string, args ...string) (string, error) {
	out, _, err := c.output(ctx, name, stdin, args...)
	return out, err
}

func (c *Cluster) output(ctx context.Context, name, stdin string, args ...string) (printed, problems string, err error) {
	path, err := tool(name)
	if err != nil {
		return "", "", err
	}
	var out, complaints bytes.Buffer
	cmd := exec.CommandContext(ctx, path, args...)
	cmd.Env, cmd.Stdin, cmd.Stdout, cmd.Stderr = c.Env(), strings.NewReader(stdin), &out, &complaints
	if err := cmd.Run(); err != nil {
		err = fmt.Errorf("%s %s: %w\n%s%s", name, strings.Join(args, " "), err, out.String(), complaints.String())
		return out.String(), complaints.String(), err
	}
	return out.String(), complaints.String(), nil
}

// Get reads one object, or a list, as JSON into v.
func (c *Cluster) Get(t testing.TB, v any, args ...string) {
	t.Helper()
	out := c.Kubectl(t, append([]string{"get", "-o", "json"}, args...)...)
	if err := json.Unmarshal([]byte(out), v); err != nil {
		t.Fatalf("kubectl get %v printed no JSON: %v\n%s", args, err, out)
	}
}

// Outliving is a test whose context outlives it: its cleanup still works with the
// cluster.
func (c *Cluster) Outliving(t testing.TB) testing.TB { return outliving{t} }

type outliving struct{ testing.TB }

func (o outliving) Context() context.Context { return context.WithoutCancel(o.TB.Context()) }

// Eventually polls until try succeeds, and fails the test with its last error and
// what was waited for when patience ends.
func (c *Cluster) Eventually(t testing.TB, what string, try func() error) {
	t.Helper()
	ctx, cancel := context.WithTimeout(t.Context(), Patience)
	defer cancel()
	if err := c.await(ctx, what, try); err != nil {
		t.Fatal(err)
	}
}
