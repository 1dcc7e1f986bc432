package inject

import (
	"strings"
	"testing"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// attack is a pod that is refused, why, and what its author is told.
type attack struct {
	name   string
	change func(p *corev1.Pod)
	reason Reason
	says   []string
}

func annotation(key, value string, says ...string) attack {
	return attack{key + "=" + value, func(p *corev1.Pod) { p.Annotations[Prefix+key] = value }, ReasonAnnotation, append([]string{"annotation locksidecar.dev/" + key + ":"}, says...)}
}

// again makes a pod that was injected, and changes its sidecar.
func impostors(name, says string, change func(c *corev1.Container)) attack {
	return attack{name, func(p *corev1.Pod) {
		out, _, err := settings().Inject(p)
		if err != nil {
			panic(err)
		}
		*p = *out
		change(&p.Spec.InitContainers[0])
	}, ReasonContainer, []string{`container "locksidecar"`, says, "rename the container, or remove it"}}
}

func attacks() []attack {
	no, yes, root := false, true, int64(0)
	mount := func(m corev1.VolumeMount) func(p *corev1.Pod) {
		return func(p *corev1.Pod) { p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{m} }
	}
	label := func(value string) attack {
		return attack{"the label " + value, func(p *corev1.Pod) { p.Labels[Label] = value }, ReasonLabel, []string{"label locksidecar.dev/inject:", "neither"}}
	}
	return []attack{
		label("True"), label("yes"), label("enabled"), label(""),
		annotation("image", "evil/image", "a pod does not decide that", "remove it", "a pod may set locksidecar.dev/config,"),
		annotation("args", `["--backend","redis://evil"]`, "a pod does not decide that"),
		annotation("command", "/bin/sh", "a pod does not decide that"),
		annotation("security-context", `{"privileged":true}`, "a pod does not decide that"),
		annotation("privileged", "true", "a pod does not decide that"),
		annotation("env", "A=b", "a pod does not decide that"),
		annotation("secrets", "database", "a pod does not decide that"),
		annotation("cpu-requests", "1", "it is unknown", "locksidecar.dev/cpu-request,"),
		annotation("Config", "web", "it is unknown"),
		annotation("", "x", "it is unknown"),
		annotation("inject", "true", "it is a label"),
		annotation("configuration", "backends: {main: {url: redis://evil}}", "written by the injector", "name a ConfigMap by locksidecar.dev/config"),
		annotation("status", `{"state":"injected"}`, "written by the injector"),
		annotation("config", "../../etc", "the name of a ConfigMap"),
		annotation("config", "", "the name of a ConfigMap"),
		annotation("containers", "", "has an empty name", "separated by commas"),
		annotation("containers", "app,,log", "has an empty name"),
		annotation("containers", "app,app", "stands there twice"),
		annotation("containers", "locksidecar", "is the sidecar itself"),
		annotation("containers", "ap", `the pod has no container "ap"`, "migrate, app, log"),
		annotation("image-pull-policy", "always", "want Always, IfNotPresent or Never"),
		annotation("cpu-request", "lots", "want a quantity above 0"),
		annotation("cpu-request", "0", "want a quantity above 0"),
		annotation("memory-limit", "-1", "want a quantity above 0"),
		annotation("run-as-user", "0", "never root"),
		annotation("run-as-user", "-1", "never root"),
		annotation("run-as-user", "root", "never root"),
		annotation("run-as-user", "4294967296", "never root"),
		annotation("run-as-user", "0x0", "never root"),
		annotation("log-level", "trace", "want debug, info, warn or error"),
		{"a request above the limit", func(p *corev1.Pod) { p.Annotations[Prefix+"memory-request"] = "1Gi" }, ReasonAnnotation,
			[]string{"memory request is 1Gi and its limit 256Mi", "locksidecar.dev/memory-limit"}},

		{"an application of the sidecar's name", func(p *corev1.Pod) { p.Spec.Containers[1].Name = Container }, ReasonContainer, []string{"it is no init container"}},
		{"an init container of its name", func(p *corev1.Pod) { p.Spec.InitContainers[0].Name = Container }, ReasonContainer, []string{"its restartPolicy is not Always"}},
		{"an ephemeral container of its name", func(p *corev1.Pod) {
			p.Spec.EphemeralContainers = []corev1.EphemeralContainer{{EphemeralContainerCommon: corev1.EphemeralContainerCommon{Name: Container}}}
		}, ReasonContainer, []string{"ephemeral"}},
		impostors("its image", "its image is not registry.example/locksidecar", func(c *corev1.Container) { c.Image = "evil.example/locksidecar:1.2.3" }),
		impostors("an image of a longer name", "its image is not", func(c *corev1.Container) { c.Image = "registry.example/locksidecar/evil" }),
		impostors("a command", "command", func(c *corev1.Container) { c.Command = []string{"/bin/sh"} }),
		impostors("other args", "args", func(c *corev1.Container) { c.Args = []string{"dev"} }),
		impostors("another backend", "args", func(c *corev1.Container) { c.Args = append(c.Args, "--backend", "redis://evil") }),
		impostors("another socket", "args", func(c *corev1.Container) { c.Args[4] = "/tmp/api.sock" }),
		impostors("no args", "args", func(c *corev1.Container) { c.Args = nil }),
		impostors("its environment", "LOCKSIDECAR_BACKEND", func(c *corev1.Container) {
			c.Env = append(c.Env, corev1.EnvVar{Name: "LOCKSIDECAR_BACKEND", Value: "redis://evil"})
		}),
		impostors("an environment of elsewhere", "environment", func(c *corev1.Container) { c.EnvFrom = []corev1.EnvFromSource{{}} }),
		impostors("no restart", "restartPolicy", func(c *corev1.Container) { c.RestartPolicy = nil }),
		impostors("a hook", "hooks", func(c *corev1.Container) { c.Lifecycle = &corev1.Lifecycle{} }),
		impostors("a liveness probe", "probes", func(c *corev1.Container) { c.LivenessProbe = &corev1.Probe{} }),
		impostors("ports", "ports", func(c *corev1.Container) {
			c.Ports = append(c.Ports, corev1.ContainerPort{Name: "x", ContainerPort: 1})
		}),
		impostors("a port of the host", "ports", func(c *corev1.Container) { c.Ports[0].HostPort = 9718 }),
		impostors("a mount over its configuration", "is mounted at /etc", func(c *corev1.Container) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "evil", MountPath: "/etc"})
		}),
		impostors("a mount over its binary", "is mounted at /locksidecar", func(c *corev1.Container) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "evil", MountPath: "/locksidecar"})
		}),
		impostors("a mount over everything", "is mounted at /", func(c *corev1.Container) {
			c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: "evil", MountPath: "/"})
		}),
		impostors("no security context", "securityContext", func(c *corev1.Container) { c.SecurityContext = nil }),
		impostors("root", "securityContext", func(c *corev1.Container) { c.SecurityContext.RunAsUser = &root }),
		impostors("perhaps root", "securityContext", func(c *corev1.Container) { c.SecurityContext.RunAsNonRoot = &no }),
		impostors("privileged", "securityContext", func(c *corev1.Container) { c.SecurityContext.Privileged = &yes }),
		impostors("escalation", "securityContext", func(c *corev1.Container) { c.SecurityContext.AllowPrivilegeEscalation = &yes }),
		impostors("a root that can be written", "securityContext", func(c *corev1.Container) { c.SecurityContext.ReadOnlyRootFilesystem = nil }),
		impostors("capabilities", "securityContext", func(c *corev1.Container) { c.SecurityContext.Capabilities.Add = []corev1.Capability{"SYS_ADMIN"} }),
		impostors("capabilities that stay", "securityContext", func(c *corev1.Container) { c.SecurityContext.Capabilities.Drop = nil }),
		impostors("the group of root", "securityContext", func(c *corev1.Container) { c.SecurityContext.RunAsGroup = &root }),
		impostors("no AppArmor", "securityContext", func(c *corev1.Container) {
			c.SecurityContext.AppArmorProfile = &corev1.AppArmorProfile{Type: corev1.AppArmorProfileTypeUnconfined}
		}),
		impostors("another type of SELinux", "securityContext", func(c *corev1.Container) {
			c.SecurityContext.SELinuxOptions = &corev1.SELinuxOptions{Type: "spc_t"}
		}),
		impostors("devices", "devices", func(c *corev1.Container) { c.Resources.Claims = []corev1.ResourceClaim{{Name: "gpu"}} }),
		impostors("a message over its configuration", "terminationMessagePath", func(c *corev1.Container) {
			c.TerminationMessagePath = ConfigDir + "/" + ConfigKey
		}),
		impostors("unconfined", "securityContext", func(c *corev1.Container) { c.SecurityContext.SeccompProfile.Type = corev1.SeccompProfileTypeUnconfined }),
		impostors("all of /proc", "securityContext", func(c *corev1.Container) {
			all := corev1.UnmaskedProcMount
			c.SecurityContext.ProcMount = &all
		}),

		{"a volume of the socket's name", func(p *corev1.Pod) {
			p.Spec.Volumes = []corev1.Volume{{Name: socketVolume, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}}
		}, ReasonVolume, []string{`volume "locksidecar-socket"`, "rename the volume"}},
		{"a volume of the configuration's name", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: configVolume}} }, ReasonVolume, []string{`volume "locksidecar-config"`}},
		{"a volume of a secret's name", func(p *corev1.Pod) { p.Spec.Volumes = []corev1.Volume{{Name: secretVolume + "7"}} }, ReasonVolume, []string{`volume "locksidecar-secret-7"`}},
		{"the socket's volume of an injected pod", func(p *corev1.Pod) {
			out, _, err := settings().Inject(p)
			if err != nil {
				panic(err)
			}
			*p = *out
			*volume(p, socketVolume) = corev1.Volume{Name: socketVolume, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: "/"}}}
		}, ReasonVolume, []string{`volume "locksidecar-socket"`}},
		{"the socket's volume, to be written", mount(corev1.VolumeMount{Name: socketVolume, MountPath: SocketDir}), ReasonVolume, []string{`container "app"`, "remove the mount"}},
		{"the socket's volume elsewhere", mount(corev1.VolumeMount{Name: socketVolume, MountPath: "/x", ReadOnly: true}), ReasonVolume, []string{"remove the mount"}},
		{"the sidecar's secrets", mount(corev1.VolumeMount{Name: secretVolume + "0", MountPath: "/x", ReadOnly: true}), ReasonVolume, []string{"remove the mount"}},
		{"the sidecar's configuration", mount(corev1.VolumeMount{Name: configVolume, MountPath: "/x"}), ReasonVolume, []string{"remove the mount"}},
		{"something where the socket is", mount(corev1.VolumeMount{Name: "data", MountPath: "/run/locksidecar"}), ReasonMount, []string{`container "app"`, "mount it elsewhere"}},
		{"something in its directory", mount(corev1.VolumeMount{Name: "data", MountPath: "/run//locksidecar/./api.sock"}), ReasonMount, []string{"mount it elsewhere"}},
		{"by the other name", mount(corev1.VolumeMount{Name: "data", MountPath: "/var/run/locksidecar/"}), ReasonMount, []string{"mount it elsewhere"}},
		{"a device there", func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeDevices = []corev1.VolumeDevice{{Name: "disk", DevicePath: SocketPath}}
		}, ReasonMount, []string{"device"}},

		{"another endpoint", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: EndpointVariable, Value: "unix:///tmp/evil.sock"}}
		}, ReasonEnvironment, []string{`container "app"`, "LOCKSIDECAR_ENDPOINT", "leave the container out of the annotation locksidecar.dev/containers"}},
		{"an endpoint of elsewhere", func(p *corev1.Pod) {
			p.Spec.Containers[0].Env = []corev1.EnvVar{{Name: EndpointVariable, ValueFrom: &corev1.EnvVarSource{}}}
		}, ReasonEnvironment, []string{"remove it"}},
		{"the port of the metrics", func(p *corev1.Pod) { p.Spec.Containers[1].Ports = []corev1.ContainerPort{{ContainerPort: 9718}} }, ReasonPort,
			[]string{`container "log"`, "9718", "sidecar.metricsPort"}},

		{"nothing", func(p *corev1.Pod) { p.Spec = corev1.PodSpec{} }, ReasonPlatform, []string{"no containers"}},
		{"Windows", func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Windows} }, ReasonPlatform, []string{"Windows", "remove the label locksidecar.dev/inject"}},
		{"a node of Windows", func(p *corev1.Pod) { p.Spec.NodeSelector = map[string]string{"kubernetes.io/os": "windows"} }, ReasonPlatform, []string{"Windows"}},
		{"a mirror of a static pod", func(p *corev1.Pod) { p.Annotations["kubernetes.io/config.mirror"] = "x" }, ReasonPlatform, []string{"static"}},
		{"a static pod", func(p *corev1.Pod) { p.Annotations["kubernetes.io/config.source"] = "file" }, ReasonPlatform, []string{"static"}},
		{"an init container before the sidecar is to be served", func(p *corev1.Pod) {
			out, _, err := settings().Inject(p)
			if err != nil {
				panic(err)
			}
			*p = *out
			p.Annotations[Prefix+"containers"] = "migrate"
			in := p.Spec.InitContainers
			in[0], in[1] = in[1], in[0]
		}, ReasonAnnotation, []string{`"migrate" stands before the sidecar`, "put it after"}},
	}
}

