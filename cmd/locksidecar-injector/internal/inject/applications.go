package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// applications gives the socket to the containers that are to have it, takes it
// from those that are not any more, and returns the names of the first. Init
// containers before the sidecar end before it starts.
func (w *wishes) applications(spec *corev1.PodSpec, sidecar int) ([]string, *Refusal) {
	served := []string{}
	before, after := spec.InitContainers[:sidecar], spec.InitContainers[sidecar+1:]
	for i := range before {
		if slices.Contains(w.containers, before[i].Name) {
			return nil, refuse(ReasonAnnotation, "annotation %scontainers: the init container %q stands before the sidecar, which is not there for it yet: "+
				"put it after the init container %q, or leave it out", Prefix, before[i].Name, Container)
		}
		take(&before[i])
	}
	for _, list := range [][]corev1.Container{after, spec.Containers} {
		for i := range list {
			c := &list[i]
			if w.containers != nil && !slices.Contains(w.containers, c.Name) {
				take(c)
				continue
			}
			if r := give(c); r != nil {
				return nil, r
			}
			served = append(served, c.Name)
		}
	}
	for _, name := range w.containers {
		if !slices.Contains(served, name) {
			return nil, refuse(ReasonAnnotation, "annotation %scontainers: the pod has no container %q; want names out of %s", Prefix, name, strings.Join(names(spec), ", "))
		}
	}
	return served, nil
}

// names are those of the containers that may have the socket.
func names(spec *corev1.PodSpec) (all []string) {
	for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
		for i := range list {
			if list[i].Name != Container {
				all = append(all, list[i].Name)
			}
		}
	}
	return all
}

// give mounts the socket and says where it is.
func give(c *corev1.Container) *Refusal {
	has := false
	for i := range c.Env {
		if e := &c.Env[i]; e.Name == EndpointVariable {
			if e.Value != Endpoint || e.ValueFrom != nil {
				return refuse(ReasonEnvironment, "container %q: its environment has %s already, and not as %s: remove it, or leave the container out of the annotation %scontainers",
					c.Name, EndpointVariable, Endpoint, Prefix)
			}
			has = true
		}
	}
	if !has {
		c.Env = append(c.Env, corev1.EnvVar{Name: EndpointVariable, Value: Endpoint})
	}
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return isSocketMount(&m) }) {
		c.VolumeMounts = append(c.VolumeMounts, corev1.VolumeMount{Name: socketVolume, MountPath: SocketDir, ReadOnly: true})
	}
	return nil
}

// take undoes what give did, in a pod that was injected by other wishes.
func take(c *corev1.Container) {
	if !slices.ContainsFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return isSocketMount(&m) }) {
		return
	}
	c.VolumeMounts = slices.DeleteFunc(c.VolumeMounts, func(m corev1.VolumeMount) bool { return isSocketMount(&m) })
	c.Env = slices.DeleteFunc(c.Env, func(e corev1.EnvVar) bool { return e.Name == EndpointVariable && e.Value == Endpoint })
}
