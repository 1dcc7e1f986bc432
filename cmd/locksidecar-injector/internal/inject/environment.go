package inject

import (
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
)

// steering are variables that would lead the sidecar to another store, through
// somebody's proxy or past its authorities; names in upper case. One that ends with *
// stands for all that begin so.
var steering = []string{
	"HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY", "NO_PROXY", "SSL_CERT_FILE", "SSL_CERT_DIR", "AWS_ENDPOINT_URL*", "AWS_CA_BUNDLE",
	"GODEBUG", "GRPC_*", "OTEL_*",
}

// steers says whether a variable is the configuration's alone to set. Of the proxies
// each spelling counts.
func steers(name string) bool {
	name = strings.ToUpper(name)
	return slices.ContainsFunc(steering, func(s string) bool {
		prefix, all := strings.CutSuffix(s, "*")
		return name == s || all && strings.HasPrefix(name, prefix)
	})
}

// otherEnvironment says in what a sidecar's environment is not the injector's; ours
// is what the configuration gives, which is set anew whatever the value was.
func otherEnvironment(env, ours []corev1.EnvVar) string {
	for _, e := range env {
		switch {
		case strings.HasPrefix(e.Name, variablePrefix):
			return "its environment has " + e.Name
		case steers(e.Name) && !slices.ContainsFunc(ours, func(o corev1.EnvVar) bool { return o.Name == e.Name }):
			return "its environment has " + e.Name + ", which only env of the injector's configuration may set"
		}
	}
	return ""
}
