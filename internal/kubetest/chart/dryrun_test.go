//go:build cluster

package chart

import (
	"os"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// prometheus makes the kinds of the Prometheus operator known, for a test.
func prometheus(t *testing.T) {
	t.Helper()
	cluster.Kubectl(t, "apply", "-f", "testdata/crds.yaml")
	t.Cleanup(func() { cluster.Kubectl(cluster.Outliving(t), "delete", "-f", "testdata/crds.yaml") })
	cluster.Kubectl(t, "wait", "--for=condition=Established", "--timeout=60s", "-f", "testdata/crds.yaml")
}

// everything turns on what is off by default.
const everything = `
injector: {priorityClassName: system-cluster-critical, requireNamespaceLabel: true, excludedNamespaces: [other], nodeSelector: {a: b}, tolerations: [{operator: Exists}]}
metrics: {podMonitor: {enabled: true, labels: {a: b}}, prometheusRule: {enabled: true}, dashboard: {enabled: true}}
networkPolicy: {enabled: true}
serviceAccount: {annotations: {eks.amazonaws.com/role-arn: "arn:aws:iam::123456789012:role/locks"}}
image: {pullSecrets: [pull]}
env: [{name: AWS_REGION, value: eu-west-1}]
storeInit: {onUpgrade: true}
`

// The real API server takes every object that the chart renders, hooks and tests
// included, and Pod Security warns of none.
func TestTheServerTakesEveryObjectOfTheChart(t *testing.T) {
	prometheus(t)
	namespace(t, releaseNamespace, "restricted")
	// A pod's account must be there for its dry run.
	cluster.Kubectl(t, "create", "serviceaccount", "locksidecar-check", "-n", releaseNamespace, "--save-config")
	t.Cleanup(func() {
		cluster.Kubectl(cluster.Outliving(t), "delete", "serviceaccount", "locksidecar-check", "-n", releaseNamespace)
	})
	file := t.TempDir() + "/values.yaml"
	if err := os.WriteFile(file, []byte(everything), 0o600); err != nil {
		t.Fatal(err)
	}
	dev, ha := chartDir(t)+"/values-dev.yaml", chartDir(t)+"/values-ha.yaml"
	for name, args := range map[string][]string{
		"dev":             {"-f", dev},
		"ha":              {"-f", ha, "--set", "image.repository=registry.example/locksidecar"},
		"everything":      {"-f", ha, "-f", file, "--set", "image.repository=registry.example/locksidecar"},
		"ownCertificate":  {"-f", dev, "--set", "certificates.existingSecret=own", "--set-file", "certificates.caBundle=" + testenv.NewAuthority(t).CertFile},
		"theNodesNetwork": {"-f", dev, "--set", "injector.hostNetwork=true"},
		"numbers":         {"-f", dev, "--set-string", "image.pullSecrets[0]=456,injector.priorityClassName=789,certificates.existingSecret=123,injector.nodeSelector.a=1"},
	} {
		t.Run(name, func(t *testing.T) {
			if name == "theNodesNetwork" {
				namespace(t, releaseNamespace, "privileged")
				defer namespace(t, releaseNamespace, "restricted")
			}
			rendered := cluster.Helm(t, append([]string{"template", releaseName, chartDir(t), "-n", releaseNamespace}, args...)...)
			if kinds := strings.Count(rendered, "\nkind: "); kinds < 8 {
				t.Fatalf("only %d objects:\n%s", kinds, rendered)
			}
			out := cluster.Apply(t, rendered, "--dry-run=server", "-n", releaseNamespace)
			if strings.Contains(out, "Warning") {
				t.Error(out)
			}
			if taken, of := strings.Count(out, "(server dry run)"), strings.Count(rendered, "\nkind: "); taken != of {
				t.Errorf("the server took %d objects of %d:\n%s", taken, of, out)
			}
		})
	}
}
