package inject

import "fmt"

// Reason is why a pod is refused, for metrics and events.
type Reason string

// The reasons.
const (
	ReasonLabel       Reason = "label"
	ReasonAnnotation  Reason = "annotation"
	ReasonContainer   Reason = "container"
	ReasonVolume      Reason = "volume"
	ReasonMount       Reason = "mount"
	ReasonEnvironment Reason = "environment"
	ReasonPort        Reason = "port"
	ReasonPlatform    Reason = "platform"
)

// Reasons are all, for documents and metrics.
var Reasons = []Reason{ReasonLabel, ReasonAnnotation, ReasonContainer, ReasonVolume, ReasonMount, ReasonEnvironment, ReasonPort, ReasonPlatform}

// Meaning says which pods are refused for the reason.
func (r Reason) Meaning() string {
	return map[Reason]string{
		ReasonLabel:       "the label `locksidecar.dev/inject` is neither `\"true\"` nor `\"false\"`",
		ReasonAnnotation:  "an annotation under `locksidecar.dev/` is unknown, is not a pod's to set, has a value that is not allowed, or names a container that is not there",
		ReasonContainer:   "a container, init container or ephemeral one is called `locksidecar`, and is not what the injector makes: another image, arguments, variables, ports, security context",
		ReasonVolume:      "a volume is called `locksidecar-socket`, `locksidecar-config` or `locksidecar-secret-…` and is not what the injector makes, or another container than the sidecar mounts one otherwise than the injector does",
		ReasonMount:       "something else is mounted at or in `/run/locksidecar`, by whichever of its names",
		ReasonEnvironment: "a container that is to have the socket sets `LOCKSIDECAR_ENDPOINT` to another one",
		ReasonPort:        "a container has the port of the sidecar's metrics",
		ReasonPlatform:    "the pod is for Windows, has no containers, or is a static one, of which more below; or the cluster is older than Kubernetes 1.29",
	}[r]
}

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
