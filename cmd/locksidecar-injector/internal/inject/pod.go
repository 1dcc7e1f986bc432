package inject

import (
	"encoding/json"
	"slices"

	corev1 "k8s.io/api/core/v1"
)

// Inject returns a copy of the pod with the sidecar in it, and what its status
// annotation says. The error is a *Refusal. A pod that does not want a sidecar
// is not asked for here.
func (s *Settings) Inject(pod *corev1.Pod) (*corev1.Pod, *Status, error) {
	p, status, refusal := s.inject(pod)
	if refusal != nil {
		return nil, nil, refusal
	}
	return p, status, nil
}

func (s *Settings) inject(pod *corev1.Pod) (*corev1.Pod, *Status, *Refusal) {
	if value := pod.Labels[Label]; value != "true" {
		return nil, nil, refuse(ReasonLabel, "label %s: %q is neither \"true\", which asks for a sidecar, nor \"false\", which asks for none: want one of the two, or no such label", Label, value)
	}
	if r := platform(pod); r != nil {
		return nil, nil, r
	}
	at, r := find(&pod.Spec)
	if r != nil {
		return nil, nil, r
	}
	injected := at >= 0
	wish, r := s.read(pod.Annotations, injected)
	if r != nil {
		return nil, nil, r
	}
	for _, check := range []func() *Refusal{
		func() *Refusal { return checkVolumes(&pod.Spec, injected) },
		func() *Refusal { return checkMounts(&pod.Spec) },
	} {
		if r := check(); r != nil {
			return nil, nil, r
		}
	}
	metrics, reason, r := s.metrics(pod)
	if r != nil {
		return nil, nil, r
	}
	sidecar := s.sidecar(wish, metrics)
	p := pod.DeepCopy()
	if injected {
		if sidecar, r = s.again(&pod.Spec.InitContainers[at], sidecar); r != nil {
			return nil, nil, r
		}
		p.Spec.InitContainers[at] = sidecar
	} else {
		at = 0
		p.Spec.InitContainers = slices.Insert(p.Spec.InitContainers, 0, sidecar)
	}
	served, r := wish.applications(&p.Spec, at)
	if r != nil {
		return nil, nil, r
	}
	p.Spec.Volumes = withVolumes(p.Spec.Volumes, s.volumes(wish))
	status := &Status{State: Injected, Version: s.Version, Reason: reason, Containers: served}
	s.annotate(p, wish, status)
	return p, status, nil
}

// annotate writes what was done, and the configuration where no ConfigMap has it.
func (s *Settings) annotate(p *corev1.Pod, w *wishes, status *Status) {
	raw, err := json.Marshal(status)
	if err != nil {
		panic(err) // it has texts alone
	}
	if p.Annotations == nil {
		p.Annotations = map[string]string{}
	}
	p.Annotations[StatusAnnotation] = string(raw)
	if w.configMap == "" {
		p.Annotations[ConfigurationAnnotation] = s.Configuration
	} else {
		delete(p.Annotations, ConfigurationAnnotation)
	}
}

// platform refuses pods in which no sidecar can run.
func platform(pod *corev1.Pod) *Refusal {
	const windows = "windows"
	switch {
	case len(pod.Spec.Containers) == 0:
		return refuse(ReasonPlatform, "the pod has no containers: give it some, or remove the label %s", Label)
	case pod.Spec.OS != nil && pod.Spec.OS.Name == windows, pod.Spec.NodeSelector[systemLabel] == windows:
		return refuse(ReasonPlatform, "the pod is for Windows, and the sidecar runs on Linux alone: remove the label %s", Label)
	case Mirror(pod), has(pod.Annotations, source) && pod.Annotations[source] != "api":
		return refuse(ReasonPlatform, "the pod is a static one, of a file of its node, which no admission can change: remove the label %s there", Label)
	}
	return nil
}

func has(annotations map[string]string, key string) bool {
	_, ok := annotations[key]
	return ok
}
