package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// webhook is the object that a cluster has once: whatever a release is called, helm
// finds it to be another's.
const webhook = "MutatingWebhookConfiguration/locksidecar-injector"

// Two releases in one cluster would refuse each other's sidecars, so they meet in one
// name, and the second is refused.
func TestAClusterHasOneRelease(t *testing.T) {
	for _, args := range [][]string{nil, {"--set", "fullnameOverride=other"}} {
		out, errs, err := helm(t, slices.Concat([]string{"template", "another", directory, "--namespace", "elsewhere"}, variants["dev"], args)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		one(t, out, webhook)
		if got := one(t, out, "ClusterRole/"+map[bool]string{true: "another-locksidecar", false: "other"}[args == nil]+"-injector"); !strings.Contains(fmt.Sprint(got["rules"]), "locksidecar-injector") {
			t.Errorf("the injector has no right to it: %v", got["rules"])
		}
	}
}

// A webhook with failurePolicy Fail is called for pods that ask for it, and can
// wedge neither a cluster nor itself.
func TestWebhookIsNarrow(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		o := one(t, rendered, webhook)
		webhooks, _ := o["webhooks"].([]any)
		if len(webhooks) != 2 {
			t.Fatalf("there are %d webhooks", len(webhooks))
		}
		for i, v := range webhooks {
			m, _ := v.(map[string]any)
			w := object(m)
			if w.text("failurePolicy") != "Fail" || w.at("timeoutSeconds") != 5 || w.text("reinvocationPolicy") != "IfNeeded" || w.text("sideEffects") != "NoneOnDryRun" {
				t.Errorf("the webhook is %v", w)
			}
			if w.at("clientConfig", "caBundle") != nil {
				t.Error("its authorities are rendered: a tool of GitOps would take them back")
			}
			wanted := map[string]any{"matchExpressions": []any{
				map[string]any{"key": "locksidecar.dev/inject", "operator": "Exists"},
				map[string]any{"key": "locksidecar.dev/inject", "operator": "NotIn", "values": []any{"false"}},
			}}
			if d := cmp.Diff(wanted, w["objectSelector"]); i == 0 && d != "" || i == 1 && w.text("objectSelector", "matchLabels", "locksidecar.dev/inject") != "true" {
				t.Errorf("it is called for pods that did not ask for it: %s", d)
			}
			if i == 1 {
				// That of the check, in the release's own namespace.
				check := one(t, rendered, "Pod/"+prefix(t)+"-check")
				labels, _ := w.at("objectSelector", "matchLabels").(map[string]any)
				for key, want := range labels {
					if got := check.text("metadata", "labels", key); got != want {
						t.Errorf("the check has the label %s=%q, want %v", key, got, want)
					}
				}
				injector := one(t, rendered, "Deployment/"+prefix(t)+"-injector")
				if injector.at("spec", "template", "metadata", "labels", "locksidecar.dev/inject") != nil {
					t.Error("the injector waits for itself")
				}
				if w.text("namespaceSelector", "matchLabels", "kubernetes.io/metadata.name") != "locks" {
					t.Errorf("it is called in %v", w["namespaceSelector"])
				}
				continue
			}
			excluded, label := expressions(w)
			for _, namespace := range []string{"kube-system", "kube-node-lease", "locks"} {
				if !slices.Contains(excluded, any(namespace)) {
					t.Errorf("%s is not excluded: %v", namespace, excluded)
				}
			}
			want := "NotIn false"
			if strings.HasSuffix(t.Name(), "/all") {
				want = "In true"
				if !slices.Contains(excluded, any("monitoring")) || len(excluded) != 4 {
					t.Errorf("excluded are %v", excluded)
				}
			}
			if label != want {
				t.Errorf("the namespace's label is to be %s, want %s", label, want)
			}
		}
	})
}

// expressions are the namespaces that a webhook leaves out, and what it wants of
// a namespace's label.
func expressions(w object) (excluded []any, label string) {
	all, _ := w.at("namespaceSelector", "matchExpressions").([]any)
	for _, v := range all {
		m, _ := v.(map[string]any)
		e := object(m)
		values, _ := e["values"].([]any)
		switch {
		case e.text("key") == "kubernetes.io/metadata.name" && e.text("operator") == "NotIn":
			excluded = values
		case e.text("key") == "locksidecar.dev/inject" && len(values) == 1:
			s, _ := values[0].(string)
			label = e.text("operator") + " " + s
		}
	}
	return excluded, label
}

// Authorities that are given are rendered, as the API wants them.
func TestAuthoritiesThatAreGivenAreRendered(t *testing.T) {
	const authority = "-----BEGIN CERTIFICATE-----\nabc\n-----END CERTIFICATE-----\n"
	rendered := render(t, append(variants["dev"], "--set-literal", "certificates.caBundle="+authority, "--set", "certificates.existingSecret=s")...)
	webhooks, _ := one(t, rendered, webhook)["webhooks"].([]any)
	for _, v := range webhooks {
		m, _ := v.(map[string]any)
		if got := object(m).text("clientConfig", "caBundle"); got != "LS0tLS1CRUdJTiBDRVJUSUZJQ0FURS0tLS0tCmFiYwotLS0tLUVORCBDRVJUSUZJQ0FURS0tLS0tCg==" {
			t.Errorf("caBundle is %q", got)
		}
	}
}

// The ends of what the parts say to each other fit.
func TestInjectorIsReached(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		name := prefix(t) + "-injector"
		service, deployment := one(t, rendered, "Service/"+name), one(t, rendered, "Deployment/"+name)
		selector, _ := service.at("spec", "selector").(map[string]any)
		for key, want := range selector {
			if got := deployment.at("spec", "template", "metadata", "labels", key); got != want || deployment.at("spec", "selector", "matchLabels", key) != want {
				t.Errorf("the Service looks for %s=%v, the pods have %v", key, want, got)
			}
		}
		spec := podOf(deployment)
		containers, _ := spec["containers"].([]any)
		m, _ := containers[0].(map[string]any)
		c := object(m)
		ports := map[any]any{}
		list, _ := c["ports"].([]any)
		for _, v := range list {
			m, _ := v.(map[string]any)
			ports[m["name"]] = m["containerPort"]
		}
		want := map[any]any{"webhook": 9443, "metrics": 9719}
		if strings.HasSuffix(t.Name(), "/all") {
			want = map[any]any{"webhook": 10443, "metrics": 10719}
		}
		if ports["webhook"] != want["webhook"] || ports["metrics"] != want["metrics"] {
			t.Errorf("the ports are %v, want %v", ports, want)
		}
		if c.text("readinessProbe", "httpGet", "path") != "/readyz" || c.text("livenessProbe", "httpGet", "path") != "/healthz" || c.text("livenessProbe", "httpGet", "port") != "metrics" {
			t.Errorf("the probes are %v and %v", c["readinessProbe"], c["livenessProbe"])
		}
		replicas, _ := deployment.at("spec", "replicas").(int)
		budget := false
		for _, o := range objects(t, rendered) {
			budget = budget || o.text("kind") == "PodDisruptionBudget"
		}
		if budget != (replicas > 1) {
			t.Errorf("of %d replicas, a PodDisruptionBudget: %v", replicas, budget)
		}
	})
}
