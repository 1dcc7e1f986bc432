package operations

import (
	"bytes"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"go.yaml.in/yaml/v3"
)

// dashboard is what Grafana needs of one.
type dashboard struct {
	UID           string  `json:"uid"`
	Title         string  `json:"title"`
	SchemaVersion int     `json:"schemaVersion"`
	Panels        []panel `json:"panels"`
	Time          struct{ From, To string }
	Templating    struct{ List []variable }
}

type variable struct {
	Name, Type string
	Datasource *datasource
	Query      any
	Definition string
}

type datasource struct{ Type, UID string }

type panel struct {
	ID          int
	Type, Title string
	Datasource  *datasource
	GridPos     struct{ H, W, X, Y int }
	FieldConfig struct{ Defaults struct{ Unit string } }
	Targets     []struct {
		RefID        string `json:"refId"`
		Expr         string
		LegendFormat string
		Datasource   *datasource
	}
	Panels []panel
}

func readDashboard(t *testing.T) *dashboard {
	t.Helper()
	raw, err := os.ReadFile(dashboardFile)
	if err != nil {
		t.Fatal(err)
	}
	d := &dashboard{}
	if err := json.NewDecoder(bytes.NewReader(raw)).Decode(d); err != nil {
		t.Fatal(err)
	}
	if len(d.Panels) < 10 {
		t.Fatalf("there are only %d panels", len(d.Panels))
	}
	return d
}

// types are those of panels that the dashboard uses.
var types = []string{"row", "stat", "timeseries"}

func TestDashboardIsOneThatGrafanaShows(t *testing.T) {
	d := readDashboard(t)
	if d.UID == "" || d.Title == "" || d.SchemaVersion < 36 || d.Time.From == "" || d.Time.To == "" {
		t.Errorf("%+v", d)
	}
	variables := map[string]bool{"__rate_interval": true, "__all": true}
	for _, v := range d.Templating.List {
		if v.Name == "" || v.Type != "datasource" && (v.Type != "query" || v.Definition == "" || v.Query == nil) {
			t.Errorf("the variable %+v", v)
		}
		variables[v.Name] = true
	}
	ids := map[int]bool{}
	for i, p := range d.Panels {
		if p.ID <= 0 || ids[p.ID] || p.Title == "" || !slices.Contains(types, p.Type) || len(p.Panels) > 0 {
			t.Errorf("the panel %d %q of the type %q", p.ID, p.Title, p.Type)
		}
		ids[p.ID] = true
		if g := p.GridPos; g.W <= 0 || g.H <= 0 || g.X < 0 || g.Y < 0 || g.X+g.W > 24 {
			t.Errorf("%s stands at %+v", p.Title, g)
		}
		for _, other := range d.Panels[:i] {
			a, b := p.GridPos, other.GridPos
			if a.X < b.X+b.W && b.X < a.X+a.W && a.Y < b.Y+b.H && b.Y < a.Y+a.H {
				t.Errorf("%s stands on %s", p.Title, other.Title)
			}
		}
		if p.Type == "row" {
			continue
		}
		if p.Datasource == nil || p.Datasource.UID != "${datasource}" || p.FieldConfig.Defaults.Unit == "" || len(p.Targets) == 0 {
			t.Errorf("%s has no data source, no unit or nothing to show", p.Title)
		}
		refs := map[string]bool{}
		for _, target := range p.Targets {
			if target.RefID == "" || refs[target.RefID] || target.Datasource == nil || target.Datasource.Type != "prometheus" {
				t.Errorf("%s: the target %+v", p.Title, target)
			}
			refs[target.RefID] = true
			for _, part := range strings.Split(target.Expr, "$")[1:] {
				name := part[:strings.IndexFunc(part+" ", func(r rune) bool { return r != '_' && (r < 'a' || r > 'z') })]
				if !variables[name] {
					t.Errorf("%s: there is no variable $%s", p.Title, name)
				}
			}
		}
	}
}

// Every expression is PromQL, and asks for what is served.
func TestDashboardAsksForWhatIsServed(t *testing.T) {
	type rule struct {
		Record string `yaml:"record"`
		Expr   string `yaml:"expr"`
	}
	served := series(t)
	var rules []rule
	for _, p := range readDashboard(t).Panels {
		for _, target := range p.Targets {
			expr := strings.ReplaceAll(target.Expr, "$__rate_interval", "5m")
			rules = append(rules, rule{fmt.Sprintf("panel:%d:%s", p.ID, target.RefID), expr})
			for _, problem := range unknown(expr, served) {
				t.Errorf("%s: %s", p.Title, problem)
			}
		}
	}
	raw, err := yaml.Marshal(map[string]any{"groups": []any{map[string]any{"name": "dashboard", "rules": rules}}})
	if err != nil {
		t.Fatal(err)
	}
	file := filepath.Join(t.TempDir(), "rules.yaml")
	if err := os.WriteFile(file, raw, 0o600); err != nil {
		t.Fatal(err)
	}
	promtool(t, "check", "rules", file)
	for _, v := range readDashboard(t).Templating.List {
		metric, _, ok := strings.Cut(strings.TrimPrefix(v.Definition, "label_values("), ",")
		if v.Type == "query" && (!ok || served[metric] == nil) {
			t.Errorf("the variable %s is asked of %s, which nobody serves", v.Name, metric)
		}
	}
}
