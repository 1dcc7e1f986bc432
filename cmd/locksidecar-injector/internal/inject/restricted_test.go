package inject

import (
	"fmt"
	"math/rand/v2"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/pod-security-admission/api"
	"k8s.io/pod-security-admission/policy"
)

// restrict makes a pod one that Pod Security admits as restricted.
func restrict(p *corev1.Pod) {
	yes, no, user := true, false, int64(1000)
	p.Spec.SecurityContext = &corev1.PodSecurityContext{
		RunAsNonRoot: &yes, RunAsUser: &user, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	for c := range containers(&p.Spec) {
		c.SecurityContext = &corev1.SecurityContext{AllowPrivilegeEscalation: &no, Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}}
	}
	for i := range p.Spec.Volumes {
		p.Spec.Volumes[i].EmptyDir = &corev1.EmptyDirVolumeSource{}
	}
	p.Spec.HostNetwork = false
}

// What admission itself says: a restricted pod stays restricted, by the rules of
// each version that has sidecars.
func TestARestrictedPodStaysRestricted(t *testing.T) {
	evaluator, err := policy.NewEvaluator(policy.DefaultChecks(), nil)
	if err != nil {
		t.Fatal(err)
	}
	versions := []api.Version{api.LatestVersion()}
	for minor := oldest; minor <= 37; minor++ {
		versions = append(versions, api.MajorMinorVersion(1, minor))
	}
	admitted := func(t *testing.T, p *corev1.Pod) {
		t.Helper()
		for _, v := range versions {
			r := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: v}, &p.ObjectMeta, &p.Spec))
			if !r.Allowed {
				t.Fatalf("by %s it violates: %s\n%s", v.String(), r.ForbiddenDetail(), text(t, p))
			}
		}
	}
	variants := map[string]func(s *Settings, p *corev1.Pod){
		"plain":                  func(*Settings, *corev1.Pod) {},
		"another uid":            func(_ *Settings, p *corev1.Pod) { p.Annotations[Prefix+"run-as-user"] = "1" },
		"a ConfigMap":            func(_ *Settings, p *corev1.Pod) { p.Annotations[Prefix+"config"] = "web" },
		"no secrets":             func(s *Settings, _ *corev1.Pod) { s.Secrets = nil },
		"no metrics":             func(s *Settings, _ *corev1.Pod) { s.MetricsPort = 0 },
		"the pod has no fsGroup": func(_ *Settings, p *corev1.Pod) { p.Spec.SecurityContext.FSGroup = nil },
		"one container":          func(_ *Settings, p *corev1.Pod) { p.Annotations[Prefix+"containers"] = "app" },
		"no init containers":     func(_ *Settings, p *corev1.Pod) { p.Spec.InitContainers = nil },
		"security of the containers alone": func(_ *Settings, p *corev1.Pod) {
			pod := p.Spec.SecurityContext
			p.Spec.SecurityContext = nil
			for c := range containers(&p.Spec) {
				c.SecurityContext.RunAsNonRoot, c.SecurityContext.RunAsUser, c.SecurityContext.SeccompProfile = pod.RunAsNonRoot, pod.RunAsUser, pod.SeccompProfile
			}
		},
	}
	for name, change := range variants {
		t.Run(name, func(t *testing.T) {
			s, p := settings(), plain()
			restrict(p)
			change(s, p)
			admitted(t, p)
			admitted(t, injected(t, s, p))
		})
	}
	t.Run("any", func(t *testing.T) {
		r := rand.New(rand.NewPCG(4, 29))
		for range 30 {
			p := random(r)
			restrict(p)
			out := injected(t, settings(), p)
			admitted(t, out)
		}
	})
	t.Run("the evaluator refuses what is not restricted", func(t *testing.T) {
		p := injected(t, settings(), with(plain(), restrict))
		root := int64(0)
		sidecarOf(t, p).SecurityContext.RunAsUser = &root
		if r := policy.AggregateCheckResults(evaluator.EvaluatePod(api.LevelVersion{Level: api.LevelRestricted, Version: versions[0]}, &p.ObjectMeta, &p.Spec)); r.Allowed {
			t.Error(fmt.Sprint("a sidecar that runs as root was admitted: ", r))
		}
	})
}

// oldest is the minor version that has sidecars first.
const oldest = 29
