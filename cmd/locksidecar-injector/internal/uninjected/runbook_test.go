package uninjected

import (
	"encoding/json"
	"os"
	"os/exec"
	"regexp"
	"strings"
	"testing"
	"time"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
)

// Whoever is paged finds by the runbook the pods that the metric counts, and no
// others.
func TestTheRunbookFindsWhatIsCounted(t *testing.T) {
	raw, err := os.ReadFile("../../../../docs/runbooks/pod-not-injected.md")
	if err != nil {
		t.Fatal(err)
	}
	commands := regexp.MustCompile(`(?m)^kubectl get pods --all-namespaces --selector '(.*?)' --output json \| (jq .*)$`).FindAllStringSubmatch(string(raw), -1)
	if len(commands) != 2 {
		t.Fatalf("the runbook has %d commands that look for pods", len(commands))
	}
	sidecar := []corev1.Container{{Name: "first"}, {Name: inject.Container}}
	now := metav1.NewTime(time.Now())
	pods := map[string]*corev1.Pod{
		"bare":     {},
		"others":   {Spec: corev1.PodSpec{InitContainers: sidecar[:1]}},
		"waits":    {Status: corev1.PodStatus{Phase: corev1.PodPending}},
		"runs":     {Status: corev1.PodStatus{Phase: corev1.PodRunning}},
		"injected": {Spec: corev1.PodSpec{InitContainers: sidecar}},
		"ended":    {Status: corev1.PodStatus{Phase: corev1.PodSucceeded}},
		"failed":   {Status: corev1.PodStatus{Phase: corev1.PodFailed}},
		"goes":     {ObjectMeta: metav1.ObjectMeta{DeletionTimestamp: &now}},
	}
	run := func(command string, list *corev1.PodList) (string, error) {
		stdin, err := json.Marshal(list)
		if err != nil {
			t.Fatal(err)
		}
		cmd := exec.CommandContext(t.Context(), "bash", "-c", command)
		cmd.Stdin, cmd.Stderr = strings.NewReader(string(stdin)), os.Stderr
		out, err := cmd.Output()
		return string(out), err
	}
	for _, c := range commands {
		if c[1] != Selector {
			t.Errorf("the runbook looks at %s, the metric at %s", c[1], Selector)
		}
	}
	for name, p := range pods {
		p.Namespace, p.Name = "shop", name
		list := &corev1.PodList{Items: []corev1.Pod{*p}}
		out, err := run(commands[0][2], list)
		if err != nil {
			t.Fatalf("See: %v; it needs jq", err)
		}
		if shown := strings.Contains(out, "shop\t"+name+"\t"); shown != without(p) {
			t.Errorf("See shows %s: %v, and it counts: %v", name, shown, without(p))
		}
		if out, err := run(commands[1][2], list); strings.TrimSpace(out) != map[bool]string{true: "false", false: "true"}[without(p)] || (err != nil) != without(p) {
			t.Errorf("Verify says %q of %s (%v), and it counts: %v", out, name, err, without(p))
		}
	}
}
