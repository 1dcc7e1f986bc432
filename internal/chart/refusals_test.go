package chart

import (
	"os"
	"path/filepath"
	"strings"
	"testing"
)

func TestLint(t *testing.T) {
	sets := map[string][]string{"defaults": nil}
	for name, args := range variants {
		sets[name] = args
	}
	for name, args := range sets {
		t.Run(name, func(t *testing.T) {
			if out, errs, err := helm(t, append([]string{"lint", "--strict", directory}, args...)...); err != nil {
				t.Errorf("%v\n%s%s", err, out, errs)
			}
		})
	}
}

// The defaults are refused, saying what to do: nobody else can know the image and
// the store.
func TestDefaultsSayWhatIsNeeded(t *testing.T) {
	_, errs, err := helm(t, template()...)
	if err == nil || !strings.Contains(errs, "image.repository is required: there is no public image of locksidecar yet. `make image`") {
		t.Errorf("without an image: %v\n%s", err, errs)
	}
	_, errs, err = helm(t, template("--set", "image.repository=r/l")...)
	if err == nil || !strings.Contains(errs, "config.backends is required: say where the locks are") {
		t.Errorf("without a backend: %v\n%s", err, errs)
	}
}

// What is refused, and how it is said: with the value's name, and what is wanted.
func TestWrongValuesAreRefused(t *testing.T) {
	const two = "config: {backends: {a: {url: 'redis://a'}, b: {url: 'redis://b'}}"
	for name, c := range map[string]struct{ values, says string }{
		"an unknown value":                  {"imag: {}", "additional properties 'imag' not allowed"},
		"one beneath":                       {"injector: {replica: 3}", "at '/injector': additional properties 'replica' not allowed"},
		"an image with its tag":             {"image: {repository: 'r/l:v1 '}", "at '/image/repository': 'r/l:v1 ' does not match pattern"},
		"a repository of capitals":          {"image: {repository: R/L}", "at '/image/repository': 'R/L' does not match"},
		"half a digest":                     {"image: {digest: 'sha256:12'}", "at '/image/digest': 'sha256:12' does not match"},
		"a number for a tag":                {"image: {tag: 1.2}", "at '/image/tag': got number, want string"},
		"a pull policy":                     {"image: {pullPolicy: Sometimes}", "at '/image/pullPolicy': value must be one of 'Always', 'IfNotPresent', 'Never'"},
		"no injector":                       {"injector: {replicas: 0}", "at '/injector/replicas': minimum: got 0, want 1"},
		"replicas as a text":                {"injector: {replicas: 'two'}", "at '/injector/replicas': got string, want integer"},
		"a port":                            {"injector: {port: 70000}", "at '/injector/port': maximum: got 70,000, want 65,535"},
		"a port twice":                      {"injector: {port: 9719}", "injector.port and injector.metricsPort are both 9719"},
		"root":                              {"sidecar: {runAsUser: 0}", "at '/sidecar/runAsUser': minimum: got 0, want 1"},
		"a level":                           {"sidecar: {logLevel: loud}", "at '/sidecar/logLevel': value must be one of 'debug', 'info', 'warn', 'error'"},
		"a resource":                        {"sidecar: {resources: {limit: {}}}", "at '/sidecar/resources': additional properties 'limit' not allowed"},
		"a quantity":                        {"sidecar: {resources: {requests: {cpu: abc}}}", "at '/sidecar/resources/requests/cpu': 'abc' does not match"},
		"a quantity below nothing":          {"injector: {resources: {limits: {cpu: -1}}}", "at '/injector/resources/limits/cpu': minimum: got -1, want 0"},
		"a quantity of nothing":             {"sidecar: {resources: {limits: {cpu: 0}}}", "sidecar.resources.limits.cpu is 0: want more than 0"},
		"a request above its limit":         {"sidecar: {resources: {requests: {memory: 512Mi}}}", "sidecar.resources.requests.memory is 512Mi, and sidecar.resources.limits.memory is 256Mi: want a request that is not above the limit"},
		"one in another unit":               {"sidecar: {resources: {requests: {memory: 269M}}}", "requests.memory is 269M, and sidecar.resources.limits.memory is 256Mi"},
		"one of a processor":                {"injector: {resources: {requests: {cpu: 1100m}, limits: {cpu: 1}}}", "injector.resources.requests.cpu is 1100m, and injector.resources.limits.cpu is 1"},
		"one in bytes":                      {"injector: {resources: {requests: {memory: 268435457}}}", "injector.resources.requests.memory is 2.68435457e+08, and"},
		"a limit of nothing":                {"injector: {resources: {limits: {cpu: 0}}}", "injector.resources.requests.cpu is 20m, and injector.resources.limits.cpu is 0"},
		"a short validity":                  {"certificates: {validity: 59m}", "certificates.validity is 59m: want at least 1h"},
		"a late rotation":                   {"certificates: {validity: 1h30m, rotateBefore: 46m}", "certificates.rotateBefore is 46m: want at most half of certificates.validity, which is 1h30m"},
		"a secret without path":             {"secrets: [{name: a}]", "at '/secrets/0': missing property 'path'"},
		"a secret's path":                   {"secrets: [{name: a, path: ../b}]", "at '/secrets/0/path': '../b' does not match"},
		"a path twice":                      {"secrets: [{name: a, path: x}, {name: b, path: x}]", `secrets: the path "x" is given twice`},
		"a secret in a variable":            {"env: [{name: A, valueFrom: {secretKeyRef: {name: a, key: b}}}]", "at '/env/0': additional properties 'valueFrom' not allowed"},
		"a variable that the injector sets": {"env: [{name: LOCKSIDECAR_BACKEND, value: 'redis://a'}]", "env: LOCKSIDECAR_BACKEND: variables of that kind are the injector's matter; say it in config"},
		"a duration":                        {"certificates: {validity: 90d}", "at '/certificates/validity': '90d' does not match"},
		"authorities without PEM":           {"certificates: {existingSecret: s, caBundle: abc}", "at '/certificates/caBundle': 'abc' does not match"},
		"authorities of nobody":             {"certificates: {certManager: a/b}", "certificates.existingSecret is required with certificates.caBundle or certificates.certManager"},
		"authorities twice":                 {"certificates: {existingSecret: s, certManager: a/b, caBundle: '-----BEGIN CERTIFICATE-----'}", "want one of the two"},
		"a Certificate's name alone":        {"certificates: {existingSecret: s, certManager: b}", "at '/certificates/certManager': 'b' does not match"},
		"a lock of no name":                 {"helmTest: {lock: 'a b'}", "at '/helmTest/lock': 'a b' does not match"},
		"no port of the API server":         {"networkPolicy: {apiServerPorts: []}", "at '/networkPolicy/apiServerPorts': minItems: got 0, want 1"},
		"a boolean":                         {"storeInit: {enabled: maybe}", "at '/storeInit/enabled': got string, want boolean"},
		"an unknown key of config":          {"config: {backend: {}}", "at '/config': additional properties 'backend' not allowed"},
		"the socket in config":              {"config: {socket: {path: /x}}", "at '/config': additional properties 'socket' not allowed"},
		"the metrics in config":             {"config: {metrics: ':1'}", "at '/config': additional properties 'metrics' not allowed"},
		"two URLs":                          {"config: {backends: {main: {url: 'embedded:', url_file: /x}}}", "at '/config/backends/main': 'oneOf' failed"},
		"a backend's name":                  {"config: {backends: {Main: {url: 'embedded:'}}}", `config.backends: the name "Main": want up to 63 lower-case letters, digits, - and _`},
		"a webhook's name":                  {"config: {events: {webhooks: {A: {url: 'https://a'}}}}", `config.events.webhooks: the name "A"`},
		"a password":                        {"config: {backends: {main: {url: 'redis://:hunter2@redis:6379'}}}", "config.backends.main.url has a password"},
		"a user and a password":             {"config: {backends: {main: {url: 'redis+sentinel://u:p@a,b:1/x?db=1'}}}", "config.backends.main.url has a password"},
		"a file that cannot be":             {"config: {backends: {main: {url: 'embedded:///var/locks.db'}}}", "a sidecar can write in /run/locksidecar alone"},
		"an audit log that cannot be":       {"config: {events: {audit: {path: /var/log/a}}}", "config.events.audit.path: a sidecar can write in /run/locksidecar alone"},
		"a variable twice":                  {"env: [{name: A, value: '1'}, {name: A, value: '2'}]", "env: A is given twice"},
		"a pattern":                         {"config: {routes: [{match: 'a*'}]}", "at '/config/routes/0/match': 'a*' does not match pattern"},
		"backends without routes":           {two + "}", "config.routes is required: there are several backends (a, b, main)"},
		"a route to nowhere":                {"config: {routes: [{match: a, backend: c}]}", `config.routes[0].backend is "c"; config.backends has main`},
		"a route without backend":           {two + ", routes: [{match: a}]}", "config.routes[0].backend is required: config.backends has a, b, main"},
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			file := filepath.Join(t.TempDir(), "values.yaml")
			if err := os.WriteFile(file, []byte(c.values), 0o600); err != nil {
				t.Fatal(err)
			}
			out, errs, err := helm(t, template(append(variants["dev"], "--values", file)...)...)
			if err == nil || !strings.Contains(errs, c.says) {
				t.Errorf("%s: %v\n%s\nwant: %s", c.values, err, errs, c.says)
			}
			if out != "" {
				t.Errorf("it was rendered all the same:\n%s", out)
			}
		})
	}
}

// An older cluster drops the field that makes a container a native sidecar.
func TestClustersThatAreTooOldAreRefused(t *testing.T) {
	_, errs, err := helm(t, template(append(variants["dev"], "--kube-version", "1.28.15")...)...)
	if err == nil || !strings.Contains(errs, "chart requires kubeVersion: >=1.29.0-0") {
		t.Errorf("%v\n%s", err, errs)
	}
	for _, version := range []string{"1.29.0", "1.31.4-eks-2d5f260", "1.32.1-gke.1002000"} {
		render(t, append(variants["dev"], "--kube-version", version)...)
	}
}
