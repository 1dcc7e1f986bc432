//go:build cluster

package chart

import (
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
)

// A pod, a Deployment's and a Job's get the sidecar, in a namespace that enforces
// what Pod Security calls restricted; what has no label, and the namespaces that are
// excluded, are left alone.
func TestLabelledPodsAreInjected(t *testing.T) {
	r := install(t)
	r.start(t)
	t.Run("APod", func(t *testing.T) {
		p, err := create(t, appsNamespace, bare("one", template(true, "")))
		if err != nil {
			t.Fatal(err)
		}
		injected(t, p)
	})
	for kind, object := range map[string]string{
		"ADeployments": `{"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "web"}, "spec": {"selector": {"matchLabels": {"locksidecar.dev/inject": "true"}}, "template": %s}}`,
		"AJobs":        `{"apiVersion": "batch/v1", "kind": "Job", "metadata": {"name": "work"}, "spec": {"template": %s}}`,
	} {
		t.Run(kind, func(t *testing.T) {
			of := template(true, "")
			if kind == "ADeployments" {
				of = strings.Replace(of, `"restartPolicy": "Never",`, "", 1)
			}
			cluster.KubectlIn(t, fmt.Sprintf(object, of), "create", "-n", appsNamespace, "-f", "-")
			name := map[string]string{"ADeployments": "web-", "AJobs": "work-"}[kind]
			injected(t, podOf(t, name))
			// It says so on the controller.
			cluster.Eventually(t, "an event of the injector", func() error {
				for _, e := range events(t, appsNamespace) {
					if e.Reason == "LocksidecarInjected" && strings.HasPrefix(e.InvolvedObject.Name+"-", name) {
						return nil
					}
				}
				return errors.New("none")
			})
		})
	}
	t.Run("NotWithoutTheLabel", func(t *testing.T) {
		p, err := create(t, appsNamespace, bare("plain", template(false, "")))
		if err != nil {
			t.Fatal(err)
		}
		untouched(t, p)
	})
	for _, excluded := range []string{"kube-system", "kube-node-lease", releaseNamespace} {
		t.Run("NotIn/"+excluded, func(t *testing.T) {
			p, err := create(t, excluded, bare("one", template(true, "")), "--dry-run=server")
			if err != nil {
				t.Fatal(err)
			}
			untouched(t, p)
		})
	}
	t.Run("NotWhereTheNamespaceSaysNo", func(t *testing.T) {
		cluster.Kubectl(t, "label", "namespace", appsNamespace, "locksidecar.dev/inject=false")
		defer cluster.Kubectl(t, "label", "namespace", appsNamespace, "locksidecar.dev/inject-")
		p, err := create(t, appsNamespace, bare("no", template(true, "")), "--dry-run=server")
		if err != nil {
			t.Fatal(err)
		}
		untouched(t, p)
	})
}

// podOf waits for the pod that a controller made.
func podOf(t *testing.T, prefix string) (found pod) {
	t.Helper()
	cluster.Eventually(t, "the controller makes a pod", func() error {
		var list struct{ Items []pod }
		cluster.Get(t, &list, "pods", "-n", appsNamespace)
		for _, found = range list.Items {
			if strings.HasPrefix(found.Metadata.Name, prefix) {
				return nil
			}
		}
		return errors.New("none")
	})
	return found
}

// event is one of the injector's.
type event struct {
	Reason, Message string
	InvolvedObject  struct{ Kind, Name string }
	Source          struct{ Component string }
}

// events are the injector's in a namespace.
func events(t testing.TB, namespace string) (own []event) {
	t.Helper()
	var list struct{ Items []event }
	cluster.Get(t, &list, "events", "-n", namespace)
	for _, e := range list.Items {
		if e.Source.Component == "locksidecar-injector" {
			own = append(own, e)
		}
	}
	return own
}

// What a pod must not decide is refused by the server, with what is allowed.
func TestAttacksAreRefused(t *testing.T) {
	r := install(t)
	r.start(t)
	impostor := strings.Replace(template(true, ""), `"containers"`,
		`"initContainers": [{"name": "locksidecar", "image": "evil.example/locksidecar:1", "restartPolicy": "Always"}], "containers"`, 1)
	for name, c := range map[string]struct{ template, says string }{
		"image":     {template(true, `, "annotations": {"locksidecar.dev/image": "evil"}`), "locksidecar.dev/image"},
		"args":      {template(true, `, "annotations": {"locksidecar.dev/args": "--x"}`), "locksidecar.dev/args"},
		"root":      {template(true, `, "annotations": {"locksidecar.dev/run-as-user": "0"}`), "locksidecar.dev/run-as-user"},
		"security":  {template(true, `, "annotations": {"locksidecar.dev/security-context": "{}"}`), "locksidecar.dev/security-context"},
		"status":    {template(true, `, "annotations": {"locksidecar.dev/status": "{}"}`), "locksidecar.dev/status"},
		"impostor":  {impostor, "locksidecar"},
		"label":     {strings.Replace(template(true, ""), `"locksidecar.dev/inject": "true"`, `"locksidecar.dev/inject": "yes"`, 1), "locksidecar.dev/inject"},
		"container": {strings.Replace(template(true, ""), `"name": "app"`, `"name": "locksidecar"`, 1), "locksidecar"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := create(t, appsNamespace, bare("attack-"+name, c.template))
			if err == nil || !strings.Contains(err.Error(), "denied the request") || !strings.Contains(err.Error(), c.says) {
				t.Errorf("the server said: %v", err)
			}
		})
	}
	cluster.Eventually(t, "events tell of the refusals", func() error {
		refused := 0
		for _, e := range events(t, appsNamespace) {
			if e.Reason == "LocksidecarRefused" {
				refused++
			}
		}
		if refused < 5 {
			return fmt.Errorf("%d", refused)
		}
		return nil
	})
}

