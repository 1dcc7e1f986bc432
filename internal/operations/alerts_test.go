package operations

import (
	"strings"
	"testing"
)

// issued are the alerts that there must be; more may be.
var issued = []string{
	"LeaseExpiryRate", "LeasesLost", "RenewalMarginLow", "WaitP99", "StuckLock", "QueueGrowing", "BreakerOpen", "Quarantine", "ReplicationLag",
	"MemoryHeadroom", "Deadlock", "PodNotInjected",
}

func TestPromtoolAcceptsTheAlerts(t *testing.T) {
	promtool(t, "check", "rules", alertsFile)
	promtool(t, "test", "rules", testsFile)
}

func TestAlertsAreWhole(t *testing.T) {
	served, seen := series(t), map[string]bool{}
	for _, a := range alerts(t) {
		if seen[a.Alert] {
			t.Errorf("there are two alerts %s", a.Alert)
		}
		seen[a.Alert] = true
		for _, p := range unknown(a.Expr, served) {
			t.Errorf("%s: %s", a.Alert, p)
		}
		if s := a.Labels["severity"]; s != "page" && s != "ticket" {
			t.Errorf("%s is of the severity %q", a.Alert, s)
		}
		if a.Annotations["summary"] == "" {
			t.Errorf("%s does not say what it is", a.Alert)
		}
	}
	for _, name := range issued {
		if !seen[name] {
			t.Errorf("there is no alert %s", name)
		}
	}
}

// Each alert has a test in which it fires and one in which it is silent although
// there is something to look at.
func TestEachAlertIsSeenToFireAndToBeSilent(t *testing.T) {
	var document struct {
		Tests []struct {
			Name   string
			Series []struct{ Series, Values string } `yaml:"input_series"`
			Rules  []struct {
				Alert    string           `yaml:"alertname"`
				Expected []map[string]any `yaml:"exp_alerts"`
			} `yaml:"alert_rule_test"`
		}
	}
	read(t, testsFile, &document)
	fires, silent, named := map[string]bool{}, map[string]bool{}, map[string]bool{}
	served := series(t)
	for _, c := range document.Tests {
		if named[c.Name] || c.Name == "" {
			t.Errorf("there are two tests %q", c.Name)
		}
		named[c.Name] = true
		for _, s := range c.Series {
			for _, p := range unknown(s.Series, served) {
				t.Errorf("%s: %s", c.Name, p)
			}
		}
		for _, r := range c.Rules {
			if len(r.Expected) > 0 {
				fires[r.Alert] = true
			} else if len(c.Series) > 0 {
				silent[r.Alert] = true
			}
		}
	}
	for _, a := range alerts(t) {
		if !fires[a.Alert] {
			t.Errorf("no test sees %s fire", a.Alert)
		}
		if !silent[a.Alert] {
			t.Errorf("no test sees %s be silent", a.Alert)
		}
	}
}

// Sidecars of all namespaces are scraped, and a backend has the same name in many of
// them: an alert that does not keep them apart is about no store.
func TestAlertsKeepNamespacesApart(t *testing.T) {
	for _, a := range alerts(t) {
		if strings.Contains(a.Expr, "_injector_") { // there is one
			continue
		}
		groups := grouping.FindAllStringSubmatch(a.Expr, -1)
		if len(groups) == 0 {
			t.Errorf("%s is of all namespaces", a.Alert)
		}
		for _, g := range groups {
			if !strings.Contains(g[1], "namespace") {
				t.Errorf("%s: %s is of all namespaces", a.Alert, g[0])
			}
		}
		if !strings.Contains(a.Annotations["summary"], "$labels.namespace") {
			t.Errorf("%s does not say in which namespace", a.Alert)
		}
	}
}

// What Prometheus gets is what a rule says, and nothing that is to be filled in.
func TestSummariesNameWhatTheyAreAbout(t *testing.T) {
	for _, a := range alerts(t) {
		for label := range strings.SplitSeq(a.Annotations["summary"], "$labels.") {
			name, _, ok := strings.Cut(label, " }}")
			if ok && !strings.Contains(label, "{{ $labels") && strings.IndexByte(name, ' ') < 0 && !strings.Contains(a.Expr, name) {
				t.Errorf("%s: the summary has the label %s, the expression does not", a.Alert, name)
			}
		}
	}
}
