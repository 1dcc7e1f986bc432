package webhook

import (
	"fmt"
	"strconv"
	"strings"

	"k8s.io/apimachinery/pkg/version"
)

// The oldest version of Kubernetes that runs sidecars by default.
const (
	oldestMajor = 1
	oldestMinor = 29
)

// Supports says why pods of a server of this version cannot have a sidecar; nil if
// they can.
func Supports(v *version.Info) error {
	major, err := strconv.Atoi(v.Major)
	if err != nil {
		return fmt.Errorf("the cluster says that its version is %q.%q, which is none", v.Major, v.Minor)
	}
	// Some clusters have a + after the number.
	digits := strings.TrimRightFunc(v.Minor, func(r rune) bool { return r < '0' || r > '9' })
	minor, err := strconv.Atoi(digits)
	if err != nil {
		return fmt.Errorf("the cluster says that its version is %q.%q, which is none", v.Major, v.Minor)
	}
	if major > oldestMajor || major == oldestMajor && minor >= oldestMinor {
		return nil
	}
	return fmt.Errorf("this cluster is Kubernetes %s, which has no sidecar containers (init containers with restartPolicy: Always): "+
		"it would take the sidecar for an init container that never ends. Update the cluster to %d.%d or later, or remove the label locksidecar.dev/inject from the pod",
		v.GitVersion, oldestMajor, oldestMinor)
}
