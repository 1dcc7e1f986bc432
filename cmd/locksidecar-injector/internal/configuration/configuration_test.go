package configuration

import (
	"log/slog"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"
)

const least = "sidecar: {image: example/locksidecar:1}\nconfiguration: |\n  backends: {main: {url: \"redis://r:6379\"}}\n"

const whole = `
sidecar:
  image: registry.example/locksidecar:1.2.3
  mirrors: ["mirror.example:5000/registry.example/locksidecar"]
  imagePullPolicy: Always
  resources: {requests: {cpu: 50m, memory: 64Mi}, limits: {memory: 256Mi}}
  runAsUser: 1000
  logLevel: warn
  metricsPort: 0
configuration: |
  backends:
    main: {url_file: /etc/locksidecar/secrets/redis/url}
    file: {url: "embedded:///run/locksidecar/locks.db"}
  routes:
    - {match: "jobs/**", backend: file}
    - {match: "**", backend: main}
secrets: [{name: locksidecar-redis, path: redis}]
env: [{name: AWS_REGION, value: eu-west-1}]
certificates:
  webhookConfiguration: locksidecar-injector
  service: locksidecar-injector
  secret: locksidecar-injector-certificates
  validity: 2160h
  rotateBefore: 720h
  existing: ""
`

func TestDefaults(t *testing.T) {
	c, err := Parse([]byte(least), "v1")
	if err != nil {
		t.Fatal(err)
	}
	s := &c.Settings
	if s.Version != "v1" || s.RunAsUser != 65532 || s.LogLevel != "info" || s.MetricsPort != 9718 || s.ImagePullPolicy != "IfNotPresent" ||
		c.Certificates.Validity != 2160*time.Hour || c.Certificates.RotateBefore != 720*time.Hour {
		t.Errorf("the defaults are %+v", c)
	}
}

// A validity alone is enough: what is not said of the rotation goes with it.
func TestTheRotationGoesWithTheValidity(t *testing.T) {
	for text, want := range map[string]time.Duration{
		"certificates: {validity: 24h}\n":                    8 * time.Hour,
		"certificates: {validity: 1h}\n":                     20 * time.Minute,
		"certificates: {validity: 87600h}\n":                 720 * time.Hour,
		"certificates: {validity: 24h, rotateBefore: 12h}\n": 12 * time.Hour,
	} {
		if c, err := Parse([]byte(least+text), "v1"); err != nil || c.Certificates.RotateBefore != want {
			t.Errorf("%s: %+v, %v, want %v", text, c, err, want)
		}
	}
}

func TestTheWholeFile(t *testing.T) {
	c, err := Parse([]byte(whole), "v1")
	if err != nil {
		t.Fatal(err)
	}
	s := &c.Settings
	if s.Image != "registry.example/locksidecar:1.2.3" || s.Mirrors[0] != "mirror.example:5000/registry.example/locksidecar" || s.ImagePullPolicy != "Always" || s.Resources.Requests.Cpu().String() != "50m" || s.RunAsUser != 1000 ||
		s.LogLevel != "warn" || s.MetricsPort != 0 || !strings.Contains(s.Configuration, "embedded:///run") || s.Secrets[0].Path != "redis" || s.Env[0].Value != "eu-west-1" ||
		c.Certificates.Secret != "locksidecar-injector-certificates" {
		t.Errorf("read as %+v", c)
	}
}

