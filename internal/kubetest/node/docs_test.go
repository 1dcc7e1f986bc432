//go:build cluster

package node

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// documentedImage is the application's in docs/kubernetes.md.
const documentedImage = "registry.example/orders:1"

// snippet is a block of a document that is for a cluster.
type snippet struct {
	where, text string
}

// snippets are a document's blocks with the fence "sh cluster".
func snippets(t *testing.T, file string) (found []snippet) {
	t.Helper()
	root, err := kube.Root()
	if err != nil {
		t.Fatal(err)
	}
	raw, err := os.ReadFile(filepath.Join(root, file))
	if err != nil {
		t.Fatal(err)
	}
	var open *snippet
	for i, line := range strings.Split(string(raw), "\n") {
		switch {
		case open != nil && line == "```":
			found = append(found, *open)
			open = nil
		case open != nil:
			open.text += line + "\n"
		case line == "```sh cluster":
			open = &snippet{where: fmt.Sprintf("%s:%d", file, i+1)}
		}
	}
	return found
}

// Every block of the documents that is for a cluster runs, as it stands: those of
// docs/kubernetes.md from the install to the uninstall, and before that those of the
// runbooks. After each, every Deployment runs.
func TestSnippetsOfTheDocumentsRun(t *testing.T) {
	root, err := kube.Root()
	if err != nil {
		t.Fatal(err)
	}
	guide := snippets(t, "docs/kubernetes.md")
	if len(guide) < 5 {
		t.Fatalf("docs/kubernetes.md has only %d blocks for a cluster", len(guide))
	}
	runbooks, err := filepath.Glob(filepath.Join(root, "docs", "runbooks", "*.md"))
	if err != nil || len(runbooks) == 0 {
		t.Fatalf("no runbooks: %v", err)
	}
	var all, theirs []snippet
	for _, file := range runbooks {
		theirs = append(theirs, snippets(t, filepath.Join("docs", "runbooks", filepath.Base(file)))...)
	}
	for _, s := range guide {
		if strings.Contains(s.text, "helm uninstall") {
			all, theirs = append(all, theirs...), nil
		}
		all = append(all, s)
	}
	if theirs != nil {
		t.Fatal("docs/kubernetes.md does not say how to uninstall")
	}
	t.Cleanup(func() {
		ctx := cluster.Outliving(t)
		if t.Failed() {
			out, _ := cluster.TryKubectl(ctx, "", "get", "pods,events", "-A", "-o", "wide")
			t.Log(out)
		}
		cluster.Kubectl(ctx, "delete", "namespace", "shop", "locksidecar", "--ignore-not-found", "--timeout=80s")
	})
	for _, s := range all {
		ok := t.Run(s.where, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 2*kube.Patience)
			defer cancel()
			cmd := exec.CommandContext(ctx, "bash", "-euo", "pipefail", "-c", s.text)
			cmd.Dir, cmd.Env = root, append(cluster.Env(), "PATH="+filepath.Join(root, "build", "tools")+":"+os.Getenv("PATH"))
			out, err := cmd.CombinedOutput()
			if err != nil {
				t.Fatalf("%v\n%s\nprinted:\n%s", err, s.text, out)
			}
			t.Logf("%s", out)
			cluster.Kubectl(t, "wait", "--for=condition=Available", "--timeout=80s", "-A", "--all", "deployment")
		})
		if !ok {
			t.FailNow() // those that follow rest on it
		}
	}
}
