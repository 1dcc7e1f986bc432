package inject

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/util/validation"
)

// Annotation is one that a pod may have.
type Annotation struct {
	// Name is without the prefix.
	Name string
	// Doc says what it sets, Allowed which values.
	Doc, Allowed string
	set          func(w *wishes, value string) error
}

// wishes are a pod's, over the settings.
type wishes struct {
	configMap       string
	containers      []string // nil: all
	pull            corev1.PullPolicy
	requests, limit corev1.ResourceList
	user            int64
	level           string
}

// Annotations are all that a pod may set.
var Annotations = []Annotation{
	{"config", "the configuration of the sidecar, instead of the injector's: a ConfigMap of the pod's namespace, with the key `" + ConfigKey + "`", "the name of a ConfigMap", setConfig},
	{"containers", "which containers get the socket, instead of all", "names of the pod's containers and init containers, separated by commas", setContainers},
	{"image-pull-policy", "when the sidecar's image is pulled", "Always, IfNotPresent or Never", func(w *wishes, v string) error {
		w.pull = corev1.PullPolicy(v)
		return oneOf(v, string(corev1.PullAlways), string(corev1.PullIfNotPresent), string(corev1.PullNever))
	}},
	{"cpu-request", "the sidecar's request", quantities, quantity(func(w *wishes) corev1.ResourceList { return w.requests }, corev1.ResourceCPU)},
	{"cpu-limit", "its limit", quantities, quantity(func(w *wishes) corev1.ResourceList { return w.limit }, corev1.ResourceCPU)},
	{"memory-request", "its request", quantities, quantity(func(w *wishes) corev1.ResourceList { return w.requests }, corev1.ResourceMemory)},
	{"memory-limit", "its limit", quantities, quantity(func(w *wishes) corev1.ResourceList { return w.limit }, corev1.ResourceMemory)},
	{"run-as-user", "the sidecar's uid, and its gid", "a number from 1 to 2147483647: never root", setUser},
	{"log-level", "how much the sidecar logs", "debug, info, warn or error", func(w *wishes, v string) error {
		w.level = v
		return oneOf(v, levels...)
	}},
}

const quantities = "a quantity above 0, such as 250m or 64Mi"

var levels = []string{"debug", "info", "warn", "error"}

func oneOf(v string, allowed ...string) error {
	if !slices.Contains(allowed, v) {
		return fmt.Errorf("%q is none of them", v)
	}
	return nil
}

func setConfig(w *wishes, v string) error {
	w.configMap = v
	if problems := validation.IsDNS1123Subdomain(v); len(problems) > 0 {
		return fmt.Errorf("%q is no such name: %s", v, problems[0])
	}
	return nil
}

func setContainers(w *wishes, v string) error {
	for name := range strings.SplitSeq(v, ",") {
		switch name = strings.TrimSpace(name); {
		case name == "":
			return fmt.Errorf("%q has an empty name", v)
		case name == Container:
			return fmt.Errorf("%q is the sidecar itself", name)
		case slices.Contains(w.containers, name):
			return fmt.Errorf("%q stands there twice", name)
		}
		w.containers = append(w.containers, name)
	}
	return nil
}

func setUser(w *wishes, v string) (err error) {
	w.user, err = strconv.ParseInt(v, 10, 32)
	if err != nil || w.user < 1 {
		return fmt.Errorf("%q is not", v)
	}
	return nil
}

// quantity sets one of a list of resources.
func quantity(of func(*wishes) corev1.ResourceList, name corev1.ResourceName) func(*wishes, string) error {
	return func(w *wishes, v string) error {
		q, err := resource.ParseQuantity(v)
		if err != nil || q.Sign() <= 0 {
			return fmt.Errorf("%q is not", v)
		}
		of(w)[name] = q
		return nil
	}
}

// forbidden are those that somebody may try for what a pod does not decide.
var forbidden = []string{"image", "args", "command", "env", "security-context", "privileged", "capabilities", "volumes", "volume-mounts", "secrets", "metrics-port"}

// read reads the annotations of a pod. known says that the sidecar is in it
// already, with what the injector wrote.
func (s *Settings) read(annotations map[string]string, known bool) (*wishes, *Refusal) {
	w := &wishes{
		pull: s.ImagePullPolicy, requests: maps.Clone(s.Resources.Requests), limit: maps.Clone(s.Resources.Limits),
		user: s.RunAsUser, level: s.LogLevel,
	}
	if w.requests == nil {
		w.requests = corev1.ResourceList{}
	}
	if w.limit == nil {
		w.limit = corev1.ResourceList{}
	}
	for _, key := range slices.Sorted(maps.Keys(annotations)) {
		name, ours := strings.CutPrefix(key, Prefix)
		if !ours {
			continue
		}
		i := slices.IndexFunc(Annotations, func(a Annotation) bool { return a.Name == name })
		switch {
		case i >= 0:
			if err := Annotations[i].set(w, annotations[key]); err != nil {
				return nil, refuse(ReasonAnnotation, "annotation %s: %v; want %s", key, err, Annotations[i].Allowed)
			}
		case key == StatusAnnotation, key == ConfigurationAnnotation:
			if !known {
				return nil, refuse(ReasonAnnotation, "annotation %s: it is written by the injector, and the pod has no container of it: remove the annotation; "+
					"to give the sidecar another configuration, name a ConfigMap by %sconfig", key, Prefix)
			}
		case key == Label:
			return nil, refuse(ReasonAnnotation, "annotation %s: it is a label, not an annotation: remove the annotation", key)
		case slices.Contains(forbidden, name):
			return nil, refuse(ReasonAnnotation, "annotation %s: a pod does not decide that, the injector's configuration does: remove it; a pod may set %s", key, listed())
		default:
			return nil, refuse(ReasonAnnotation, "annotation %s: it is unknown: remove it, or correct its name; a pod may set %s", key, listed())
		}
	}
	return w, w.consistent()
}

// consistent says whether no request is above its limit.
func (w *wishes) consistent() *Refusal {
	for _, name := range []corev1.ResourceName{corev1.ResourceCPU, corev1.ResourceMemory} {
		request, has := w.requests[name]
		limit, bounded := w.limit[name]
		if has && bounded && request.Cmp(limit) > 0 {
			return refuse(ReasonAnnotation, "the sidecar's %s request is %s and its limit %s, with what the injector's configuration says where the pod does not: "+
				"set the annotations %s%s-request and %s%s-limit so that the request is not above the limit", name, request.String(), limit.String(), Prefix, name, Prefix, name)
		}
	}
	return nil
}

func listed() string {
	names := make([]string, len(Annotations))
	for i, a := range Annotations {
		names[i] = Prefix + a.Name
	}
	return strings.Join(names, ", ")
}
