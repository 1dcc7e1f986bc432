package offline

import (
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
)

// injector is one that remembers what it told.
func injector() (*Injector, *[]string) {
	told := &[]string{}
	return &Injector{
		Settings: &inject.Settings{Version: "v1", Image: "example/locksidecar:1", RunAsUser: 1, LogLevel: "info", Configuration: "backends: {}\n"},
		Tell:     func(message string) { *told = append(*told, message) },
	}, told
}

const pod = "kind: Pod\nmetadata: {name: web, labels: {locksidecar.dev/inject: \"true\"}}\nspec: {containers: [{name: app}]}\n"

// How a file is written plays no part.
func TestFormsOfOneFile(t *testing.T) {
	in, _ := injector()
	want, err := in.Documents([]byte(pod))
	if err != nil || !strings.Contains(string(want), "restartPolicy: Always") {
		t.Fatalf("%v\n%s", err, want)
	}
	for name, text := range map[string]string{
		"a byte order mark":  "\uFEFF" + pod,
		"lines of elsewhere": strings.ReplaceAll(pod, "\n", "\r\n"),
		"a separator first":  "---\n" + pod,
		"with a comment":     "--- # a pod\n" + pod,
		"no last line end":   strings.TrimSuffix(pod, "\n"),
		"JSON":               `{"kind":"Pod","metadata":{"name":"web","labels":{"locksidecar.dev/inject":"true"}},"spec":{"containers":[{"name":"app"}]}}`,
	} {
		if got, err := in.Documents([]byte(text)); err != nil || string(got) != string(want) {
			t.Errorf("%s: %v\n%s", name, err, got)
		}
	}
}

// What is left alone is left as it is, to the byte.
func TestWhatIsLeftAloneIsLeftAsItIs(t *testing.T) {
	in, told := injector()
	for _, text := range []string{
		"", "# nothing\n", "kind: Service\nspec:   {a: 1} # odd\n", "a: 1\n---\nb: 2\n", "kind: CustomList\nitems:\n- a: 1\n",
		strings.Replace(pod, `"true"`, `"false"`, 1),
	} {
		if got, err := in.Documents([]byte(text)); err != nil || string(got) != text {
			t.Errorf("%q became %q, %v", text, got, err)
		}
	}
	if len(*told) != 1 || !strings.Contains((*told)[0], "Pod web: it has no label") {
		t.Errorf("it told %q", *told)
	}
}

// A text that looks like a separator inside a value is one of the value.
func TestASeparatorInsideAValue(t *testing.T) {
	in, _ := injector()
	text := "kind: ConfigMap\ndata:\n  file: |\n    ---\n    x\n"
	if got, err := in.Documents([]byte(text)); err != nil || string(got) != text {
		t.Errorf("it became %q, %v", got, err)
	}
}

func TestWhatCannotBeReadIsRefused(t *testing.T) {
	in, _ := injector()
	for _, text := range []string{"kind: {", "kind: Pod\nkind: Pod\n", strings.Replace(pod, "[{name: app}]", "{}", 1), "kind: Deployment\n", "--- {a: 1}\n", "a: 1\n...\nb: 1\n", "kind: List\nitems: [x]\n"} {
		if out, err := in.Documents([]byte(text)); err == nil {
			t.Errorf("%q became %q", text, out)
		}
	}
}

// A fuzzed manifest is an error or comes out, and once injected stays the same.
func FuzzDocuments(f *testing.F) {
	f.Add([]byte(pod))
	f.Add([]byte("kind: List\nitems:\n- " + strings.ReplaceAll(pod, "\n", "\n  ")))
	f.Add([]byte("a: 1\n---\n" + strings.Replace(pod, "{name: app}", "{name: app, env: null, volumeMounts: []}", 1)))
	f.Fuzz(func(t *testing.T, raw []byte) {
		if strings.Contains(string(raw), "\r") {
			return // what becomes of those is of no interest
		}
		in, told := injector()
		out, err := in.Documents(raw)
		if err != nil || !strings.Contains(strings.Join(*told, "\n"), ": injected; ") {
			return
		}
		again, err := in.Documents(out)
		if err != nil || string(again) != string(out) {
			t.Fatalf("%v\nonce:\n%s\nand again:\n%s", err, out, again)
		}
	})
}