// A dry run answers as a creation does, and leaves nothing: no event, either.
func TestADryRunLeavesNoEvent(t *testing.T) {
	r := install(t)
	r.start(t)
	const quiet = "quiet"
	namespace(t, quiet, "restricted")
	t.Cleanup(func() { cluster.Kubectl(cluster.Outliving(t), "delete", "namespace", quiet) })
	p, err := create(t, quiet, bare("dry", template(true, "")), "--dry-run=server")
	if err != nil {
		t.Fatal(err)
	}
	injected(t, p)
	refused := template(true, `, "annotations": {"locksidecar.dev/image": "%s"}`)
	if _, err := create(t, quiet, bare("dry", fmt.Sprintf(refused, "dry")), "--dry-run=server"); err == nil {
		t.Error("a dry run of what is refused was admitted")
	}
	if _, err := create(t, quiet, bare("wet", strings.ReplaceAll(fmt.Sprintf(refused, "wet"), "/image", "/args"))); err == nil {
		t.Error("what is refused was admitted")
	}
	// Events are written in the order of the requests: the last one's is the first.
	cluster.Eventually(t, "the event of the request that was none", func() error {
		if len(events(t, quiet)) == 0 {
			return errors.New("none")
		}
		return nil
	})
	if all := events(t, quiet); len(all) != 1 || !strings.Contains(all[0].Message, "/args") {
		t.Errorf("the events are %+v", all)
	}
}

// While no injector runs, a pod that asks for locks does not start without them,
// and nobody else notices.
func TestWithTheInjectorDown(t *testing.T) {
	r := install(t)
	r.start(t)
	if _, err := create(t, appsNamespace, bare("before", template(true, ""))); err != nil {
		t.Fatal(err)
	}
	r.replicas[0].Kill()
	_, err := create(t, appsNamespace, bare("labelled", template(true, "")))
	if err == nil || !strings.Contains(err.Error(), "failed calling webhook") || !strings.Contains(err.Error(), "locksidecar.dev") {
		t.Errorf("a labelled pod: %v", err)
	}
	p, err := create(t, appsNamespace, bare("unlabelled", template(false, "")))
	if err != nil {
		t.Fatalf("an unlabelled pod: %v", err)
	}
	untouched(t, p)
	for _, excluded := range []string{"kube-system", "kube-node-lease", releaseNamespace} {
		p, err := create(t, excluded, bare("labelled", template(true, "")), "--dry-run=server")
		if err != nil {
			t.Fatalf("%s: %v", excluded, err)
		}
		untouched(t, p)
	}
	// As soon as one is back, so are they.
	r.kill(t, 0)
	r.start(t)
	if _, err := create(t, appsNamespace, bare("labelled", template(true, ""))); err != nil {
		t.Errorf("with an injector again: %v", err)
	}
}

// The injector's account may do what it needs, and nothing else.
func TestTheAccountMayDoNothingElse(t *testing.T) {
	r := install(t)
	r.start(t) // it got its certificate, its caBundle and its list of pods by that account
	as := "--as=system:serviceaccount:" + releaseNamespace + ":" + injector
	for _, c := range []struct {
		may  string
		args []string
	}{
		{"yes", []string{"list", "pods", "-A"}},
		{"yes", []string{"patch", "mutatingwebhookconfigurations/" + injector}},
		{"yes", []string{"get", "secrets/" + injector + "-certificates", "-n", releaseNamespace}},
		{"no", []string{"get", "secrets", "-n", releaseNamespace}},
		{"no", []string{"get", "secrets", "-A"}},
		{"no", []string{"get", "secrets/" + injector + "-certificates", "-n", appsNamespace}},
		{"no", []string{"create", "secrets", "-n", appsNamespace}},
		{"no", []string{"create", "pods", "-n", appsNamespace}},
		{"no", []string{"delete", "pods", "-A"}},
		{"no", []string{"patch", "mutatingwebhookconfigurations/other"}},
		{"no", []string{"delete", "mutatingwebhookconfigurations/" + injector}},
		{"no", []string{"create", "clusterrolebindings"}},
		{"no", []string{"create", "serviceaccounts/" + injector, "--subresource=token", "-n", releaseNamespace}},
	} {
		// It fails where the answer is no.
		out, err := cluster.TryKubectl(t, "", append([]string{"auth", "can-i", as}, c.args...)...)
		if strings.TrimSpace(out) != c.may {
			t.Errorf("%v: %q (%v), want %s", c.args, out, err, c.may)
		}
	}
}

// A configuration that is not valid is not taken: the injector goes on with the one
// before and says so.
func TestAWrongConfigurationIsNotTaken(t *testing.T) {
	r := install(t)
	r.start(t)
	file := r.dir + "/config/injector.yaml"
	if err := os.WriteFile(file, []byte("sidecar: {imgae: x}\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	cluster.Eventually(t, "the injector says what is wrong", func() error {
		if out := r.replicas[0].Output(); !strings.Contains(out, "imgae") {
			return errors.New(out)
		}
		return nil
	})
	p, err := create(t, appsNamespace, bare("one", template(true, "")), "--dry-run=server")
	if err != nil {
		t.Fatal(err)
	}
	injected(t, p)
	if raw, err := json.Marshal(p); err != nil || !strings.Contains(string(raw), "localhost/locksidecar") {
		t.Errorf("%v: %s", err, raw)
	}
}
