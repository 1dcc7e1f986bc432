package chart

import (
	"bytes"
	"errors"
	"flag"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// root is the repository's, directory the chart's.
const (
	root      = "../.."
	directory = root + "/charts/locksidecar"
)

var update = flag.Bool("update", false, "write the goldens, the schema's part and the documents' table")

// helm runs it with a home of its own, and returns what it printed.
func helm(t *testing.T, args ...string) (out, errs string, err error) {
	t.Helper()
	home := t.TempDir()
	var stdout, stderr bytes.Buffer
	cmd := exec.CommandContext(t.Context(), testenv.Helm(t), args...)
	cmd.Env = append(os.Environ(), "HOME="+home, "HELM_CACHE_HOME="+home, "HELM_CONFIG_HOME="+home, "HELM_DATA_HOME="+home,
		"KUBECONFIG="+filepath.Join(home, "none"))
	cmd.Stdout, cmd.Stderr = &stdout, &stderr
	err = cmd.Run()
	return stdout.String(), stderr.String(), err
}

// variants are the ways to render the chart which the goldens show.
var variants = map[string][]string{
	"dev": {"--values", directory + "/values-dev.yaml"},
	"ha":  {"--values", directory + "/values-ha.yaml", "--set", "image.repository=registry.example/locksidecar"},
	"all": {"--values", "testdata/all-values.yaml"},
}

// template is the command that renders it as a release of the name.
func template(args ...string) []string {
	return append([]string{"template", "locksidecar", directory, "--namespace", "locks"}, args...)
}

// render renders it, which must succeed.
func render(t *testing.T, args ...string) string {
	t.Helper()
	out, errs, err := helm(t, template(args...)...)
	if err != nil {
		t.Fatalf("%v\n%s", err, errs)
	}
	return out
}

// object is one that was rendered.
type object map[string]any

// at is the value under a path, nil if there is none.
func (o object) at(path ...string) any {
	var v any = map[string]any(o)
	for _, key := range path {
		m, ok := v.(map[string]any)
		if !ok {
			return nil
		}
		v = m[key]
	}
	return v
}

func (o object) text(path ...string) string {
	s, _ := o.at(path...).(string)
	return s
}

func (o object) String() string { return o.text("kind") + "/" + o.text("metadata", "name") }

// hook is when helm makes it, empty for one of the release.
func (o object) hook() string { return o.text("metadata", "annotations", "helm.sh/hook") }

// objects are those of a rendering.
func objects(t *testing.T, rendered string) (all []object) {
	t.Helper()
	for d := yaml.NewDecoder(strings.NewReader(rendered)); ; {
		o := map[string]any{}
		if err := d.Decode(&o); errors.Is(err, io.EOF) {
			return all
		} else if err != nil {
			t.Fatalf("%v\n%s", err, rendered)
		}
		if len(o) > 0 {
			all = append(all, o)
		}
	}
}

// one is the object of the name, such as Job/locksidecar-store-init.
func one(t *testing.T, rendered, name string) object {
	t.Helper()
	var names []string
	for _, o := range objects(t, rendered) {
		if o.String() == name {
			return o
		}
		names = append(names, o.String())
	}
	t.Fatalf("there is no %s; there are %v", name, names)
	return nil
}

// each runs a test for each variant.
func each(t *testing.T, test func(t *testing.T, rendered string)) {
	t.Helper()
	for name, args := range variants {
		t.Run(name, func(t *testing.T) { test(t, render(t, args...)) })
	}
}
