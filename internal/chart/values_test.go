package chart

import (
	"bytes"
	"encoding/json"
	"fmt"
	"maps"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/checks"
	"github.com/locksidecar/locksidecar/internal/config"
)

// value is one of values.yaml: a leaf, or a group of them.
type value struct {
	path, comment, fallback string
	group                   bool
}

// document is the chart's values.yaml.
func document(t *testing.T) *yaml.Node {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(directory, "values.yaml"))
	if err != nil {
		t.Fatal(err)
	}
	var n yaml.Node
	if err := yaml.Unmarshal(raw, &n); err != nil {
		t.Fatal(err)
	}
	return n.Content[0]
}

// valuesOf lists what is under a node, in the file's order. What is a group, and
// what a value that happens to be a mapping, is the schema's to say.
func valuesOf(t *testing.T, n *yaml.Node, schema map[string]any, prefix string) (all []value) {
	t.Helper()
	properties, _ := schema["properties"].(map[string]any)
	for i := 0; i < len(n.Content); i += 2 {
		key, v := n.Content[i], n.Content[i+1]
		path := strings.TrimPrefix(prefix+"."+key.Value, ".")
		inner, ok := properties[key.Value].(map[string]any)
		if !ok {
			t.Errorf("values.schema.json does not have %s", path)
			continue
		}
		comment := strings.Join(strings.Fields(strings.ReplaceAll(key.HeadComment, "#", "")), " ")
		if v.Kind == yaml.MappingNode && inner["properties"] != nil && !strings.HasSuffix(path, "resources") {
			all = append(all, value{path: path, comment: comment, group: true})
			all = append(all, valuesOf(t, v, inner, path)...)
			continue
		}
		var decoded any
		if err := v.Decode(&decoded); err != nil {
			t.Fatal(err)
		}
		fallback, err := json.Marshal(decoded)
		if err != nil {
			t.Fatal(err)
		}
		all = append(all, value{path: path, comment: comment, fallback: string(fallback)})
	}
	return all
}

// schema is the chart's values.schema.json.
func schema(t *testing.T) map[string]any {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(directory, "values.schema.json"))
	if err != nil {
		t.Fatal(err)
	}
	return decode(t, raw)
}

func decode(t *testing.T, raw []byte) (m map[string]any) {
	t.Helper()
	d := json.NewDecoder(bytes.NewReader(raw))
	d.UseNumber()
	if err := d.Decode(&m); err != nil {
		t.Fatal(err)
	}
	return m
}

func TestEveryValueIsDescribed(t *testing.T) {
	for _, v := range valuesOf(t, document(t), schema(t), "") {
		if v.comment == "" && !v.group {
			t.Errorf("values.yaml says nothing of %s", v.path)
		}
	}
}

// The table of the chart's README is made of the comments in values.yaml.
func TestValuesTableOfTheDocumentsIsTheCharts(t *testing.T) {
	var b strings.Builder
	b.WriteString("| value | default | |\n|---|---|---|\n")
	for _, v := range valuesOf(t, document(t), schema(t), "") {
		if !v.group {
			fmt.Fprintf(&b, "| `%s` | `%s` | %s |\n", v.path, v.fallback, strings.ReplaceAll(v.comment, "|", `\|`))
		}
	}
	checks.Table(t, filepath.Join(directory, "README.md"), "values", b.String(), *update)
}

// What the schema knows and the values lack is a value that nobody can find.
func TestSchemaHasTheValuesAlone(t *testing.T) {
	known := map[string]bool{}
	s := schema(t)
	for _, v := range valuesOf(t, document(t), s, "") {
		known[v.path] = true
	}
	var visit func(schema map[string]any, prefix string)
	visit = func(schema map[string]any, prefix string) {
		properties, _ := schema["properties"].(map[string]any)
		if schema["type"] == "object" && properties != nil && schema["additionalProperties"] != false {
			t.Errorf("the schema takes whatever is under %q", prefix)
		}
		for _, key := range slices.Sorted(maps.Keys(properties)) {
			path := strings.TrimPrefix(prefix+"."+key, ".")
			inner, _ := properties[key].(map[string]any)
			if path == "global" { // a parent chart's
				continue
			}
			if !known[path] {
				t.Errorf("values.yaml lacks %s, which the schema has", path)
			}
			if inner["description"] == nil && inner["$ref"] == nil {
				t.Errorf("the schema does not describe %s", path)
			}
			if !strings.HasSuffix(path, "resources") {
				visit(inner, path)
			}
		}
	}
	visit(s, "")
}

// The schema of config is the daemon's own, without what the injector decides.
// Names are judged by the templates: of a wrong one helm says where it is not.
func TestSchemaOfConfigIsTheDaemons(t *testing.T) {
	want := decode(t, config.Schema())
	delete(want, "$schema")
	delete(want, "title")
	properties, _ := want["properties"].(map[string]any)
	delete(properties, "socket")
	delete(properties, "metrics")
	withoutNames(want)
	want["description"] = "The daemon's configuration, without what the injector decides: socket and metrics."

	s := schema(t)
	definitions, _ := s["$defs"].(map[string]any)
	if definitions == nil {
		t.Fatal("the schema has no $defs")
	}
	if cmp.Equal(definitions["config"], any(want)) {
		return
	}
	if !*update {
		t.Fatalf("values.schema.json is not current; run: make docs\n%s", cmp.Diff(definitions["config"], any(want)))
	}
	definitions["config"] = want
	var b bytes.Buffer
	e := json.NewEncoder(&b)
	e.SetEscapeHTML(false)
	e.SetIndent("", "  ")
	if err := e.Encode(s); err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(directory, "values.schema.json"), b.Bytes(), 0o644); err != nil {
		t.Fatal(err)
	}
}

func withoutNames(v any) {
	switch v := v.(type) {
	case map[string]any:
		delete(v, "propertyNames")
		for _, inner := range v {
			withoutNames(inner)
		}
	case []any:
		for _, inner := range v {
			withoutNames(inner)
		}
	}
}

// The chart's versions are the tree's, which its other packages have, too.
func TestVersionsAreTheTrees(t *testing.T) {
	var c struct {
		Version    string `yaml:"version"`
		AppVersion string `yaml:"appVersion"`
	}
	raw, err := os.ReadFile(filepath.Join(directory, "Chart.yaml"))
	if err == nil {
		err = yaml.Unmarshal(raw, &c)
	}
	if err != nil {
		t.Fatal(err)
	}
	raw, err = os.ReadFile(filepath.Join(root, "examples/node/package.json"))
	if err != nil {
		t.Fatal(err)
	}
	if tree := decode(t, raw)["version"]; c.Version != tree || c.AppVersion != tree {
		t.Errorf("the chart has the versions %q and %q, the package for Node %q", c.Version, c.AppVersion, tree)
	}
}
