package config_test

import (
	"bytes"
	"errors"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/go-cmp/cmp"
	"github.com/santhosh-tekuri/jsonschema/v6"
	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/config"
)

func example(t *testing.T) []byte {
	t.Helper()
	raw, err := os.ReadFile("../../docs/config.example.yaml")
	if err != nil {
		t.Fatal(err)
	}
	return raw
}

// write writes a file of the test's own.
func write(t *testing.T, name, text string) string {
	t.Helper()
	path := filepath.Join(t.TempDir(), name)
	if err := os.WriteFile(path, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	return path
}

// schema validates a document by the published schema.
func schema(t *testing.T) func(raw string) error {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	c := jsonschema.NewCompiler()
	if err := c.AddResource("config.schema.json", document); err != nil {
		t.Fatal(err)
	}
	s, err := c.Compile("config.schema.json")
	if err != nil {
		t.Fatal(err)
	}
	return func(raw string) error {
		var v any
		if err := yaml.Unmarshal([]byte(raw), &v); err != nil {
			return err
		}
		return s.Validate(v)
	}
}

// The example has every key that there is, and is taken as it says.
func TestExampleIsCompleteAndValid(t *testing.T) {
	raw := example(t)
	if err := schema(t)(string(raw)); err != nil {
		t.Errorf("the schema refuses the example: %v", err)
	}
	secret := write(t, "payments.url", "redis://:hunter2@payments:6379\n")
	text := strings.ReplaceAll(string(raw), "/etc/locksidecar/payments.url", secret)
	f, err := config.Parse([]byte(text))
	if err != nil {
		t.Fatal(err)
	}
	c, err := f.Compile("example", config.Overrides{})
	if err != nil {
		t.Fatal(err)
	}
	want := []config.Backend{{Name: "main", URL: "redis://127.0.0.1:6379?timeout=1s"}, {Name: "payments", URL: "redis://:hunter2@payments:6379"}}
	if d := cmp.Diff(want, c.Backends); d != "" {
		t.Error(d)
	}
	if c.Policy == nil || c.Metrics != ":9718" || c.Mode != 0o660 || c.Leave || c.DrainTimeout != 10*time.Second || c.Events != 16384 || c.NoDeadlocks || c.BreakDeadlocks {
		t.Errorf("the example means %+v", c)
	}
	for _, l := range c.Limits.All() {
		if *l.Value == 0 || !strings.HasSuffix(l.Usage, "(default "+itoa(*l.Value)+")") {
			t.Errorf("the limit %s is %d: %s", l.Name, *l.Value, l.Usage)
		}
	}
	for lock, route := range map[string]int{"payments/eu/ledger": 0, "payments/eu": 1, "refunds/1": 1, "a": 2} {
		if r, ok := c.Route(lock); !ok || r != &c.Routes[route] {
			t.Errorf("%s goes by %+v", lock, r)
		}
	}
	for _, key := range keys(t) {
		if !bytes.Contains(raw, []byte(key+":")) {
			t.Errorf("the example lacks the key %q", key)
		}
	}
	if e := c.Explain("payments/eu"); strings.Contains(cmp.Diff(e, nil), "hunter2") || e.Store != "redis://payments:6379" {
		t.Errorf("explain: %+v", e)
	}
}

func itoa(n int) string { return strconv.Itoa(n) }

// keys are all of the schema's.
func keys(t *testing.T) (all []string) {
	t.Helper()
	document, err := jsonschema.UnmarshalJSON(bytes.NewReader(config.Schema()))
	if err != nil {
		t.Fatal(err)
	}
	var visit func(any)
	visit = func(v any) {
		switch v := v.(type) {
		case map[string]any:
			if p, ok := v["properties"].(map[string]any); ok {
				for key := range p {
					if key != "gid" { // the example of docs/access.md has it
						all = append(all, key)
					}
				}
			}
			for _, inner := range v {
				visit(inner)
			}
		case []any:
			for _, inner := range v {
				visit(inner)
			}
		}
	}
	visit(document)
	if len(all) < 35 {
		t.Fatalf("the schema has only the keys %v", all)
	}
	return all
}

const two = "backends: {a: {url: 'embedded:'}, b: {url: 'embedded:'}}\n"

// What is refused, by whom, and how it is said. A document that only the daemon
// refuses is one that no schema can judge.
func TestRefusals(t *testing.T) {
	valid := schema(t)
	for _, c := range []struct {
		name, text, says string
		schema           bool // the schema refuses it too
	}{
		{"unknown key", two + "wrong: 1\n", `line 2: unknown key "wrong"; known: socket, admin,`, true},
		{"unknown key beneath", two + "socket:\n  paht: /x\n", `line 3: socket: unknown key "paht"; known: path, mode`, true},
		{"unknown key of a route", two + "routes:\n- match: a\n  backed: a\n", `line 4: routes[1]: unknown key "backed"`, true},
		{"a key twice", two + "metrics: ':1'\nmetrics: ':2'\n", `line 3: the key "metrics" is given twice`, true},
		{"a list instead of a mapping", "- a\n", "line 1: want a mapping", true},
		{"nothing under a key", "socket:\nmetrics: ':1'\n", "line 1: socket: want a mapping", true},
		{"a number for a text", two + "metrics: 9718\n", "line 2: metrics: want a text", true},
		{"a text for a number", two + "limits: {leases: many}\n", "line 2: limits.leases: want a whole number", true},
		{"zero", two + "limits: {leases: 0}\n", "line 2: limits.leases: want a whole number of at least 1", true},
		{"a mode without quotes", two + "socket: {mode: 0660}\n", "line 2: socket.mode: want an octal mode in quotes", true},
		{"a duration without unit", two + "drain: {timeout: 10}\n", "line 2: drain.timeout: want a length of time", true},
		{"a duration of nothing", two + "drain: {timeout: 0s}\n", "line 2: drain.timeout: want a length of time above 0", false},
		{"another word", two + "drain: {leases: keep}\n", "line 2: drain.leases: want release or leave", true},
		{"no boolean", two + "deadlock: {detect: sometimes}\n", "line 2: deadlock.detect: want true or false", true},
		{"a policy that there is not", two + "deadlock: {resolve: oldest}\n", "line 2: deadlock.resolve: want none or youngest-waiter", true},
		{"a name", "backends: {A: {url: 'embedded:'}}\n", `line 1: backends: the name "A"`, true},
		{"two URLs", "backends:\n  a: {url: 'embedded:', url_file: /x}\n", `line 2: the backend "a" needs url or url_file`, true},
		{"no URL", "backends: {a: {}}\n", `line 1: the backend "a" needs url or url_file`, true},
		{"no such file", "backends: {a: {url_file: /nonexistent/x}}\n", `line 1: url_file of the backend "a": open /nonexistent/x`, false},
		{"a route to nowhere", two + "routes:\n- {match: a, backend: c}\n", `line 3: the route leads to the backend "c"; there are a, b`, false},
		{"a route without backend", two + "routes:\n- {match: a}\n", "line 3: the route needs \"backend\"", false},
		{"a route without match", two + "routes:\n- {backend: a}\n", "line 3: a route needs \"match\"", true},
		{"a pattern", two + "routes:\n- {match: ['a*'], backend: a}\n", `line 3: routes[1].match: the pattern "a*": a * stands for`, true},
		{"no pattern", two + "routes:\n- {match: [], backend: a}\n", "line 3: routes[1].match: want a pattern", true},
		{"a class without match", two + "lock_classes:\n- {class: a}\n", `line 3: a class of locks needs "match"`, true},
		{"a class without name", two + "lock_classes:\n- {match: a}\n", `line 3: a class of locks needs "class"`, true},
		{"the name of a class", two + "lock_classes:\n- {match: a, class: 'a b'}\n", `line 3: lock_classes[1].class: want up to 63 lower-case`, true},
		{"many classes", two + "lock_classes:\n" + strings.Repeat("- {match: a, class: a}\n", 21), "line 23: there are 21 lock_classes; at most 20 may be", true},
		{"a collector", two + "traces: {endpoint: 'collector:4317'}\n", "traces.endpoint: want the collector's URL", false},
		{"one call in none", two + "traces: {one_in: 0}\n", "line 2: traces.one_in: want a whole number of at least 1", true},
		{"a short ttl", two + "routes:\n- {match: a, backend: a, ttl: 1ms}\n", "line 3: the route's ttl is 1ms", false},
		{"several backends, no routes", "\n" + two, "line 2: there are 2 backends and no routes", false},
		{"an admin listener as a text", two + "admin: ':1'\n", "line 2: admin: want a mapping", true},
		{"an admin listener for everybody", two + "admin: {listen: '127.0.0.1:1'}\nroutes: [{match: a, backend: a}]\n", "admin: want token_file or client_ca", false},
		{"a token in the clear", two + "admin: {listen: ':1', token_file: /t}\nroutes: [{match: a, backend: a}]\n", "cross the network in the clear", false},
		{"a client without a server", two + "admin: {listen: ':1', client_ca: /c}\nroutes: [{match: a, backend: a}]\n", "client_ca needs tls_cert", false},
		{"half a certificate", two + "admin: {listen: ':1', tls_cert: /c}\nroutes: [{match: a, backend: a}]\n", "want both or none", false},
		{"a host with a port", two + "admin: {listen: '127.0.0.1:1', token_file: /t, hosts: ['locks.example.com:443']}\nroutes: [{match: a, backend: a}]\n", "without a scheme or a port", false},
		{"a host with a scheme", two + "admin: {listen: '127.0.0.1:1', token_file: /t, hosts: ['https://locks.example.com']}\nroutes: [{match: a, backend: a}]\n", "without a scheme or a port", false},
		{"a host with the dot of the root", two + "admin: {listen: '127.0.0.1:1', token_file: /t, hosts: [locks.example.com.]}\nroutes: [{match: a, backend: a}]\n", "want a name or an address alone", false},
		{"an admin listener without a port", two + "admin: {listen: localhost, token_file: /t}\nroutes: [{match: a, backend: a}]\n", "want host:port", false},
		{"a rule", two + "policy:\n  rules:\n  - locks: [a]\n    may: [own]\n", "own", true},
		{"a cycle", "socket: &a {path: *a}\n", "line 1: socket.path: want a text", true},
		{"two documents", two + "---\n" + two, "more than one document", false},
		{"nothing", "# no keys\n", "it is empty", false},
		{"no YAML", "a: [\n", "line 1", true},
	} {
		t.Run(c.name, func(t *testing.T) {
			f, err := config.Parse([]byte(c.text))
			if err == nil {
				_, err = f.Compile("f", config.Overrides{})
			}
			if err == nil || !strings.Contains(err.Error(), c.says) {
				t.Errorf("refused with %v, want %q", err, c.says)
			}
			if c.name == "nothing" || c.name == "two documents" || c.name == "a cycle" {
				return // no matter of a schema
			}
			if err := valid(c.text); (err != nil) != c.schema {
				t.Errorf("the schema says: %v", err)
			}
		})
	}
}

// Flags and environment win over the file.
func TestOverrides(t *testing.T) {
	f, err := config.Parse([]byte(two + "socket: {path: /a}\nmetrics: ':1'\ntraces: {endpoint: 'http://a:1', one_in: 9}\nlimits: {leases: 5, page: 7}\nroutes: [{match: a, backend: a}]\n" +
		"policy: {rules: []}\ndrain: {leases: leave, timeout: 3s}\ndeadlock: {detect: false, resolve: youngest-waiter}\n"))
	if err != nil {
		t.Fatal(err)
	}
	policy := write(t, "policy.yaml", "rules: [{locks: ['**'], may: [acquire]}]\n")
	c, err := f.Compile("f", config.Overrides{Backend: "embedded:", Socket: "/b", Metrics: ":2", Traces: "http://b:1", PolicyFile: policy, Limits: config.Limits{Leases: 6}})
	if err != nil {
		t.Fatal(err)
	}
	if c.Socket != "/b" || c.Metrics != ":2" || c.Limits.Leases != 6 || c.Limits.Page != 7 || c.Traces != (config.TracesSection{Endpoint: "http://b:1", OneIn: 9}) || !c.Leave || c.DrainTimeout != 3*time.Second || !c.NoDeadlocks || !c.BreakDeadlocks {
		t.Errorf("%+v", c)
	}
	if d := cmp.Diff([]config.Backend{{URL: "embedded:"}}, c.Backends); d != "" {
		t.Error(d)
	}
	if r, ok := c.Route("b"); !ok || r.Backend != "" || !c.Replaced {
		t.Errorf("the flag's backend does not have every lock: %+v", r)
	}
	if d := cmp.Diff([]string{"f", policy}, c.Files); d != "" {
		t.Error(d)
	}
	if c, err = f.Compile("f", config.Overrides{}); err != nil || c.Replaced || len(c.Backends) != 1 || c.Backends[0].Name != "a" {
		t.Errorf("a backend without a route is kept: %+v, %v", c, err)
	}
	if _, ok := c.Route("b"); ok {
		t.Error("a lock without a route has one")
	}
	if _, err := (*config.File)(nil).Compile("", config.Overrides{}); !errors.Is(err, config.ErrNoBackend) {
		t.Errorf("nothing at all: %v", err)
	}
}

func TestTheSocketsModeOfAFlagWins(t *testing.T) {
	f, err := config.Parse([]byte("socket: {mode: \"0600\"}\nbackends: {main: {url: \"embedded:\"}}\n"))
	if err != nil {
		t.Fatal(err)
	}
	for mode, want := range map[string]fs.FileMode{"": 0o600, "0666": 0o666} {
		if c, err := f.Compile("c.yaml", config.Overrides{Mode: mode}); err != nil || c.Mode != want {
			t.Errorf("%q: %v, want the mode %v", mode, err, want)
		}
	}
	for _, mode := range []string{"666", "0999", "rw", "01777"} {
		if _, err := f.Compile("c.yaml", config.Overrides{Mode: mode}); err == nil || !strings.Contains(err.Error(), "want an octal mode, such as 0660") {
			t.Errorf("%q: %v", mode, err)
		}
	}
}

func TestClassesOfLocks(t *testing.T) {
	f, err := config.Parse([]byte(two + "routes: [{match: '**', backend: a}]\nlock_classes: [{match: [a/**, b], class: x}, {match: c, class: y}]\n"))
	if err != nil {
		t.Fatal(err)
	}
	for _, o := range []config.Overrides{{}, {Backend: "embedded:"}} {
		c, err := f.Compile("f", o)
		if err != nil {
			t.Fatal(err)
		}
		want := []config.Class{{Match: config.Patterns{{"a", "**"}, {"b"}}, Name: "x"}, {Match: config.Patterns{{"c"}}, Name: "y"}}
		if d := cmp.Diff(want, c.Classes); d != "" {
			t.Error(d)
		}
	}
}

// No message has what may be a secret.
func TestMessagesQuoteNoURL(t *testing.T) {
	const secret = "hunter2"
	for _, text := range []string{
		"backends: {a: 'redis://:hunter2@h'}", "backends: ['redis://:hunter2@h']", "limits: 'redis://:hunter2@h'", "limits: {leases: 'redis://:hunter2@h'}",
		"drain: {leases: 'redis://:hunter2@h', timeout: 1s}", "backends: {a: {url: ['redis://:hunter2@h']}}",
		"backends: {a: {url: 'redis://:hunter2@h', url_file: '/x'}}",
	} {
		f, err := config.Parse([]byte(text))
		if err == nil {
			_, err = f.Compile("f", config.Overrides{})
		}
		if err == nil || strings.Contains(err.Error(), secret) {
			t.Errorf("%s: %v", text, err)
		}
	}
}

func FuzzParse(f *testing.F) {
	raw, err := os.ReadFile("../../docs/config.example.yaml")
	if err != nil {
		f.Fatal(err)
	}
	f.Add(raw)
	f.Add([]byte(two))
	f.Add([]byte("backends: &a {a: *a}"))
	f.Fuzz(func(_ *testing.T, raw []byte) {
		if file, err := config.Parse(raw); err == nil {
			if c, err := file.Compile("", config.Overrides{Backend: "embedded:"}); err == nil {
				_ = c.Explain("a/b")
			}
		}
	})
}

// dev's listener has a token and no TLS: it is not for the network.
func TestDevAdmin(t *testing.T) {
	for address, ok := range map[string]bool{
		"": true, "127.0.0.1:1": true, "localhost:1": true, "[::1]:1": true,
		":1": false, "0.0.0.0:1": false, "10.0.0.1:1": false, "example.com:1": false, "127.0.0.1": false,
	} {
		a, err := config.DevAdmin(address, "token")
		if (err == nil) != ok {
			t.Errorf("%q: %v", address, err)
		}
		if ok && (a.Token != "token" || a.Listen == "" || a.Spare != (address == "")) {
			t.Errorf("%q: %+v", address, a)
		}
	}
}
