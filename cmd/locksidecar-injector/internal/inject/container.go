package inject

import (
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// The startup probe asks whether the daemon answers, not whether its store does:
// a sidecar that is restarted during an outage of the store would be killed
// again and again. It gates the containers after it, so that their first connect
// succeeds.
const (
	probePeriod   = 1
	probeTimeout  = 5
	probeFailures = 300
)

// sidecar is the container as the settings and the pod's wishes want it.
func (s *Settings) sidecar(w *wishes, metrics bool) corev1.Container {
	always, nonRoot, no, yes := corev1.ContainerRestartPolicyAlways, true, false, true
	c := corev1.Container{
		Name: Container, Image: s.Image, ImagePullPolicy: w.pull, RestartPolicy: &always,
		Args: []string{
			"serve", "--config", ConfigDir + "/" + ConfigKey, "--socket", SocketPath, "--socket-mode", "0666", "--log-level", w.level,
		},
		Env:       slices.Clone(s.Env),
		Resources: corev1.ResourceRequirements{Requests: notEmpty(w.requests), Limits: notEmpty(w.limit)},
		StartupProbe: &corev1.Probe{
			ProbeHandler: corev1.ProbeHandler{Exec: &corev1.ExecAction{
				Command: []string{Binary, "health", "--live", "--endpoint", Endpoint},
			}},
			PeriodSeconds: probePeriod, TimeoutSeconds: probeTimeout, FailureThreshold: probeFailures, SuccessThreshold: 1,
		},
		SecurityContext: &corev1.SecurityContext{
			// The group is named as the user is: the image has no /etc/passwd, and without a
			// group it would be the pod's own or 0.
			RunAsNonRoot: &nonRoot, RunAsUser: &w.user, RunAsGroup: &w.user, ReadOnlyRootFilesystem: &yes, AllowPrivilegeEscalation: &no,
			Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
			SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		},
		VolumeMounts: []corev1.VolumeMount{
			{Name: socketVolume, MountPath: SocketDir},
			{Name: configVolume, MountPath: ConfigDir, ReadOnly: true},
		},
	}
	for i, secret := range s.Secrets {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{
			Name: fmt.Sprint(secretVolume, i), MountPath: SecretsDir + "/" + secret.Path, ReadOnly: true,
		})
	}
	if metrics {
		c.Args = append(c.Args, "--metrics", fmt.Sprintf(":%d", s.MetricsPort))
		c.Ports = []corev1.ContainerPort{{Name: MetricsPortName, ContainerPort: s.MetricsPort, Protocol: corev1.ProtocolTCP}}
	}
	return c
}

func notEmpty(l corev1.ResourceList) corev1.ResourceList {
	if len(l) == 0 {
		return nil
	}
	return l
}

// metrics says whether the sidecar serves metrics in this pod. On the network of
// the host it would take the port from other pods.
func (s *Settings) metrics(pod *corev1.Pod) (serve bool, why string, r *Refusal) {
	switch {
	case s.MetricsPort == 0:
		return false, "", nil
	case pod.Spec.HostNetwork:
		return false, "no metrics: the pod is on the host's network", nil
	}
	for c := range containers(&pod.Spec) {
		if c.Name == Container {
			continue
		}
		for _, p := range c.Ports {
			if p.ContainerPort == s.MetricsPort && (p.Protocol == "" || p.Protocol == corev1.ProtocolTCP) {
				return false, "", refuse(ReasonPort, "container %q: its port %d is the one of the sidecar's metrics: "+
					"give the application another port, or change sidecar.metricsPort in the injector's configuration", c.Name, p.ContainerPort)
			}
		}
	}
	return true, "", nil
}
