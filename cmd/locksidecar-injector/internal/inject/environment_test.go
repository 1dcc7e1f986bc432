package inject

import (
	"slices"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// A pod whose sidecar got a variable from elsewhere: what chooses its store, its way
// there or whom it trusts is refused, what gives it an identity stays.
func TestVariablesOfOthers(t *testing.T) {
	for name, refuse := range map[string]bool{
		"HTTP_PROXY": true, "https_proxy": true, "All_Proxy": true, "no_proxy": true, "SSL_CERT_FILE": true, "SSL_CERT_DIR": true,
		"AWS_ENDPOINT_URL": true, "AWS_ENDPOINT_URL_DYNAMODB": true, "AWS_CA_BUNDLE": true, "GODEBUG": true,
		"GRPC_GO_LOG_SEVERITY_LEVEL": true, "OTEL_EXPORTER_OTLP_ENDPOINT": true, "LOCKSIDECAR_BACKEND": true,

		"AWS_ROLE_ARN": false, "AWS_WEB_IDENTITY_TOKEN_FILE": false, "AWS_STS_REGIONAL_ENDPOINTS": false, "AWS_DEFAULT_REGION": false,
		"AWS_CONTAINER_CREDENTIALS_FULL_URI": false, "AWS_CONTAINER_AUTHORIZATION_TOKEN_FILE": false, "TZ": false, "PROXY": false,
	} {
		t.Run(name, func(t *testing.T) {
			added := corev1.EnvVar{Name: name, Value: "of elsewhere"}
			p := injected(t, settings(), plain())
			c := sidecarOf(t, p)
			c.Env = append(c.Env, added)
			if refuse {
				if r := refused(t, settings(), p); r.Reason != ReasonContainer {
					t.Errorf("the reason is %s: %s", r.Reason, r.Message)
				}
				return
			}
			unchanged(t, settings(), p)
		})
	}
}

// What the configuration sets is no pod's to set otherwise, in another spelling
// neither.
func TestAConfiguredVariableIsSetAnew(t *testing.T) {
	s := settings()
	want := corev1.EnvVar{Name: "HTTPS_PROXY", Value: "http://proxy.example:3128"}
	s.Env = []corev1.EnvVar{want}
	p := injected(t, s, plain())
	unchanged(t, s, p)
	c := sidecarOf(t, p)
	c.Env = []corev1.EnvVar{{Name: want.Name, Value: "http://evil.example"}, {Name: want.Name, ValueFrom: &corev1.EnvVarSource{}}}
	if got := sidecarOf(t, injected(t, s, p)).Env; !slices.Equal(got, []corev1.EnvVar{want}) {
		t.Errorf("the environment is %v", got)
	}
	c.Env = []corev1.EnvVar{want, {Name: "https_proxy", Value: "http://evil.example"}}
	if r := refused(t, s, p); r.Reason != ReasonContainer {
		t.Errorf("another spelling: the reason is %s", r.Reason)
	}
}
