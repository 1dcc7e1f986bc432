package inject

import (
	"errors"
	"slices"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/yaml"
)

const configuration = "backends: {main: {url: \"redis://redis.locks:6379\"}}\n"

// settings are what a configuration may say.
func settings() *Settings {
	return &Settings{
		Version: "1.2.3", Image: "registry.example/locksidecar:1.2.3", ImagePullPolicy: corev1.PullIfNotPresent, LogLevel: "info", RunAsUser: 65532,
		Resources: corev1.ResourceRequirements{
			Requests: corev1.ResourceList{"cpu": resource.MustParse("50m"), "memory": resource.MustParse("64Mi")},
			Limits:   corev1.ResourceList{"memory": resource.MustParse("256Mi")},
		},
		MetricsPort: 9718, Configuration: configuration, Secrets: []Secret{{"locksidecar-redis", "redis"}},
		Env: []corev1.EnvVar{{Name: "AWS_REGION", Value: "eu-west-1"}},
	}
}

// plain is a pod that asks for a sidecar.
func plain() *corev1.Pod {
	p := &corev1.Pod{}
	p.Name, p.Namespace = "web", "shop"
	p.Labels = map[string]string{Label: "true"}
	p.Annotations = map[string]string{}
	p.Spec.InitContainers = []corev1.Container{{Name: "migrate", Image: "registry.example/web"}}
	p.Spec.Containers = []corev1.Container{{Name: "app", Image: "registry.example/web"}, {Name: "log", Image: "registry.example/log"}}
	return p
}

// with is a pod that somebody changed.
func with(p *corev1.Pod, change func(p *corev1.Pod)) *corev1.Pod {
	change(p)
	return p
}

// injected is what becomes of a pod.
func injected(t *testing.T, s *Settings, p *corev1.Pod) *corev1.Pod {
	t.Helper()
	before := p.DeepCopy()
	out, _, err := s.Inject(p)
	if err != nil {
		t.Fatalf("refused: %v", err)
	}
	if diff := cmp.Diff(before, p); diff != "" {
		t.Fatalf("the pod that was given has changed:\n%s", diff)
	}
	return out
}

// refused is why a pod is.
func refused(t *testing.T, s *Settings, p *corev1.Pod) *Refusal {
	t.Helper()
	_, _, err := s.Inject(p)
	var r *Refusal
	if !errors.As(err, &r) {
		t.Fatalf("it is not refused: %v", err)
	}
	return r
}

// sidecarOf is the sidecar of a pod that has one.
func sidecarOf(t *testing.T, p *corev1.Pod) *corev1.Container {
	t.Helper()
	i := slices.IndexFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == Container })
	if i < 0 {
		t.Fatal("there is no sidecar")
	}
	return &p.Spec.InitContainers[i]
}

// text is a pod for comparison: quantities have several forms of one value.
func text(t *testing.T, p *corev1.Pod) string {
	t.Helper()
	raw, err := yaml.Marshal(p)
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

// unchanged says that a pod stays as it is.
func unchanged(t *testing.T, s *Settings, p *corev1.Pod) {
	t.Helper()
	if diff := cmp.Diff(text(t, p), text(t, injected(t, s, p))); diff != "" {
		t.Fatalf("injected again, it differs:\n%s", diff)
	}
}
