//go:build cluster

package chart

import (
	"fmt"
	"slices"
	"strings"
	"testing"
)

// webhooks are the caBundles of the webhook's configuration.
func webhooks(t testing.TB) (bundles []string) {
	t.Helper()
	var w struct {
		Webhooks []struct{ ClientConfig struct{ CABundle string } }
	}
	cluster.Get(t, &w, "mutatingwebhookconfiguration", injector)
	for _, h := range w.Webhooks {
		bundles = append(bundles, h.ClientConfig.CABundle)
	}
	return bundles
}

// caBundles are all of them, written.
func caBundles(t testing.TB) []string {
	t.Helper()
	bundles := webhooks(t)
	if len(bundles) == 0 || slices.Contains(bundles, "") {
		t.Fatalf("the caBundles are %.40q", bundles)
	}
	return bundles
}

// unchanged checks that the caBundles are those of before.
func unchanged(t *testing.T, before []string) {
	t.Helper()
	if after := caBundles(t); !slices.Equal(before, after) {
		t.Errorf("the caBundles were %.40q, and are %.40q", before, after)
	}
}

// An upgrade keeps what the injector wrote, and the injector takes over what it
// changes.
func TestAnUpgrade(t *testing.T) {
	r := install(t)
	r.start(t)
	before := caBundles(t)
	same := []string{"upgrade", releaseName, chartDir(t), "-n", releaseNamespace, "-f", chartDir(t) + "/values-dev.yaml"}
	cluster.Helm(t, same...)
	unchanged(t, before)
	if _, err := create(t, appsNamespace, bare("upgraded", template(true, "")), "--dry-run=server"); err != nil {
		t.Errorf("after the upgrade: %v", err)
	}
	cluster.Helm(t, append(same, "--set", "sidecar.logLevel=debug", "--set", "image.tag=2.0.0")...)
	r.volumes(t)
	cluster.Eventually(t, "pods get what the upgrade says", func() error {
		p, err := create(t, appsNamespace, bare("upgraded", template(true, "")), "--dry-run=server")
		if err != nil {
			return err
		}
		injected(t, p)
		if s := p.Spec.InitContainers[0]; !strings.HasSuffix(s.Image, ":2.0.0") || !strings.Contains(strings.Join(s.Args, " "), "--log-level debug") {
			return fmt.Errorf("the sidecar is %+v", s)
		}
		return nil
	})
	unchanged(t, before)
	// And one that goes back to what was.
	cluster.Helm(t, "rollback", releaseName, "1", "-n", releaseNamespace)
	unchanged(t, before)
}

// An upgrade takes back a Secret that somebody deleted and the injector made anew.
func TestAnUpgradeAfterTheSecretWasDeleted(t *testing.T) {
	r := install(t)
	r.start(t)
	before := caBundles(t)
	cluster.Kubectl(t, "delete", "secret", injector+"-certificates", "-n", releaseNamespace)
	cluster.Eventually(t, "it is there again", func() error {
		_, err := cluster.TryKubectl(t, "", "get", "secret", injector+"-certificates", "-n", releaseNamespace)
		return err
	})
	cluster.Helm(t, "upgrade", releaseName, chartDir(t), "-n", releaseNamespace, "-f", chartDir(t)+"/values-dev.yaml")
	unchanged(t, before)
	if out := cluster.Kubectl(t, "get", "secret", injector+"-certificates", "-n", releaseNamespace, "-o", `jsonpath={.data.tls\.crt}`); out == "" {
		t.Error("the upgrade emptied it")
	}
}

// What renders the chart, applies it and then compares the cluster with it finds no
// difference once the injector has written its caBundle; applied again, nothing of
// that is lost.
func TestAGitOpsToolFindsNoDrift(t *testing.T) {
	for name, how := range map[string][]string{
		"ServerSide": {"--server-side", "--field-manager=gitops"},
		"ClientSide": nil,
	} {
		t.Run(name, func(t *testing.T) {
			r := apply(t, how...)
			r.start(t)
			before := caBundles(t)
			// It exits with 1 where there is a difference.
			if out, err := cluster.TryKubectl(t, r.rendered, append([]string{"diff", "-f", "-", "-n", releaseNamespace}, how...)...); err != nil {
				t.Errorf("%v\n%s", err, out)
			}
			cluster.Apply(t, r.rendered, append(how, "-n", releaseNamespace)...)
			unchanged(t, before)
		})
	}
}
