package chart

import (
	"os"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"
)

// bulk are the objects that are a file of the chart with a head: a golden has no
// second copy.
var bulk = regexp.MustCompile(`(?m)^# Source: locksidecar/templates/(dashboard|prometheusrule)\.yaml$`)

func golden(rendered string) string {
	var kept []string
	for _, document := range strings.Split(rendered, "---\n") {
		if !bulk.MatchString(document) {
			kept = append(kept, document)
		}
	}
	return strings.Join(kept, "---\n")
}

func TestRenderingsAreTheGoldens(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		path := filepath.Join("testdata", filepath.Base(t.Name())+".golden.yaml")
		got := golden(rendered)
		want, err := os.ReadFile(path)
		if err == nil && string(want) == got {
			return
		}
		if !*update {
			t.Fatalf("%s is not what is rendered (%v); look at it, then run: go test ./internal/chart -update\n%s", path, err, cmp.Diff(string(want), got))
		}
		if err := os.WriteFile(path, []byte(got), 0o644); err != nil {
			t.Fatal(err)
		}
	})
}

// A tool that compares the cluster with what is rendered must find no difference.
func TestRenderedTwiceIsTheSame(t *testing.T) {
	each(t, func(t *testing.T, rendered string) {
		if again := render(t, variants[filepath.Base(t.Name())]...); again != rendered {
			t.Error(cmp.Diff(rendered, again))
		}
	})
	err := filepath.WalkDir(filepath.Join(directory, "templates"), func(path string, d os.DirEntry, err error) error {
		if err != nil || d.IsDir() {
			return err
		}
		raw, err := os.ReadFile(path)
		if err != nil {
			return err
		}
		for _, action := range regexp.MustCompile(`(?s){{.*?}}`).FindAllString(string(raw), -1) {
			if found := regexp.MustCompile(`\b(now|date\w*|rand\w*|uuidv4|lookup|gen(CA|SignedCert|SelfSignedCert|PrivateKey)\w*|derivePassword|encryptAES|getHostByName|bcrypt|htpasswd)\b`).FindString(action); found != "" {
				t.Errorf("%s: %q is another each time: %s", path, found, action)
			}
		}
		return nil
	})
	if err != nil {
		t.Fatal(err)
	}
}
