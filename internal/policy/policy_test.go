package policy_test

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/policy"
)

// names are the users and groups of these tests.
var names = policy.Lookup{
	User:  func(name string) (uint32, error) { return find(name, map[string]uint32{"web": 1000, "nobody": 65534}) },
	Group: func(name string) (uint32, error) { return find(name, map[string]uint32{"ops": 50, "nogroup": 65534}) },
}

func find(name string, ids map[string]uint32) (uint32, error) {
	if id, ok := ids[name]; ok {
		return id, nil
	}
	return 0, errors.New("unknown here")
}

func parse(t *testing.T, text string) *policy.Policy {
	t.Helper()
	p, err := policy.Parse([]byte(text), names)
	if err != nil {
		t.Fatal(err)
	}
	return p
}

const example = `
rules:
  - who: {uid: web}
    locks: [secret/**]
    may: []
  - who: {uid: [web, 1001]}
    locks: ["jobs/*", orders/**, one]
    may: [acquire, inspect]
  - who: {gid: ops, socket: /run/admin.sock}
    locks: ["**"]
    may: [inspect, force]
  - locks: [public/**]
    may: [inspect]
`

func TestCheck(t *testing.T) {
	p := parse(t, example)
	web := policy.Subject{Socket: "/run/api.sock", UID: 1000, GID: 1000}
	ops := policy.Subject{Socket: "/run/admin.sock", UID: 7, GID: 7, Groups: []uint32{4, 50}}
	opsElsewhere := ops
	opsElsewhere.Socket = "/run/api.sock"
	primary := policy.Subject{Socket: "/run/admin.sock", UID: 7, GID: 50}
	for _, c := range []struct {
		who  policy.Subject
		verb policy.Verb
		lock string
		may  bool
	}{
		{web, policy.Acquire, "jobs/nightly", true},
		{web, policy.Acquire, "jobs/nightly/part", false}, // * is one segment
		{web, policy.Acquire, "jobs", false},
		{web, policy.Acquire, "orders/42", true},
		{web, policy.Acquire, "orders/42/lines/1", true}, // ** is the rest
		{web, policy.Acquire, "orders", false},           // and the rest is not nothing
		{web, policy.Acquire, "orders2/42", false},
		{web, policy.Acquire, "one", true},
		{web, policy.Acquire, "one/two", false},
		{web, policy.Force, "orders/42", false},
		{web, policy.Inspect, "public/a", true},
		{web, policy.Acquire, "public/a", false},
		{web, policy.Inspect, "secret/a", false}, // the first rule decides, although a later one could grant
		{web, policy.Verb("own"), "orders/42", false},
		{web, policy.Inspect, "", true},
		{web, policy.Force, "", false},
		{ops, policy.Force, "orders/42", true},
		{ops, policy.Force, "secret/a", true}, // the first rule is not about this peer
		{ops, policy.Acquire, "orders/42", false},
		{ops, policy.Force, "", true},
		{primary, policy.Force, "orders/42", true},
		{opsElsewhere, policy.Force, "orders/42", false},
		{opsElsewhere, policy.Inspect, "public/a", true},
		{opsElsewhere, policy.Inspect, "private/a", false},
	} {
		if err := p.Check(&c.who, c.verb, c.lock); (err == nil) != c.may {
			t.Errorf("%+v %s %q: %v, want granted %t", c.who, c.verb, c.lock, err, c.may)
		}
	}
}

// Ids that the kernel gives for those whom it cannot name are nobody's, even if
// a policy could name them.
func TestOverflowIDsIdentifyNobody(t *testing.T) {
	stranger := policy.Subject{Socket: "/run/api.sock", UID: 65534, GID: 65534, Groups: []uint32{65534}}
	p := parse(t, "rules: [{who: {socket: /run/api.sock}, locks: [a], may: [acquire]}, {who: {uid: [1, 2]}, locks: ['**'], may: [force]}]")
	if err := p.Check(&stranger, policy.Acquire, "a"); err != nil {
		t.Errorf("by the socket alone: %v", err)
	}
	if p.Check(&stranger, policy.Force, "a") == nil {
		t.Error("somebody without a name has a user's rights")
	}
	for _, who := range []string{"uid: 65534", "uid: nobody", "gid: 65534", "gid: [5, nogroup]"} {
		if _, err := policy.Parse([]byte("rules:\n- who: {"+who+"}\n  locks: [a]\n  may: [acquire]\n"), names); err == nil || !strings.Contains(err.Error(), "line 2") {
			t.Errorf("%s: %v, want an error with its line", who, err)
		}
	}
}

func TestDefaultIsDeny(t *testing.T) {
	p := parse(t, "rules: []")
	for _, lock := range []string{"", "a"} {
		if p.Check(&policy.Subject{}, policy.Inspect, lock) == nil {
			t.Error("a policy without rules grants something")
		}
	}
}

