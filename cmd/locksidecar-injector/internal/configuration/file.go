package configuration

import (
	"errors"
	"fmt"
	"os"
	"time"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/yaml"
)

// File is the configuration as it is written. What doc says is its reference.
type File struct {
	Sidecar       SidecarSection      `json:"sidecar"`
	Configuration string              `json:"configuration" doc:"the daemon's own [configuration](configuration.md), which every sidecar gets whose pod names no other"`
	Secrets       []SecretSection     `json:"secrets"`
	Env           []EnvSection        `json:"env"`
	Certificates  CertificatesSection `json:"certificates"`
}

// SidecarSection is about the container.
type SidecarSection struct {
	Image           string                      `json:"image" doc:"the sidecar's image; required"`
	Mirrors         []string                    `json:"mirrors" doc:"further repositories of the image, each without a tag, such as mirror.example/registry.example/locksidecar: where another webhook rewrites images, what it makes of the sidecar's stays"`
	ImagePullPolicy corev1.PullPolicy           `json:"imagePullPolicy" doc:"Always, IfNotPresent (default) or Never"`
	Resources       corev1.ResourceRequirements `json:"resources" doc:"its requests and limits of cpu and memory"`
	RunAsUser       *int64                      `json:"runAsUser" doc:"its uid, and its gid, 65532 by default; never 0"`
	LogLevel        string                      `json:"logLevel" doc:"debug, info (default), warn or error"`
	MetricsPort     *int32                      `json:"metricsPort" doc:"the port of its /metrics, /healthz and /readyz, 9718 by default; 0: none"`
}

// SecretSection is a Secret of the pod's namespace.
type SecretSection struct {
	Name string `json:"name" doc:"a Secret of the pod's own namespace, which the sidecar alone mounts"`
	Path string `json:"path" doc:"the directory of its files in /etc/locksidecar/secrets"`
}

// EnvSection is one variable.
type EnvSection struct {
	Name  string `json:"name" doc:"a variable of the sidecar's environment, such as AWS_REGION; none that begins with LOCKSIDECAR_"`
	Value string `json:"value" doc:"its value; no secret, since whoever reads the pod reads it"`
}

// CertificatesSection is about the webhook's certificate.
type CertificatesSection struct {
	WebhookConfiguration string   `json:"webhookConfiguration" doc:"the MutatingWebhookConfiguration whose caBundle the injector keeps; required, but with existing certificates whose authorities somebody else writes there"`
	Service              string   `json:"service" doc:"the Service in front of the injector, for whose names the certificate is"`
	Secret               string   `json:"secret" doc:"the Secret of the injector's namespace in which its replicas keep the certificates"`
	Validity             Duration `json:"validity" doc:"how long a certificate is valid, 2160h by default"`
	RotateBefore         Duration `json:"rotateBefore" doc:"how long before its end it is replaced, by default a third of validity, 720h at most; at most half of validity"`
	Existing             string   `json:"existing" doc:"a directory with tls.crt, tls.key and ca.crt, of cert-manager for instance: nothing is made, and the files are read again when they change. ca.crt is not needed where somebody else keeps the caBundle"`
}

// Duration is a length of time as Go writes it, such as 720h.
type Duration time.Duration

// UnmarshalJSON reads it.
func (d *Duration) UnmarshalJSON(raw []byte) error {
	var s string
	if err := yaml.Unmarshal(raw, &s); err != nil {
		return errors.New("want a length of time in quotes, such as 720h")
	}
	v, err := time.ParseDuration(s)
	if err != nil || v <= 0 {
		return fmt.Errorf("%q: want a length of time above 0, such as 720h", s)
	}
	*d = Duration(v)
	return nil
}

// maxFile bounds the file, in bytes.
const maxFile = 1 << 20

// Load reads a file.
func Load(path, version string) (*Configuration, error) {
	info, err := os.Stat(path)
	if err == nil && info.Size() > maxFile {
		err = fmt.Errorf("%s has more than %d bytes", path, maxFile)
	}
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	raw, err := os.ReadFile(path)
	if err != nil {
		return nil, fmt.Errorf("configuration: %w", err)
	}
	c, err := Parse(raw, version)
	if err != nil {
		return nil, fmt.Errorf("configuration %s: %w", path, err)
	}
	return c, nil
}

// Parse reads a document; version is the injector's, for the pods' status.
func Parse(raw []byte, version string) (*Configuration, error) {
	f := &File{}
	if err := yaml.UnmarshalStrict(raw, f); err != nil {
		return nil, err
	}
	return f.compile(version)
}
