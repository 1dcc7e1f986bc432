package inject

import (
	"fmt"
	"iter"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// readable is the mode of files that the sidecar reads, under whichever uid.
const readable = int32(0o444)

// reserved says whether the name of a volume is the injector's.
func reserved(name string) bool {
	return name == socketVolume || name == configVolume || strings.HasPrefix(name, secretVolume)
}

// volumes are those of the sidecar. The socket's is reached only by containers
// that mount it, which is why the socket may have the mode 0666.
func (s *Settings) volumes(w *wishes) []corev1.Volume {
	size, mode := resource.NewQuantity(SocketBytes, resource.BinarySI), readable
	config := corev1.VolumeSource{DownwardAPI: &corev1.DownwardAPIVolumeSource{
		DefaultMode: &mode,
		Items: []corev1.DownwardAPIVolumeFile{{
			Path: ConfigKey, FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: configurationField},
		}},
	}}
	if w.configMap != "" {
		config = corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
			LocalObjectReference: corev1.LocalObjectReference{Name: w.configMap}, DefaultMode: &mode,
			Items: []corev1.KeyToPath{{Key: ConfigKey, Path: ConfigKey}},
		}}
	}
	all := []corev1.Volume{
		{Name: socketVolume, VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{Medium: corev1.StorageMediumMemory, SizeLimit: size}}},
		{Name: configVolume, VolumeSource: config},
	}
	for i, secret := range s.Secrets {
		all = append(all, corev1.Volume{Name: fmt.Sprint(secretVolume, i), VolumeSource: corev1.VolumeSource{
			Secret: &corev1.SecretVolumeSource{SecretName: secret.Name, DefaultMode: &mode},
		}})
	}
	return all
}

const configurationField = "metadata.annotations['" + ConfigurationAnnotation + "']"

// withVolumes are the pod's volumes with the sidecar's: in their old places, or
// at the end.
func withVolumes(old, ours []corev1.Volume) (all []corev1.Volume) {
	left := slices.Clone(ours)
	for _, v := range old {
		if !reserved(v.Name) {
			all = append(all, v)
		} else if i := slices.IndexFunc(left, func(o corev1.Volume) bool { return o.Name == v.Name }); i >= 0 {
			all = append(all, left[i])
			left = slices.Delete(left, i, i+1)
		}
	}
	return append(all, left...)
}

// checkVolumes refuses volumes of the injector's names that it did not make.
func checkVolumes(spec *corev1.PodSpec, injected bool) *Refusal {
	for _, v := range spec.Volumes {
		if !reserved(v.Name) || injected && ours(&v) {
			continue
		}
		return refuse(ReasonVolume, "volume %q: the name is the injector's, and this is not what it makes: rename the volume, or remove it if it was once injected", v.Name)
	}
	return nil
}

func ours(v *corev1.Volume) bool {
	switch v.Name {
	case socketVolume:
		return v.EmptyDir != nil && v.EmptyDir.Medium == corev1.StorageMediumMemory
	case configVolume:
		d := v.DownwardAPI
		return v.ConfigMap != nil || d != nil && len(d.Items) == 1 && d.Items[0].FieldRef != nil && d.Items[0].FieldRef.FieldPath == configurationField
	}
	return v.Secret != nil
}

// checkMounts refuses what other containers mount of the sidecar's volumes, or
// where its socket is.
func checkMounts(spec *corev1.PodSpec) *Refusal {
	for c := range containers(spec) {
		if c.Name == Container {
			continue
		}
		for _, m := range c.VolumeMounts {
			switch {
			case isSocketMount(&m):
			case reserved(m.Name):
				return refuse(ReasonVolume, "container %q: it mounts the volume %q at %s, which is the injector's: remove the mount; the injector mounts %s read-only at %s",
					c.Name, m.Name, m.MountPath, socketVolume, SocketDir)
			case atSocket(m.MountPath):
				return refuse(ReasonMount, "container %q: the volume %q is mounted at %s, where the sidecar's socket is: mount it elsewhere than in %s",
					c.Name, m.Name, m.MountPath, SocketDir)
			}
		}
		for _, d := range c.VolumeDevices {
			if reserved(d.Name) || atSocket(d.DevicePath) {
				return refuse(ReasonMount, "container %q: the device %q is at %s: give it another name and place than the sidecar's volumes have", c.Name, d.Name, d.DevicePath)
			}
		}
	}
	return nil
}

// isSocketMount says whether a mount is the one that applications get.
func isSocketMount(m *corev1.VolumeMount) bool {
	return m.Name == socketVolume && path.Clean(m.MountPath) == SocketDir && m.ReadOnly && m.SubPath == "" && m.SubPathExpr == "" &&
		(m.MountPropagation == nil || *m.MountPropagation == corev1.MountPropagationNone)
}

// atSocket says whether a path is in the socket's directory, by either of its
// names.
func atSocket(p string) bool {
	p = path.Clean("/" + p)
	return within(p, SocketDir) || within(p, "/var"+SocketDir)
}

// overlaps says whether a path hides what the sidecar needs, or is in it.
func overlaps(p string) bool {
	p = path.Clean("/" + p)
	for _, own := range []string{SocketDir, "/var" + SocketDir, ConfigDir, SecretsDir, Binary} {
		if within(p, own) || within(own, p) {
			return true
		}
	}
	return false
}

// within says whether a path is a directory, or in it.
func within(p, dir string) bool { return p == dir || dir == "/" || strings.HasPrefix(p, dir+"/") }

// containers are all of a pod, the ephemeral ones by what they have in common
// with the others.
func containers(spec *corev1.PodSpec) iter.Seq[*corev1.Container] {
	return func(yield func(*corev1.Container) bool) {
		for _, list := range [][]corev1.Container{spec.InitContainers, spec.Containers} {
			for i := range list {
				if !yield(&list[i]) {
					return
				}
			}
		}
		for i := range spec.EphemeralContainers {
			c := corev1.Container(spec.EphemeralContainers[i].EphemeralContainerCommon)
			if !yield(&c) {
				return
			}
		}
	}
}
