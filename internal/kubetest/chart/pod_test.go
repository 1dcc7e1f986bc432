//go:build cluster

package chart

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"
)

// pod is what the tests look at in one.
type pod struct {
	Metadata struct {
		Name, Namespace string
		Annotations     map[string]string
	}
	Spec struct {
		InitContainers, Containers []container
		Volumes                    []struct {
			Name     string
			EmptyDir *struct{ Medium, SizeLimit string }
		}
	}
}

type container struct {
	Name, Image, RestartPolicy string
	Args                       []string
	Env                        []struct{ Name, Value string }
	VolumeMounts               []struct {
		Name, MountPath string
		ReadOnly        bool
	}
	StartupProbe *struct{ Exec struct{ Command []string } }
}

// template is a pod's, with the label or without it, that Pod Security calls
// restricted; more is added to its metadata.
func template(labelled bool, more string) string {
	label := "unlabelled"
	if labelled {
		label = "locksidecar.dev/inject"
	}
	return fmt.Sprintf(`{"metadata": {"labels": {%q: "true"}%s}, "spec": {"restartPolicy": "Never",
		"securityContext": {"runAsNonRoot": true, "runAsUser": 10001, "seccompProfile": {"type": "RuntimeDefault"}},
		"containers": [{"name": "app", "image": "registry.example/app:1", "securityContext": {"allowPrivilegeEscalation": false, "capabilities": {"drop": ["ALL"]}}}]}}`, label, more)
}

// bare is a pod of nobody's, of the template.
func bare(name, template string) string {
	var p map[string]any
	if err := json.Unmarshal([]byte(template), &p); err != nil {
		panic(err) // the test's own text
	}
	p["apiVersion"], p["kind"] = "v1", "Pod"
	p["metadata"].(map[string]any)["name"] = name
	raw, err := json.Marshal(p)
	if err != nil {
		panic(err)
	}
	return string(raw)
}

// create creates an object in a namespace and returns what the server made of it.
func create(t testing.TB, namespace, object string, args ...string) (pod, error) {
	t.Helper()
	var p pod
	out, err := cluster.TryKubectl(t, object, append([]string{"create", "-n", namespace, "-f", "-", "-o", "json"}, args...)...)
	if err != nil {
		return p, err
	}
	if err := json.Unmarshal([]byte(out), &p); err != nil {
		t.Fatalf("%v\n%s", err, out)
	}
	return p, nil
}

// untouched checks that nothing was done to a pod.
func untouched(t testing.TB, p pod) {
	t.Helper()
	if raw, err := json.Marshal(p); err != nil || strings.Contains(string(raw), "locksidecar.dev/status") || len(p.Spec.InitContainers) != 0 {
		t.Errorf("the pod was touched (%v): %s", err, raw)
	}
}

// injected checks that a pod has its sidecar, once, as the contract says, and that
// each of its containers finds the socket.
func injected(t testing.TB, p pod) {
	t.Helper()
	if len(p.Spec.InitContainers) == 0 {
		t.Fatalf("no sidecar: %+v", p)
	}
	sidecar, sidecars := p.Spec.InitContainers[0], 0
	for _, c := range p.Spec.InitContainers {
		if c.Name == "locksidecar" {
			sidecars++
		}
	}
	if sidecar.Name != "locksidecar" || sidecars != 1 || sidecar.RestartPolicy != "Always" || sidecar.StartupProbe == nil {
		t.Errorf("the first init container of %d is %+v", len(p.Spec.InitContainers), sidecar)
	}
	for _, c := range p.Spec.Containers {
		endpoint, mounted := "", false
		for _, v := range c.Env {
			if v.Name == "LOCKSIDECAR_ENDPOINT" {
				endpoint = v.Value
			}
		}
		for _, m := range c.VolumeMounts {
			mounted = mounted || m.MountPath == "/run/locksidecar" && m.ReadOnly
		}
		if endpoint != "unix:///run/locksidecar/api.sock" || !mounted {
			t.Errorf("container %s: endpoint %q, mounted read-only: %v", c.Name, endpoint, mounted)
		}
	}
	memory := false
	for _, v := range p.Spec.Volumes {
		memory = memory || v.EmptyDir != nil && v.EmptyDir.Medium == "Memory" && v.EmptyDir.SizeLimit != ""
	}
	if !memory {
		t.Errorf("no bounded volume in memory: %+v", p.Spec.Volumes)
	}
	var status struct{ State string }
	if err := json.Unmarshal([]byte(p.Metadata.Annotations["locksidecar.dev/status"]), &status); err != nil || status.State != "injected" {
		t.Errorf("the status is %q (%v)", p.Metadata.Annotations["locksidecar.dev/status"], err)
	}
}
