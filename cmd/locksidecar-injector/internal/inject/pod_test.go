package inject

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	corev1 "k8s.io/api/core/v1"
)

// A pod means to have a sidecar unless its label says "false" or is not there.
func TestWhichPodsWantASidecar(t *testing.T) {
	for value, want := range map[string]bool{"true": true, "True": true, "yes": true, "": true, "false": false} {
		if p := with(plain(), func(p *corev1.Pod) { p.Labels[Label] = value }); Wanted(p) != want {
			t.Errorf("%q: %v", value, !want)
		}
	}
	if p := with(plain(), func(p *corev1.Pod) { delete(p.Labels, Label) }); Wanted(p) {
		t.Error("a pod without the label")
	}
}

// The whole of an injected pod, to be read by people.
func TestInjectedPodIsTheGoldenOne(t *testing.T) {
	got := text(t, injected(t, settings(), plain()))
	file := filepath.Join("testdata", "pod.yaml")
	if os.Getenv("UPDATE") != "" {
		if err := os.WriteFile(file, []byte(got), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	want, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if diff := cmp.Diff(string(want), got); diff != "" {
		t.Errorf("it differs from %s; UPDATE=1 go test writes it:\n%s", file, diff)
	}
}

// Each setting, of the configuration or of a pod, does what it says.
func TestSettings(t *testing.T) {
	annotate := func(key, value string) func(*Settings, *corev1.Pod) {
		return func(_ *Settings, p *corev1.Pod) { p.Annotations[Prefix+key] = value }
	}
	for _, row := range []struct {
		name  string
		given func(s *Settings, p *corev1.Pod)
		want  func(c *corev1.Container, p *corev1.Pod) bool
	}{
		{"the sidecar is first, and a native one", nil, func(c *corev1.Container, p *corev1.Pod) bool {
			return &p.Spec.InitContainers[0] == c && *c.RestartPolicy == corev1.ContainerRestartPolicyAlways && len(p.Spec.InitContainers) == 2
		}},
		{"image", func(s *Settings, _ *corev1.Pod) { s.Image = "other/image@sha256:12" }, func(c *corev1.Container, _ *corev1.Pod) bool { return c.Image == "other/image@sha256:12" }},
		{"pull policy", func(s *Settings, _ *corev1.Pod) { s.ImagePullPolicy = corev1.PullNever }, func(c *corev1.Container, _ *corev1.Pod) bool { return c.ImagePullPolicy == "Never" }},
		{"image-pull-policy", annotate("image-pull-policy", "Always"), func(c *corev1.Container, _ *corev1.Pod) bool { return c.ImagePullPolicy == "Always" }},
		{"cpu-request", annotate("cpu-request", "10m"), func(c *corev1.Container, _ *corev1.Pod) bool { return c.Resources.Requests.Cpu().String() == "10m" }},
		{"cpu-limit", annotate("cpu-limit", "0.5"), func(c *corev1.Container, _ *corev1.Pod) bool { return c.Resources.Limits.Cpu().String() == "500m" }},
		{"memory-request", annotate("memory-request", "32Mi"), func(c *corev1.Container, _ *corev1.Pod) bool {
			return c.Resources.Requests.Memory().String() == "32Mi" && c.Resources.Requests.Cpu().String() == "50m"
		}},
		{"memory-limit", annotate("memory-limit", "1Gi"), func(c *corev1.Container, _ *corev1.Pod) bool { return c.Resources.Limits.Memory().String() == "1Gi" }},
		{"run-as-user", annotate("run-as-user", "1000"), func(c *corev1.Container, _ *corev1.Pod) bool {
			return *c.SecurityContext.RunAsUser == 1000 && *c.SecurityContext.RunAsGroup == 1000
		}},
		{"the group is the user's, whatever the pod's is", func(_ *Settings, p *corev1.Pod) {
			root := int64(0)
			p.Spec.SecurityContext = &corev1.PodSecurityContext{RunAsGroup: &root}
		}, func(c *corev1.Container, _ *corev1.Pod) bool { return *c.SecurityContext.RunAsGroup == 65532 }},
		{"log-level", annotate("log-level", "debug"), func(c *corev1.Container, _ *corev1.Pod) bool { return following(c.Args, "--log-level") == "debug" }},
		{"config", annotate("config", "web-locks"), func(_ *corev1.Container, p *corev1.Pod) bool {
			v := volume(p, configVolume)
			_, has := p.Annotations[ConfigurationAnnotation]
			return v.ConfigMap.Name == "web-locks" && v.ConfigMap.Items[0] == (corev1.KeyToPath{Key: ConfigKey, Path: ConfigKey}) && !has
		}},
		{"the injector's configuration", nil, func(c *corev1.Container, p *corev1.Pod) bool {
			v := volume(p, configVolume)
			return v.DownwardAPI.Items[0].FieldRef.FieldPath == "metadata.annotations['locksidecar.dev/configuration']" &&
				p.Annotations[ConfigurationAnnotation] == configuration && following(c.Args, "--config") == "/etc/locksidecar/config/locksidecar.yaml"
		}},
		{"containers: all", nil, func(_ *corev1.Container, p *corev1.Pod) bool {
			return served(&p.Spec.InitContainers[1]) && served(&p.Spec.Containers[0]) && served(&p.Spec.Containers[1]) &&
				p.Annotations[StatusAnnotation] == `{"state":"injected","version":"1.2.3","containers":["migrate","app","log"]}`
		}},
		{"containers: some", annotate("containers", "log , migrate"), func(_ *corev1.Container, p *corev1.Pod) bool {
			return served(&p.Spec.InitContainers[1]) && !served(&p.Spec.Containers[0]) && served(&p.Spec.Containers[1]) &&
				p.Annotations[StatusAnnotation] == `{"state":"injected","version":"1.2.3","containers":["migrate","log"]}`
		}},
		{"a container that is left out may have another endpoint", func(_ *Settings, p *corev1.Pod) {
			p.Annotations[Prefix+"containers"] = "app"
			p.Spec.Containers[1].Env = []corev1.EnvVar{{Name: EndpointVariable, Value: "unix:///elsewhere"}}
		}, func(_ *corev1.Container, p *corev1.Pod) bool {
			return p.Spec.Containers[1].Env[0].Value == "unix:///elsewhere"
		}},
		{"the same endpoint is none of another", func(_ *Settings, p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: EndpointVariable, Value: Endpoint}}
		}, func(_ *corev1.Container, p *corev1.Pod) bool { return len(p.Spec.Containers[0].Env) == 1 }},
		{"the socket's volume is in memory, read-only for applications", nil, func(c *corev1.Container, p *corev1.Pod) bool {
			v := volume(p, socketVolume)
			return v.EmptyDir.Medium == corev1.StorageMediumMemory && v.EmptyDir.SizeLimit.Value() > 0 && !c.VolumeMounts[0].ReadOnly && following(c.Args, "--socket-mode") == "0666"
		}},
		{"secrets are the sidecar's alone", nil, func(c *corev1.Container, p *corev1.Pod) bool {
			has := func(c *corev1.Container) bool {
				return slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return m.Name == "locksidecar-secret-0" })
			}
			return volume(p, "locksidecar-secret-0").Secret.SecretName == "locksidecar-redis" && has(c) && !has(&p.Spec.Containers[0]) && !has(&p.Spec.InitContainers[1])
		}},
		{"env", nil, func(c *corev1.Container, _ *corev1.Pod) bool {
			return slices.Equal(c.Env, []corev1.EnvVar{{Name: "AWS_REGION", Value: "eu-west-1"}})
		}},
		{"metrics", nil, func(c *corev1.Container, _ *corev1.Pod) bool {
			return following(c.Args, "--metrics") == ":9718" && c.Ports[0] == corev1.ContainerPort{Name: "ls-metrics", ContainerPort: 9718, Protocol: "TCP"}
		}},
		{"no metrics", func(s *Settings, _ *corev1.Pod) { s.MetricsPort = 0 }, func(c *corev1.Container, _ *corev1.Pod) bool {
			return !slices.Contains(c.Args, "--metrics") && c.Ports == nil
		}},
		{"no metrics on the host's network", func(_ *Settings, p *corev1.Pod) { p.Spec.HostNetwork = true }, func(c *corev1.Container, p *corev1.Pod) bool {
			return !slices.Contains(c.Args, "--metrics") && c.Ports == nil &&
				p.Annotations[StatusAnnotation] == `{"state":"injected","version":"1.2.3","reason":"no metrics: the pod is on the host's network","containers":["migrate","app","log"]}`
		}},
		{"the startup probe asks for life alone", nil, func(c *corev1.Container, _ *corev1.Pod) bool {
			return slices.Equal(c.StartupProbe.Exec.Command, []string{"/locksidecar", "health", "--live", "--endpoint", "unix:///run/locksidecar/api.sock"}) && c.StartupProbe.PeriodSeconds == 1
		}},
		{"other annotations and volumes stay", func(_ *Settings, p *corev1.Pod) {
			p.Annotations["example.com/locksidecar.dev"] = "x"
			p.Spec.Volumes = []corev1.Volume{{Name: "data"}}
		}, func(_ *corev1.Container, p *corev1.Pod) bool {
			return p.Annotations["example.com/locksidecar.dev"] == "x" && p.Spec.Volumes[0].Name == "data" && len(p.Spec.Volumes) == 4
		}},
	} {
		t.Run(row.name, func(t *testing.T) {
			s, p := settings(), plain()
			if row.given != nil {
				row.given(s, p)
			}
			out := injected(t, s, p)
			if !row.want(sidecarOf(t, out), out) {
				t.Errorf("it is not so in:\n%s", text(t, out))
			}
			unchanged(t, s, out)
		})
	}
}

// Each annotation of the table has a row above.
func TestEachAnnotationIsTried(t *testing.T) {
	raw, err := os.ReadFile("pod_test.go")
	if err != nil {
		t.Fatal(err)
	}
	for _, a := range Annotations {
		if !strings.Contains(string(raw), `annotate("`+a.Name+`"`) {
			t.Errorf("no row tries %s", a.Name)
		}
	}
}

func following(args []string, flag string) string {
	if i := slices.Index(args, flag); i >= 0 && i+1 < len(args) {
		return args[i+1]
	}
	return ""
}

func volume(p *corev1.Pod, name string) *corev1.Volume {
	i := slices.IndexFunc(p.Spec.Volumes, func(v corev1.Volume) bool { return v.Name == name })
	if i < 0 {
		return &corev1.Volume{}
	}
	return &p.Spec.Volumes[i]
}

// served says whether a container has the socket and knows where.
func served(c *corev1.Container) bool {
	return slices.Contains(c.Env, corev1.EnvVar{Name: EndpointVariable, Value: "unix:///run/locksidecar/api.sock"}) &&
		slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool {
			return m.Name == socketVolume && m.MountPath == "/run/locksidecar" && m.ReadOnly
		})
}