func TestMistakesAreNamedWithTheirLine(t *testing.T) {
	for text, says := range map[string][]string{
		"":                      {"empty"},
		"rules: []\n---\n{}":    {"more than one document"},
		"[]":                    {"line 1", "rules"},
		"\nrule: []":            {"line 2", `"rule"`, "rules"},
		"rules:\n- lock: [a]\n": {"line 2", `"lock"`, "locks, may, who"},
		"rules:\n- locks: [a]\n  may: [acquire]\n  may: [force]\n":                   {"line 4", "twice"},
		"rules:\n- locks: [a]\n":                                                     {"line 2", `"may"`},
		"rules:\n- may: [acquire]\n":                                                 {"line 2", `"locks"`},
		"rules:\n- locks: [a]\n  may:\n  - acquire\n  - aquire\n":                    {"line 5", "aquire", "acquire, inspect, force"},
		"rules:\n- locks:\n  - a\n  - user*\n  may: []\n":                            {"line 4", "*"},
		"rules:\n- locks: ['**/a']\n  may: []\n":                                     {"line 2", "last"},
		"rules:\n- locks: [a//b]\n  may: []\n":                                       {"line 2", "empty"},
		"rules:\n- locks: a\n  may: []\n":                                            {"line 2", "locks", "list"},
		"rules:\n- who:\n    user: web\n  locks: [a]\n  may: []\n":                   {"line 3", `"user"`, "gid, socket, uid"},
		"rules:\n- who:\n    uid: webb\n  locks: [a]\n  may: []\n":                   {"line 3", "webb"},
		"rules:\n- who:\n    uid: -1\n  locks: [a]\n  may: []\n":                     {"line 3", "-1"},
		"rules:\n- who:\n    uid: []\n  locks: [a]\n  may: []\n":                     {"line 3", "uid"},
		"rules:\n- who:\n    uid:\n  locks: [a]\n  may: []\n":                        {"line 3", "uid"},
		"rules:\n- who:\n    uid: [1, {}]\n  locks: [a]\n  may: []\n":                {"line 3", "uid"},
		"rules:\n- who:\n    socket: api.sock\n  locks: [a]\n  may: []\n":            {"line 3", "absolute"},
		"rules:\n- who: {uid: 1}\n  locks: [a]\n  may: [acquire]\n  deny: [force]\n": {"line 5", "deny"},
		"rules: [":      {"line 1"},
		"rules: {a: 1}": {"line 1", "list"},
	} {
		_, err := policy.Parse([]byte(text), names)
		if err == nil {
			t.Errorf("%q is taken", text)
			continue
		}
		for _, s := range says {
			if !strings.Contains(err.Error(), s) {
				t.Errorf("%q: %v; it does not say %q", text, err, s)
			}
		}
	}
}

// The section is read as strictly inside a document of another package.
func TestSectionOfALargerDocument(t *testing.T) {
	var doc struct {
		Socket string         `yaml:"socket"`
		Policy policy.Section `yaml:"policy"`
	}
	if err := yaml.Unmarshal([]byte("socket: /s\npolicy:\n  rules:\n  - {locks: [a], may: [acquire]}\n"), &doc); err != nil {
		t.Fatal(err)
	}
	p, err := doc.Policy.Compile(names)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(&policy.Subject{}, policy.Acquire, "a"); err != nil {
		t.Error(err)
	}
	if err := yaml.Unmarshal([]byte("policy:\n  rulez: []\n"), &doc); err == nil || !strings.Contains(err.Error(), "line 2") {
		t.Errorf("an unknown key: %v", err)
	}
}

func TestLoad(t *testing.T) {
	path := filepath.Join(t.TempDir(), "policy.yaml")
	if err := os.WriteFile(path, []byte("rules: [{who: {uid: root, gid: root}, locks: ['**'], may: [inspect]}]"), 0o600); err != nil {
		t.Fatal(err)
	}
	p, err := policy.Load(path)
	if err != nil {
		t.Fatal(err)
	}
	if err := p.Check(&policy.Subject{}, policy.Inspect, "a"); err != nil {
		t.Errorf("root: %v", err)
	}
	if p.Check(&policy.Subject{UID: 1}, policy.Inspect, "a") == nil {
		t.Error("another is root")
	}
	if _, err := policy.Load(path + "x"); !errors.Is(err, os.ErrNotExist) {
		t.Errorf("a missing file: %v", err)
	}
}

func FuzzParse(f *testing.F) {
	f.Add([]byte(example))
	f.Add([]byte("rules: &r [{locks: [*r], may: []}]"))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if p, err := policy.Parse(raw, names); err == nil {
			_ = p.Check(&policy.Subject{}, policy.Acquire, "a/b")
		}
	})
}