// What is wrong is refused, with what is allowed.
func TestRefusals(t *testing.T) {
	daemon := func(text string) string {
		return "sidecar: {image: x}\nconfiguration: |\n  " + strings.ReplaceAll(text, "\n", "\n  ") + "\n"
	}
	for name, row := range map[string]struct{ text, says string }{
		"nothing":                            {"", "sidecar.image is missing"},
		"an unknown key":                     {least + "sidecars: {}\n", `unknown field "sidecars"`},
		"an unknown key inside":              {strings.Replace(least, "image:", "imaje:", 1), `unknown field "imaje"`},
		"a key twice":                        {least + "env: []\nenv: []\n", "already set"},
		"an image":                           {strings.Replace(least, "example/locksidecar:1", `"a b"`, 1), "want an image"},
		"a mirror with a tag":                {strings.Replace(least, "{image", "{mirrors: [\"m.example:5000/a\", \"m.example/b:1\"], image", 1), "sidecar.mirrors[1]"},
		"a mirror with a digest":             {strings.Replace(least, "{image", "{mirrors: [\"m.example/a@sha256:12\"], image", 1), "sidecar.mirrors[0]"},
		"a mirror twice":                     {strings.Replace(least, "{image", "{mirrors: [a/b, a/b], image", 1), "sidecar.mirrors[1]"},
		"a mirror that is none":              {strings.Replace(least, "{image", "{mirrors: [\"\"], image", 1), "want a repository"},
		"a pull policy":                      {strings.Replace(least, "{image", "{imagePullPolicy: always, image", 1), "want Always, IfNotPresent or Never"},
		"root":                               {strings.Replace(least, "{image", "{runAsUser: 0, image", 1), "never root"},
		"a level":                            {strings.Replace(least, "{image", "{logLevel: loud, image", 1), "want debug, info, warn or error"},
		"a port":                             {strings.Replace(least, "{image", "{metricsPort: 70000, image", 1), "want a port, or 0"},
		"a quantity":                         {strings.Replace(least, "{image", "{resources: {limits: {cpu: lots}}, image", 1), "quantities must match"},
		"a quantity of nothing":              {strings.Replace(least, "{image", "{resources: {limits: {cpu: 0}}, image", 1), "want a quantity above 0"},
		"a request above":                    {strings.Replace(least, "{image", "{resources: {limits: {cpu: 1}, requests: {cpu: 2}}, image", 1), "not above the limit"},
		"no configuration":                   {"sidecar: {image: x}\n", "configuration is missing"},
		"a daemon's typo":                    {daemon("backend: {}"), `configuration: line 1: unknown key "backend"`},
		"no backend":                         {daemon("drain: {timeout: 1s}"), "no backend is configured"},
		"a route to nowhere":                 {daemon("backends: {main: {url: \"redis://r\"}}\nroutes: [{match: \"**\", backend: x}]"), `leads to the backend "x"`},
		"a password":                         {daemon("backends: {main: {url: \"redis://u:hunter2@r\"}}"), "its URL has a password"},
		"a URL that is none":                 {daemon("backends: {main: {url: \"redis://%zz\"}}"), "cannot be read"},
		"a password as a parameter":          {daemon("backends: {main: {url: \"redis://r?password=hunter2\"}}"), "its URL has a password"},
		"an unknown store":                   {daemon("backends: {main: {url: \"foo://hunter2\"}}"), `unknown scheme "foo"; known are dynamodb, embedded,`},
		"an unknown parameter":               {daemon("backends: {main: {url: \"redis://r:6379?bogus=hunter2\"}}"), `unknown parameter "bogus"; those of redis are allow_eviction,`},
		"a store on the root":                {daemon("backends: {main: {url: \"embedded:///var/lib/locks.db\"}}"), "want a file in /run/locksidecar"},
		"an audit log on the root":           {daemon("backends: {main: {url: \"redis://r\"}}\nevents: {audit: {path: /var/log/a}}"), "events.audit.path"},
		"an audit log that fills its volume": {daemon("backends: {main: {url: \"redis://r\"}}\nevents: {audit: {path: /run/locksidecar/a}}"), "such as max_bytes: 1048576 and keep: 7"},
		"a large one":                        {daemon("# " + strings.Repeat("x", maxDaemon)), "want at most 131072"},
		"a secret's name":                    {least + "secrets: [{name: \"A B\", path: x}]\n", "want the name of a Secret"},
		"a secret's path":                    {least + "secrets: [{name: a, path: ../x}]\n", "want the name of a directory"},
		"two of one path":                    {least + "secrets: [{name: a, path: x}, {name: b, path: x}]\n", "stands there twice"},
		"a variable's name":                  {least + "env: [{name: \"A-B\", value: x}]\n", "want the name of a variable"},
		"a variable of ours":                 {least + "env: [{name: LOCKSIDECAR_BACKEND, value: x}]\n", "are set by the injector"},
		"a variable twice":                   {least + "env: [{name: A, value: x}, {name: A, value: y}]\n", "stands there twice"},
		"a length of time":                   {least + "certificates: {validity: 90}\n", "want a length of time"},
		"a short validity":                   {least + "certificates: {validity: 1m}\n", "want at least 1h"},
		"a late rotation":                    {least + "certificates: {validity: 10h, rotateBefore: 6h}\n", "want at most half"},
		"a service's name":                   {least + "certificates: {service: A_B}\n", "certificates.service"},
		"a relative directory":               {least + "certificates: {existing: certs}\n", "want an absolute path"},
	} {
		t.Run(name, func(t *testing.T) {
			if _, err := Parse([]byte(row.text), "v1"); err == nil || !strings.Contains(err.Error(), row.says) || strings.Contains(err.Error(), "hunter2") {
				t.Errorf("%v does not say %q, or tells a secret", err, row.says)
			}
		})
	}
}

