package inject

import "fmt"

// Reason is why a pod is refused, for metrics and events.
type Reason string

// The reasons.
const (
	// ReasonAnnotation: an annotation is unknown, is not a pod's to set, or has a
	// value that is not allowed.
	ReasonAnnotation Reason = "annotation"
	// ReasonContainer: a container has the sidecar's name and is not it.
	ReasonContainer Reason = "container"
	// ReasonVolume: a volume has a name of the injector's and is not it, or
	// somebody else mounts one of them.
	ReasonVolume Reason = "volume"
	// ReasonMount: something else is mounted where the socket is.
	ReasonMount Reason = "mount"
	// ReasonEnvironment: a container has another endpoint already.
	ReasonEnvironment Reason = "environment"
	// ReasonPort: a container listens where the sidecar serves its metrics.
	ReasonPort Reason = "port"
	// ReasonPlatform: the pod or the cluster cannot have a sidecar.
	ReasonPlatform Reason = "platform"
)

// Reasons are all, for documents and metrics.
var Reasons = []Reason{ReasonAnnotation, ReasonContainer, ReasonVolume, ReasonMount, ReasonEnvironment, ReasonPort, ReasonPlatform}

// Refusal is a pod that does not get a sidecar, and must not run without one.
type Refusal struct {
	Reason Reason
	// Message says what is wrong, what is allowed and what to do.
	Message string
}

// Error is the message.
func (r *Refusal) Error() string { return r.Message }

func refuse(reason Reason, format string, args ...any) *Refusal {
	return &Refusal{reason, fmt.Sprintf(format, args...)}
}
