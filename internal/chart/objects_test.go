package chart

import (
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// kinds are those of objects that the chart may make, each with its version.
var kinds = map[string]string{
	"ConfigMap": "v1", "Secret": "v1", "Service": "v1", "ServiceAccount": "v1", "Pod": "v1",
	"Deployment": "apps/v1", "Job": "batch/v1", "PodDisruptionBudget": "policy/v1", "NetworkPolicy": "networking.k8s.io/v1",
	"ClusterRole": "rbac.authorization.k8s.io/v1", "ClusterRoleBinding": "rbac.authorization.k8s.io/v1",
	"Role": "rbac.authorization.k8s.io/v1", "RoleBinding": "rbac.authorization.k8s.io/v1",
	"MutatingWebhookConfiguration": "admissionregistration.k8s.io/v1",
	"PodMonitor":                   "monitoring.coreos.com/v1", "PrometheusRule": "monitoring.coreos.com/v1",
}

// needCRDs are kinds that not every cluster has.
var needCRDs = []string{"PodMonitor", "PrometheusRule"}

// ofTheCluster are kinds without a namespace.
var ofTheCluster = []string{"ClusterRole", "ClusterRoleBinding", "MutatingWebhookConfiguration"}

func TestObjectsAreKnownAndLabelled(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		seen := map[string]bool{}
		for _, o := range objects(t, rendered) {
			if version, ok := kinds[o.text("kind")]; !ok || o.text("apiVersion") != version {
				t.Errorf("%v is of %s", o, o.text("apiVersion"))
			}
			if slices.Contains(needCRDs, o.text("kind")) && !strings.HasSuffix(t.Name(), "/all") {
				t.Errorf("%v needs a CRD, and nobody asked for it", o)
			}
			if seen[o.String()] {
				t.Errorf("%v is made twice", o)
			}
			seen[o.String()] = true
			if name := o.text("metadata", "name"); len(name) > 63 || !strings.HasPrefix(name, "lock") {
				t.Errorf("%v has the name %q", o, name)
			}
			namespace := "locks"
			if slices.Contains(ofTheCluster, o.text("kind")) {
				namespace = ""
			}
			if o.text("metadata", "namespace") != namespace {
				t.Errorf("%v is in the namespace %q", o, o.text("metadata", "namespace"))
			}
			for key, want := range map[string]string{
				"helm.sh/chart": "locksidecar-0.0.0", "app.kubernetes.io/name": "locksidecar", "app.kubernetes.io/instance": "locksidecar",
				"app.kubernetes.io/version": "0.0.0", "app.kubernetes.io/managed-by": "Helm", "app.kubernetes.io/part-of": "locksidecar",
			} {
				if got := o.text("metadata", "labels", key); got != want {
					t.Errorf("%v: the label %s is %q, want %q", o, key, got, want)
				}
			}
			if o.text("metadata", "labels", "app.kubernetes.io/component") == "" {
				t.Errorf("%v does not say which component it is of", o)
			}
		}
	})
}

// What a release leaves behind after an uninstall are hooks: each is deleted when
// it has done its work.
func TestHooksAreDeleted(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		for _, o := range objects(t, rendered) {
			if policy := o.text("metadata", "annotations", "helm.sh/hook-delete-policy"); o.hook() != "" && policy != "before-hook-creation,hook-succeeded" {
				t.Errorf("%v: the policy is %q", o, policy)
			}
			if strings.Contains(o.hook(), "install") && o.text("metadata", "annotations", "argocd.argoproj.io/hook") != "Skip" {
				t.Errorf("%v: Argo CD would run it at each sync", o)
			}
		}
	})
}

// A long release's name is cut, and the names stay within what Kubernetes takes.
func TestNamesFit(t *testing.T) {
	out, errs, err := helm(t, append([]string{"template", strings.Repeat("long-name", 5), directory, "--namespace", "locks"}, variants["dev"]...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	for _, o := range objects(t, out) {
		if name := o.text("metadata", "name"); len(name) > 63 || strings.Contains(name, "--") {
			t.Errorf("%v: the name has %d bytes", o, len(name))
		}
	}
}

// podOf is the pod's specification of an object, nil if it has none.
func podOf(o object) object {
	path := map[string][]string{
		"Pod": {"spec"}, "Deployment": {"spec", "template", "spec"}, "Job": {"spec", "template", "spec"},
	}[o.text("kind")]
	if path == nil {
		return nil
	}
	spec, _ := o.at(path...).(map[string]any)
	return spec
}

// Pod Security "restricted" takes every pod; the tests on a cluster ask the real
// admission. In the node's network it cannot, whatever else is so.
func TestPodsAreRestricted(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		pods := 0
		for _, o := range objects(t, rendered) {
			spec := podOf(o)
			if spec == nil {
				continue
			}
			pods++
			restricted(t, o, spec)
			host, _ := spec["hostNetwork"].(bool)
			if asked := strings.HasSuffix(t.Name(), "/all") && o.text("kind") == "Deployment"; host != asked || spec["hostPID"] != nil || spec["hostIPC"] != nil {
				t.Errorf("%v is on the host: %v", o, host)
			}
		}
		if pods < 2 {
			t.Errorf("there are %d pods", pods)
		}
	})
}

