package configuration

import (
	"errors"
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/util/validation"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
)

// The defaults. A certificate is replaced when a third of its validity is left, or
// DefaultRotateBefore if that is less.
const (
	DefaultUser         = 65532
	DefaultMetricsPort  = 9718
	DefaultValidity     = 90 * 24 * time.Hour
	DefaultRotateBefore = 30 * 24 * time.Hour
)

// Configuration is what is in force.
type Configuration struct {
	Settings     inject.Settings
	Certificates Certificates
}

// Certificates say where the webhook's certificate comes from.
type Certificates struct {
	WebhookConfiguration, Service, Secret string
	Validity, RotateBefore                time.Duration
	// Existing is a directory of certificates that somebody else makes.
	Existing string
}

var (
	imageForm = regexp.MustCompile(`^[a-zA-Z0-9][a-zA-Z0-9._/:@-]*$`)
	pathForm  = regexp.MustCompile(`^[a-zA-Z0-9_-][a-zA-Z0-9._-]*$`)
)

func (f *File) compile(version string) (*Configuration, error) {
	c := &Configuration{Settings: inject.Settings{Version: version, Configuration: f.Configuration}}
	for _, step := range []func(*Configuration) error{f.sidecar, f.daemon, f.secrets, f.env, f.certificates} {
		if err := step(c); err != nil {
			return nil, err
		}
	}
	return c, nil
}

func (f *File) sidecar(c *Configuration) error {
	s := &f.Sidecar
	switch {
	case s.Image == "":
		return errors.New("sidecar.image is missing: the image of the sidecars, such as registry.example/locksidecar:1.2.3")
	case !imageForm.MatchString(s.Image):
		return fmt.Errorf("sidecar.image %q: want an image, such as registry.example/locksidecar:1.2.3", s.Image)
	case s.RunAsUser != nil && (*s.RunAsUser < 1 || *s.RunAsUser > 1<<31-1):
		return fmt.Errorf("sidecar.runAsUser %d: want a uid from 1 to 2147483647: never root", *s.RunAsUser)
	case len(s.Resources.Claims) > 0:
		return errors.New("sidecar.resources.claims: want requests and limits alone")
	}
	for i, m := range s.Mirrors {
		if !imageForm.MatchString(m) || inject.Repository(m) != m || slices.Contains(s.Mirrors[:i], m) {
			return fmt.Errorf("sidecar.mirrors[%d] %q: want a repository, once and without a tag or a digest, such as mirror.example/registry.example/locksidecar", i, m)
		}
	}
	c.Settings.Image, c.Settings.Mirrors = s.Image, slices.Clone(s.Mirrors)
	if c.Settings.RunAsUser = DefaultUser; s.RunAsUser != nil {
		c.Settings.RunAsUser = *s.RunAsUser
	}
	if c.Settings.ImagePullPolicy = s.ImagePullPolicy; s.ImagePullPolicy == "" {
		c.Settings.ImagePullPolicy = corev1.PullIfNotPresent
	}
	if !slices.Contains([]corev1.PullPolicy{corev1.PullAlways, corev1.PullIfNotPresent, corev1.PullNever}, c.Settings.ImagePullPolicy) {
		return fmt.Errorf("sidecar.imagePullPolicy %q: want Always, IfNotPresent or Never", s.ImagePullPolicy)
	}
	if c.Settings.LogLevel = s.LogLevel; s.LogLevel == "" {
		c.Settings.LogLevel = "info"
	}
	if !slices.Contains([]string{"debug", "info", "warn", "error"}, c.Settings.LogLevel) {
		return fmt.Errorf("sidecar.logLevel %q: want debug, info, warn or error", s.LogLevel)
	}
	if c.Settings.MetricsPort = DefaultMetricsPort; s.MetricsPort != nil {
		c.Settings.MetricsPort = *s.MetricsPort
	}
	if c.Settings.MetricsPort < 0 || c.Settings.MetricsPort > 65535 {
		return fmt.Errorf("sidecar.metricsPort %d: want a port, or 0 for none", c.Settings.MetricsPort)
	}
	c.Settings.Resources = s.Resources
	return resources(&s.Resources)
}