// Each attack and each mistake is refused, and its author is told what was wrong,
// what is allowed and what to do.
func TestRefusals(t *testing.T) {
	seen := map[Reason]bool{}
	for _, a := range attacks() {
		t.Run(a.name, func(t *testing.T) {
			r := refused(t, settings(), with(plain(), a.change))
			if r.Reason != a.reason {
				t.Errorf("the reason is %s, want %s", r.Reason, a.reason)
			}
			for _, part := range a.says {
				if !strings.Contains(r.Message, part) {
					t.Errorf("%q does not say %q", r.Message, part)
				}
			}
			seen[r.Reason] = true
		})
	}
	for _, r := range Reasons {
		if !seen[r] {
			t.Errorf("nothing is refused for the reason %s", r)
		}
	}
}

// What looks like an attack and is none.
func TestHarmlessPodsAreNotRefused(t *testing.T) {
	for name, change := range map[string]func(p *corev1.Pod){
		"a mount above the socket": func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "run", MountPath: "/run"}}
		},
		"a mount of a similar name": func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: "run", MountPath: "/run/locksidecar-data"}}
		},
		"the socket as it is mounted": func(p *corev1.Pod) {
			p.Spec.Containers[0].VolumeMounts = []corev1.VolumeMount{{Name: socketVolume, MountPath: "/run/locksidecar/", ReadOnly: true}}
		},
		"the metrics' port by UDP": func(p *corev1.Pod) {
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 9718, Protocol: corev1.ProtocolUDP}}
		},
		"the metrics' port on the host's network": func(p *corev1.Pod) {
			p.Spec.HostNetwork = true
			p.Spec.Containers[0].Ports = []corev1.ContainerPort{{ContainerPort: 9718}}
		},
		"a container of a similar name": func(p *corev1.Pod) { p.Spec.Containers[0].Name = "locksidecar-exporter" },
		"Linux":                         func(p *corev1.Pod) { p.Spec.OS = &corev1.PodOS{Name: corev1.Linux} },
		"no annotations":                func(p *corev1.Pod) { p.Annotations = nil },
		"a root application": func(p *corev1.Pod) {
			p.Spec.Containers[0].Resources.Limits = corev1.ResourceList{"cpu": resource.MustParse("1")}
		},
	} {
		t.Run(name, func(t *testing.T) { unchanged(t, settings(), injected(t, settings(), with(plain(), change))) })
	}
}
