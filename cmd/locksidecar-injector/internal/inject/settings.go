package inject

import (
	corev1 "k8s.io/api/core/v1"
)

// Settings are what the injector's configuration says of every sidecar.
type Settings struct {
	// Version is the injector's own, for the status.
	Version string
	// Image is the sidecar's, never empty.
	Image string
	// Mirrors are further repositories of it, for what other webhooks make of the
	// image.
	Mirrors []string
	// ImagePullPolicy, LogLevel, Resources and RunAsUser hold where a pod does
	// not say.
	ImagePullPolicy corev1.PullPolicy
	LogLevel        string
	Resources       corev1.ResourceRequirements
	// RunAsUser is the group, too.
	RunAsUser int64
	// MetricsPort is where the sidecar serves metrics; 0 means nowhere.
	MetricsPort int32
	// Configuration is the daemon's file, for pods that name no ConfigMap.
	Configuration string
	// Secrets of the pod's namespace are mounted into the sidecar alone.
	Secrets []Secret
	// Env is added to the sidecar's environment. No name begins with
	// LOCKSIDECAR_.
	Env []corev1.EnvVar
}

// Secret is one, mounted at SecretsDir/Path.
type Secret struct{ Name, Path string }

// Status is what the annotation of that name says.
type Status struct {
	// State is "injected".
	State string `json:"state"`
	// Version is that of the injector.
	Version string `json:"version"`
	// Reason says what a reader may miss, and why.
	Reason string `json:"reason,omitempty"`
	// Containers are those that have the socket.
	Containers []string `json:"containers"`
}

// Injected is the State of a pod with a sidecar.
const Injected = "injected"

// Mirror says whether a pod only shows in the API one that its node runs from a file:
// what runs there no admission changes or stops.
func Mirror(pod *corev1.Pod) bool { return has(pod.Annotations, mirror) }

// Wanted says whether a pod asks for a sidecar, or means to: it has the label, and not
// with the value "false".
func Wanted(pod *corev1.Pod) bool {
	value, ok := pod.Labels[Label]
	return ok && value != "false"
}
