package chart

import (
	"slices"
	"strings"
	"testing"

	"sigs.k8s.io/yaml"
)

// Names that look like something else in YAML, as the API's own reader reads it,
// which takes more for booleans than others do.
func TestNamesThatLookLikeSomethingElseAreTexts(t *testing.T) {
	all := []string{
		"--namespace", "456", "--values", "testdata/all-values.yaml",
		"--set-string", "image.repository=1,image.digest=,image.tag=20,image.pullSecrets[0]=456,injector.priorityClassName=789,secrets[0].name=123,serviceAccount.annotations.a=1",
		"--set-string", "injector.nodeSelector.a=true,metrics.podMonitor.labels.a=1,metrics.prometheusRule.labels.a=1,metrics.dashboard.labels.a=1",
		"--set-string", "certificates.existingSecret=1e3,certificates.certManager=",
	}
	for release, args := range map[string][]string{
		"true": {"--set", "fullnameOverride="},
		"no":   {"--set-string", "fullnameOverride=null"},
		"123":  {"--set-string", "fullnameOverride=y"},
		"1e3":  {"--set-string", "fullnameOverride=off"},
	} {
		t.Run(release, func(t *testing.T) {
			t.Parallel()
			out, errs, err := helm(t, slices.Concat([]string{"template", release, directory}, all, args)...)
			if err != nil {
				t.Fatalf("%v\n%s", err, errs)
			}
			n := 0
			for _, document := range strings.Split(out, "\n---\n") {
				var o any
				if err := yaml.Unmarshal([]byte(document), &o); err != nil {
					t.Fatalf("%v\n%s", err, document)
				}
				n += texts(t, "", o)
			}
			if n < 100 {
				t.Errorf("only %d names were looked at", n)
			}
		})
	}
}

// texts looks at every name, and at every value where all are texts, and returns how
// many there were.
func texts(t *testing.T, path string, v any) (n int) {
	t.Helper()
	switch v := v.(type) {
	case map[string]any:
		of := path[strings.LastIndex(path, ".")+1:]
		for key, inner := range v {
			where := path + "." + key
			_, group := inner.(map[string]any)
			if slices.Contains([]string{"labels", "annotations", "matchLabels", "nodeSelector"}, of) || !group &&
				slices.Contains([]string{"name", "namespace", "secretName", "serviceAccountName", "priorityClassName", "image", "key", "operator", "app.kubernetes.io/instance"}, key) {
				n++
				if _, ok := inner.(string); !ok {
					t.Errorf("%s is %v, which is no text", where, inner)
				}
				continue
			}
			n += texts(t, where, inner)
		}
	case []any:
		for _, inner := range v {
			if _, ok := inner.(string); !ok && (strings.HasSuffix(path, ".values") || strings.HasSuffix(path, ".resourceNames")) {
				t.Errorf("%s has %v, which is no text", path, inner)
			}
			n += texts(t, path, inner)
		}
	}
	return n
}

// A release's name may have what the name of a Service may not.
func TestServicesHaveNamesThatTheyMay(t *testing.T) {
	for release, want := range map[string]string{
		"my.rel":           "my-rel-locksidecar-injector",
		"locksidecar.1.eu": "locksidecar-1-eu-injector",
	} {
		out, errs, err := helm(t, append([]string{"template", release, directory, "--namespace", "locks"}, variants["dev"]...)...)
		if err != nil {
			t.Fatalf("%v\n%s", err, errs)
		}
		if got := one(t, out, "Service/"+want).text("metadata", "labels", "app.kubernetes.io/instance"); got != release {
			t.Errorf("the release %s is called %q", release, got)
		}
	}
	first := append([]string{"template", "1st", directory, "--namespace", "locks"}, variants["dev"]...)
	const says = `the release's name "1st" begins with a digit, and the name of a Service must begin with a letter: set fullnameOverride`
	if _, errs, err := helm(t, first...); err == nil || !strings.Contains(errs, says) {
		t.Errorf("%v\n%s\nwant: %s", err, errs, says)
	}
	if out, errs, err := helm(t, append(first, "--set", "fullnameOverride=first")...); err != nil {
		t.Errorf("%v\n%s", err, errs)
	} else {
		one(t, out, "Service/first-injector")
	}
}