// Every pod of the chart runs where the injector may, and on Linux.
func TestPodsRunWhereTheInjectorMay(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		nodes, taints := map[string]any{"kubernetes.io/os": "linux"}, any(nil)
		if strings.HasSuffix(t.Name(), "/all") {
			nodes["pool"] = "system"
			taints = []any{map[string]any{"key": "node-role.kubernetes.io/control-plane", "operator": "Exists", "effect": "NoSchedule"}}
		}
		pods := 0
		for _, o := range objects(t, rendered) {
			if spec := podOf(o); spec != nil {
				pods++
				if d := cmp.Diff(nodes, spec["nodeSelector"]) + cmp.Diff(taints, spec["tolerations"]); d != "" {
					t.Errorf("%v: %s", o, d)
				}
			}
		}
		if pods < 2 {
			t.Errorf("there are %d pods", pods)
		}
	})
}

func restricted(t *testing.T, o, spec object) {
	t.Helper()
	if spec.at("securityContext", "runAsNonRoot") != true || spec.text("securityContext", "seccompProfile", "type") != "RuntimeDefault" || spec.at("securityContext", "runAsUser") == 0 {
		t.Errorf("%v: the pod's securityContext is %v", o, spec["securityContext"])
	}
	volumes, _ := spec["volumes"].([]any)
	for _, v := range volumes {
		if m, _ := v.(map[string]any); m["configMap"] == nil && m["secret"] == nil {
			t.Errorf("%v: the volume %v", o, v)
		}
	}
	containers, _ := spec["containers"].([]any)
	for _, v := range containers {
		m, _ := v.(map[string]any)
		c := object(m)
		want := map[string]any{"allowPrivilegeEscalation": false, "readOnlyRootFilesystem": true, "capabilities": map[string]any{"drop": []any{"ALL"}}}
		if d := cmp.Diff(want, c["securityContext"]); d != "" {
			t.Errorf("%v: %v: %s", o, c["name"], d)
		}
		if c.at("resources", "requests", "cpu") == nil || c.at("resources", "limits", "memory") == nil {
			t.Errorf("%v: the resources are %v", o, c["resources"])
		}
		mounts, _ := c["volumeMounts"].([]any)
		for _, v := range mounts {
			if m, _ := v.(map[string]any); m["readOnly"] != true {
				t.Errorf("%v: the mount %v can be written", o, v)
			}
		}
	}
	if len(containers) != 1 {
		t.Errorf("%v has %d containers", o, len(containers))
	}
	// A pod that calls no API has no token.
	if token := spec["automountServiceAccountToken"]; token != (o.text("kind") == "Deployment") {
		t.Errorf("%v: automountServiceAccountToken is %v", o, token)
	}
}

// The injector may do this and nothing else.
func TestRightsAreTheListedOnes(t *testing.T) {
	type rules = []any
	rule := func(groups, resources, names, verbs string) map[string]any {
		list := func(s string) (l []any) {
			for _, f := range strings.Split(s, ",") {
				l = append(l, f)
			}
			return l
		}
		r := map[string]any{"apiGroups": list(groups), "resources": list(resources), "verbs": list(verbs)}
		if names != "" {
			r["resourceNames"] = list(names)
		}
		return r
	}
	each(t, func(t *testing.T, rendered string) {
		name := prefix(t) + "-injector"
		want := map[string]rules{
			"ClusterRole/" + name: {
				rule("", "pods", "", "list,watch"),
				rule("", "events", "", "create,patch"),
				rule("admissionregistration.k8s.io", "mutatingwebhookconfigurations", one(t, rendered, webhook).text("metadata", "name"), "get,patch"),
			},
			"Role/" + name: {
				rule("", "secrets", name+"-certificates", "get,patch"),
				rule("", "secrets", "", "create"),
			},
		}
		if strings.HasSuffix(t.Name(), "/all") { // cert-manager makes the certificate and writes the authorities
			delete(want, "Role/"+name)
			want["ClusterRole/"+name] = want["ClusterRole/"+name][:2]
		}
		got := map[string]rules{}
		for _, o := range objects(t, rendered) {
			switch {
			case strings.HasSuffix(o.text("kind"), "Role"):
				got[o.String()], _ = o["rules"].([]any)
			case strings.HasSuffix(o.text("kind"), "RoleBinding"):
				subjects, role := o["subjects"], o.text("roleRef", "kind")+"/"+o.text("roleRef", "name")
				d := cmp.Diff([]any{map[string]any{"kind": "ServiceAccount", "name": name, "namespace": "locks"}}, subjects)
				if want[role] == nil || d != "" {
					t.Errorf("%v gives %s to: %s", o, role, d)
				}
			}
		}
		if d := cmp.Diff(want, got); d != "" {
			t.Error(d)
		}
	})
}

// prefix is the name of what a variant makes.
func prefix(t *testing.T) string {
	t.Helper()
	if strings.HasSuffix(t.Name(), "/all") {
		return "locks"
	}
	return "locksidecar"
}