func resources(r *corev1.ResourceRequirements) error {
	for what, list := range map[string]corev1.ResourceList{"requests": r.Requests, "limits": r.Limits} {
		for name, q := range list {
			if q.Sign() <= 0 {
				return fmt.Errorf("sidecar.resources.%s.%s: want a quantity above 0", what, name)
			}
		}
	}
	for name, request := range r.Requests {
		if limit, ok := r.Limits[name]; ok && request.Cmp(limit) > 0 {
			return fmt.Errorf("sidecar.resources: the request of %s is %s and the limit %s: want a request that is not above the limit", name, request.String(), limit.String())
		}
	}
	return nil
}

func (f *File) secrets(c *Configuration) error {
	for i, s := range f.Secrets {
		switch {
		case len(validation.IsDNS1123Subdomain(s.Name)) > 0:
			return fmt.Errorf("secrets[%d].name %q: want the name of a Secret", i, s.Name)
		case !pathForm.MatchString(s.Path):
			return fmt.Errorf("secrets[%d].path %q: want the name of a directory, of letters, digits, '.', - and _", i, s.Path)
		case slices.ContainsFunc(f.Secrets[:i], func(o SecretSection) bool { return o.Path == s.Path }):
			return fmt.Errorf("secrets[%d].path %q stands there twice", i, s.Path)
		}
		c.Settings.Secrets = append(c.Settings.Secrets, inject.Secret{Name: s.Name, Path: s.Path})
	}
	return nil
}

func (f *File) env(c *Configuration) error {
	for i, e := range f.Env {
		switch {
		case len(validation.IsCIdentifier(e.Name)) > 0:
			return fmt.Errorf("env[%d].name %q: want the name of a variable", i, e.Name)
		case strings.HasPrefix(e.Name, "LOCKSIDECAR_"):
			return fmt.Errorf("env[%d].name %q: those of the sidecar itself are set by the injector; use sidecar and configuration", i, e.Name)
		case slices.ContainsFunc(f.Env[:i], func(o EnvSection) bool { return o.Name == e.Name }):
			return fmt.Errorf("env[%d].name %q stands there twice", i, e.Name)
		}
		c.Settings.Env = append(c.Settings.Env, corev1.EnvVar{Name: e.Name, Value: e.Value})
	}
	return nil
}

func (f *File) certificates(c *Configuration) error {
	s := &f.Certificates
	c.Certificates = Certificates{
		WebhookConfiguration: s.WebhookConfiguration, Service: s.Service, Secret: s.Secret, Existing: s.Existing,
		Validity: DefaultValidity,
	}
	if s.Validity != 0 {
		c.Certificates.Validity = time.Duration(s.Validity)
	}
	c.Certificates.RotateBefore = min(c.Certificates.Validity/3, DefaultRotateBefore)
	if s.RotateBefore != 0 {
		c.Certificates.RotateBefore = time.Duration(s.RotateBefore)
	}
	for what, name := range map[string]string{"webhookConfiguration": s.WebhookConfiguration, "service": s.Service, "secret": s.Secret} {
		if name != "" && len(validation.IsDNS1123Subdomain(name)) > 0 {
			return fmt.Errorf("certificates.%s %q: want the name of one", what, name)
		}
	}
	switch {
	case c.Certificates.Validity < time.Hour:
		return fmt.Errorf("certificates.validity %v: want at least 1h", c.Certificates.Validity)
	case c.Certificates.RotateBefore > c.Certificates.Validity/2:
		return fmt.Errorf("certificates.rotateBefore %v: want at most half of the validity, %v", c.Certificates.RotateBefore, c.Certificates.Validity/2)
	case s.Existing != "" && !path.IsAbs(s.Existing):
		return fmt.Errorf("certificates.existing %q: want an absolute path of a directory", s.Existing)
	}
	return nil
}
