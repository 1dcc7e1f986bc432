package operations

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

const (
	runbooks = root + "/docs/runbooks"
	// published is where the pages are read from.
	published = "https://github.com/locksidecar/locksidecar/blob/main/docs/runbooks/"
)

// tasks are the pages that belong to no alert.
var tasks = []string{
	"store-flush.md", "node-replacement.md", "failover.md", "ttl-tuning.md", "clock-trouble.md", "upgrade.md", "capacity.md",
}

func page(t *testing.T, name string) string {
	t.Helper()
	raw, err := os.ReadFile(filepath.Join(runbooks, name))
	if err != nil {
		t.Fatal(err)
	}
	return string(raw)
}

func TestEachAlertHasItsRunbook(t *testing.T) {
	index := page(t, "README.md")
	pages := slices.Clone(tasks)
	for _, a := range alerts(t) {
		name := a.page()
		if a.Annotations["runbook_url"] != published+name {
			t.Errorf("%s: the runbook is %s", a.Alert, a.Annotations["runbook_url"])
		}
		if text := page(t, name); !strings.Contains(text, "\nAlert: `"+a.Alert+"`.\n") {
			t.Errorf("%s does not name the alert %s", name, a.Alert)
		}
		if !strings.Contains(index, "| `"+a.Alert+"` | [") || !strings.Contains(index, "]("+name+")") {
			t.Errorf("the index does not lead from %s to %s", a.Alert, name)
		}
		if wakes := strings.Contains(line(index, "`"+a.Alert+"`"), "| yes |"); wakes != (a.Labels["severity"] == "page") {
			t.Errorf("the index says that %s wakes somebody: %v", a.Alert, wakes)
		}
		pages = append(pages, name)
	}
	entries, err := os.ReadDir(runbooks)
	if err != nil {
		t.Fatal(err)
	}
	for _, e := range entries {
		if e.Name() != "README.md" && !slices.Contains(pages, e.Name()) {
			t.Errorf("%s is of no alert and no task", e.Name())
		}
	}
	for _, name := range tasks {
		if !strings.Contains(index, "]("+name+")") {
			t.Errorf("the index does not lead to %s", name)
		}
	}
}

// line is the one of the text that has the part.
func line(text, part string) string {
	for l := range strings.Lines(text) {
		if strings.Contains(l, part) {
			return l
		}
	}
	return ""
}

// sections are those of each page, in this order.
var sections = []string{"What it means", "Impact", "See", "Act", "Verify"}

// Every page says the same things in the same order, and its commands stand in
// blocks that the tests run.
func TestRunbooksHaveTheirSections(t *testing.T) {
	files, err := filepath.Glob(filepath.Join(runbooks, "*.md"))
	if err != nil || len(files) < 20 {
		t.Fatalf("%d runbooks: %v", len(files), err)
	}
	for _, f := range files {
		name := filepath.Base(f)
		if name == "README.md" {
			continue
		}
		text := page(t, name)
		var found []string
		for part := range strings.SplitSeq("\n"+text, "\n## ") {
			heading, body, _ := strings.Cut(part, "\n")
			if heading == "" || strings.HasPrefix(part, "\n# ") || strings.HasPrefix(part, "# ") {
				continue
			}
			found = append(found, heading)
			// Of a cluster: internal/kubetest runs those on one.
			command := strings.Contains(body, "\n```sh runbook\n") || strings.Contains(body, "\n```sh cluster\n")
			if (heading == "See" || heading == "Verify") && !command {
				t.Errorf("%s: %s has no command", name, heading)
			}
		}
		if !slices.Equal(found, sections) {
			t.Errorf("%s has the sections %q, want %q", name, found, sections)
		}
		for l := range strings.Lines(text) {
			if strings.HasPrefix(l, "    ") && !strings.Contains(text, "```sh runbook\n"+l) && strings.TrimSpace(l) != "" {
				t.Errorf("%s has a block that no test runs: %s", name, l)
			}
		}
	}
}
