package inject

import (
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// find returns where the sidecar stands among the init containers, -1 if the pod
// has none. A container of its name elsewhere is refused.
func find(spec *corev1.PodSpec) (int, *Refusal) {
	for _, c := range spec.Containers {
		if c.Name == Container {
			return 0, impostor("it is no init container")
		}
	}
	for _, c := range spec.EphemeralContainers {
		if c.Name == Container {
			return 0, impostor("it is an ephemeral container")
		}
	}
	return slices.IndexFunc(spec.InitContainers, func(c corev1.Container) bool { return c.Name == Container }), nil
}

func impostor(why string) *Refusal {
	return refuse(ReasonContainer, "container %q: the name is the sidecar's, which the injector adds, and this is not what it makes: %s; "+
		"rename the container, or remove it if it was once injected", Container, why)
}

// again makes the sidecar anew of one that was injected before: what the settings
// decide is set, and what others added to it stays. Whatever else differs from
// what the injector makes is refused.
func (s *Settings) again(was *corev1.Container, want corev1.Container) (corev1.Container, *Refusal) {
	if why := s.notOurs(was, &want); why != "" {
		return want, impostor(why)
	}
	c := *was.DeepCopy()
	c.Args, c.Ports, c.StartupProbe = want.Args, want.Ports, want.StartupProbe
	if !s.rewritten(was.Image) {
		c.Image = want.Image
	}
	// A cluster may insist on Always (AlwaysPullImages), and refuses a pod that goes
	// back from it.
	if was.ImagePullPolicy != corev1.PullAlways {
		c.ImagePullPolicy = want.ImagePullPolicy
	}
	c.Resources.Requests = over(want.Resources.Requests, c.Resources.Requests)
	c.Resources.Limits = over(want.Resources.Limits, c.Resources.Limits)
	c.SecurityContext.RunAsUser, c.SecurityContext.RunAsGroup = want.SecurityContext.RunAsUser, want.SecurityContext.RunAsGroup
	c.Env = slices.Clone(want.Env)
	for _, e := range was.Env {
		if !slices.ContainsFunc(want.Env, func(w corev1.EnvVar) bool { return w.Name == e.Name }) {
			c.Env = append(c.Env, e)
		}
	}
	c.VolumeMounts = slices.Clone(want.VolumeMounts)
	for _, m := range was.VolumeMounts {
		if !reserved(m.Name) {
			c.VolumeMounts = append(c.VolumeMounts, m)
		}
	}
	return c, nil
}

// over are ours, and theirs where we have none: such as those of a LimitRange.
func over(ours, theirs corev1.ResourceList) corev1.ResourceList {
	all := maps.Clone(theirs)
	if all == nil {
		return ours
	}
	maps.Copy(all, ours)
	return all
}

// notOurs says in what a container is not what the injector makes; it may come of
// other values of the configuration.
func (s *Settings) notOurs(c, want *corev1.Container) string {
	switch {
	case c.RestartPolicy == nil || *c.RestartPolicy != corev1.ContainerRestartPolicyAlways:
		return "its restartPolicy is not Always"
	case !s.fromOurs(c.Image):
		return "its image is not " + Repository(s.Image) + ", nor one of sidecar.mirrors in the injector's configuration"
	case len(c.Command) > 0:
		return "it has a command"
	case !ourArgs(c.Args):
		return "its args are others"
	case c.Lifecycle != nil, c.LivenessProbe != nil, c.ReadinessProbe != nil:
		return "it has probes or hooks"
	case len(c.Resources.Claims) > 0:
		return "it claims devices"
	case c.TerminationMessagePath != "" && overlaps(c.TerminationMessagePath):
		return "its terminationMessagePath hides what it needs"
	case c.Stdin, c.TTY, c.WorkingDir != "", len(c.VolumeDevices) > 0, len(c.EnvFrom) > 0, len(c.RestartPolicyRules) > 0:
		return "it has a terminal, a working directory, devices, an environment of elsewhere, or rules of restart"
	}
	for _, p := range c.Ports {
		if p.Name != MetricsPortName || p.HostPort != 0 {
			return "it has other ports"
		}
	}
	if why := otherEnvironment(c.Env, want.Env); why != "" {
		return why
	}
	for _, m := range c.VolumeMounts {
		if !reserved(m.Name) && overlaps(m.MountPath) {
			return "something else is mounted at " + m.MountPath
		}
	}
	return otherSecurity(c.SecurityContext, want.SecurityContext)
}

// otherSecurity says in what the security context differs. The uid and the
// gid may come of another wish; what keeps a process in further may have been added.
func otherSecurity(c, want *corev1.SecurityContext) string {
	const other = "its securityContext is another"
	if c == nil {
		return other
	}
	same := func(a, b *bool) bool { return a != nil && *a == *b }
	switch {
	case !same(c.RunAsNonRoot, want.RunAsNonRoot), !same(c.ReadOnlyRootFilesystem, want.ReadOnlyRootFilesystem),
		!same(c.AllowPrivilegeEscalation, want.AllowPrivilegeEscalation),
		c.RunAsUser == nil || *c.RunAsUser == 0, c.RunAsGroup != nil && *c.RunAsGroup == 0,
		c.AppArmorProfile != nil && c.AppArmorProfile.Type == corev1.AppArmorProfileTypeUnconfined,
		c.SELinuxOptions != nil && *c.SELinuxOptions != corev1.SELinuxOptions{Level: c.SELinuxOptions.Level},
		c.Privileged != nil && *c.Privileged, c.ProcMount != nil && *c.ProcMount != corev1.DefaultProcMount, c.WindowsOptions != nil,
		c.Capabilities == nil || len(c.Capabilities.Add) > 0 || !slices.Equal(c.Capabilities.Drop, want.Capabilities.Drop),
		c.SeccompProfile == nil || c.SeccompProfile.Type != want.SeccompProfile.Type:
		return other
	}
	return ""
}

// ourArgs says whether arguments are the injector's, whatever the values that
// the configuration or an annotation decides.
func ourArgs(args []string) bool {
	if len(args) == 0 || args[0] != "serve" || len(args)%2 == 0 {
		return false
	}
	fixed := map[string]string{"--config": ConfigDir + "/" + ConfigKey, "--socket": SocketPath, "--socket-mode": "0666"}
	for i := 1; i < len(args); i += 2 {
		value, must := fixed[args[i]]
		switch {
		case must && args[i+1] != value:
			return false
		case must:
			delete(fixed, args[i])
		case args[i] == "--log-level" && slices.Contains(levels, args[i+1]):
		case args[i] == "--metrics" && strings.HasPrefix(args[i+1], ":"):
		default:
			return false
		}
	}
	return len(fixed) == 0
}