// write replaces a file as the kubelet does: a link to another directory.
func write(t *testing.T, dir, text string) {
	t.Helper()
	data, err := os.MkdirTemp(dir, "..data")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(data, "injector.yaml"), []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	link := filepath.Join(dir, "new")
	if err := os.Symlink(filepath.Join(data, "injector.yaml"), link); err != nil {
		t.Fatal(err)
	}
	if err := os.Rename(link, filepath.Join(dir, "injector.yaml")); err != nil {
		t.Fatal(err)
	}
}

// look looks twice: a file must have stood still.
func look(s *Source) bool {
	first := s.Look()
	return s.Look() || first
}

func TestAChangeIsTakenOverOrRefused(t *testing.T) {
	dir := t.TempDir()
	write(t, dir, least)
	s, err := Open(filepath.Join(dir, "injector.yaml"), "v1", slog.New(slog.DiscardHandler))
	if err != nil {
		t.Fatal(err)
	}
	if look(s) {
		t.Error("it was read again without a change")
	}
	write(t, dir, strings.Replace(least, "example/locksidecar:1", "example/locksidecar:2", 1))
	if !look(s) || s.Current().Settings.Image != "example/locksidecar:2" || s.Refused() != nil {
		t.Errorf("the change was not taken over: %v", s.Refused())
	}
	write(t, dir, "sidecar: {}\n")
	if !look(s) || s.Current().Settings.Image != "example/locksidecar:2" || s.Refused() == nil {
		t.Error("a wrong file is in force, or was not told")
	}
	write(t, dir, least+"certificates: {service: other}\n")
	if !look(s) || s.Refused() == nil || !strings.Contains(s.Refused().Error(), "restart it") {
		t.Errorf("other certificates: %v", s.Refused())
	}
	write(t, dir, least)
	if !look(s) || s.Current().Settings.Image != "example/locksidecar:1" || s.Refused() != nil {
		t.Errorf("the mended file was not taken over: %v", s.Refused())
	}
	if err := os.Remove(filepath.Join(dir, "injector.yaml")); err != nil {
		t.Fatal(err)
	}
	if !look(s) || s.Refused() == nil || s.Current().Settings.Image != "example/locksidecar:1" {
		t.Error("a file that is gone was not told, or what was in force is gone with it")
	}
}

func TestOpenRefusesAWrongFile(t *testing.T) {
	if _, err := Open(filepath.Join(t.TempDir(), "none.yaml"), "v1", slog.New(slog.DiscardHandler)); err == nil {
		t.Error("a file that there is not was opened")
	}
}
