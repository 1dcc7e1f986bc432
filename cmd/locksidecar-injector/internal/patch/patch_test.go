package patch

import (
	"encoding/json"
	"math/rand/v2"
	"reflect"
	"strings"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
)

func decoded(t *testing.T, text string) (v any) {
	t.Helper()
	if err := json.Unmarshal([]byte(text), &v); err != nil {
		t.Fatal(err)
	}
	return v
}

// applied is what another's code makes of the patch.
func applied(t *testing.T, from string, steps []Operation) any {
	t.Helper()
	raw, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	p, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Apply([]byte(from))
	if err != nil {
		t.Fatalf("%s does not apply to %s: %v", raw, from, err)
	}
	return decoded(t, string(out))
}

func TestPatches(t *testing.T) {
	for _, row := range []struct {
		name, from, to string
		steps          string
	}{
		{"nothing", `{"a":1}`, `{"a":1}`, `null`},
		{"a new key", `{}`, `{"a/b~c":""}`, `[{"op":"add","path":"/a~1b~0c","value":""}]`},
		{"a value", `{"a":1}`, `{"a":2}`, `[{"op":"replace","path":"/a","value":2}]`},
		{"a key that is gone", `{"a":1}`, `{}`, `[{"op":"remove","path":"/a"}]`},
		{"a first element", `{"l":[{"name":"b"}]}`, `{"l":[{"name":"a"},{"name":"b"}]}`, `[{"op":"add","path":"/l/0","value":{"name":"a"}}]`},
		{"inside an element that moved", `{"l":[{"name":"b"}]}`, `{"l":[{"name":"a"},{"name":"b","x":1}]}`,
			`[{"op":"add","path":"/l/0","value":{"name":"a"}},{"op":"add","path":"/l/1/x","value":1}]`},
		{"mounts of one volume", `{"l":[{"name":"v","mountPath":"/a"},{"name":"v","mountPath":"/b"}]}`,
			`{"l":[{"name":"v","mountPath":"/b"},{"name":"w","mountPath":"/c"}]}`,
			`[{"op":"remove","path":"/l/0"},{"op":"add","path":"/l/1","value":{"mountPath":"/c","name":"w"}}]`},
		{"another order", `{"l":[{"name":"a"},{"name":"b"}]}`, `{"l":[{"name":"b"},{"name":"a"}]}`,
			`[{"op":"replace","path":"/l","value":[{"name":"b"},{"name":"a"}]}]`},
		{"texts", `{"l":["a"]}`, `{"l":["a","b"]}`, `[{"op":"replace","path":"/l","value":["a","b"]}]`},
		{"an empty list", `{"l":[]}`, `{"l":[{"name":"a"}]}`, `[{"op":"add","path":"/l/0","value":{"name":"a"}}]`},
	} {
		t.Run(row.name, func(t *testing.T) {
			steps, err := Between(decoded(t, row.from), decoded(t, row.to))
			if err != nil {
				t.Fatal(err)
			}
			raw, err := json.Marshal(steps)
			if err != nil || string(raw) != row.steps {
				t.Errorf("%s, %v; want %s", raw, err, row.steps)
			}
			if got := applied(t, row.from, steps); !reflect.DeepEqual(got, decoded(t, row.to)) {
				t.Errorf("applied, it gives %v", got)
			}
		})
	}
}

// What the patch's maker does not know stays.
func TestUnknownFieldsStay(t *testing.T) {
	steps, err := Between(decoded(t, `{"l":[{"name":"a"}]}`), decoded(t, `{"l":[{"name":"x"},{"name":"a","e":1}]}`))
	if err != nil {
		t.Fatal(err)
	}
	got := applied(t, `{"new":true,"l":[{"name":"a","later":{"v":2}}]}`, steps)
	if want := decoded(t, `{"new":true,"l":[{"name":"x"},{"name":"a","later":{"v":2},"e":1}]}`); !reflect.DeepEqual(got, want) {
		t.Errorf("%v, want %v", got, want)
	}
}

// Whatever the two are, the patch leads from one to the other.
func TestAnyPatchLeadsThere(t *testing.T) {
	r := rand.New(rand.NewPCG(8, 37))
	for range 1000 {
		from, to := document(r, 3), document(r, 3)
		a, err := json.Marshal(from)
		if err != nil {
			t.Fatal(err)
		}
		steps, err := Between(from, to)
		if err != nil {
			t.Fatal(err)
		}
		if len(steps) == 1 && steps[0].Path == "" {
			continue // another kind of document as a whole
		}
		if got := applied(t, string(a), steps); !reflect.DeepEqual(got, to) {
			t.Fatalf("from %s by %v: %v, want %v", a, steps, got, to)
		}
	}
}

func document(r *rand.Rand, depth int) any {
	object := map[string]any{}
	for _, key := range []string{"name", "mountPath", "a/b", "c~d"} {
		if r.IntN(2) == 0 {
			object[key] = strings.Repeat("x", r.IntN(3))
		}
	}
	if depth > 0 {
		for _, key := range []string{"l", "m"} {
			var list []any
			for range r.IntN(4) {
				list = append(list, document(r, depth-1))
			}
			if list != nil {
				object[key] = list
			}
		}
	}
	return object
}
