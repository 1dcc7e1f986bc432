//go:build cluster

package node

import (
	"fmt"
	"io"
	"net"
	"net/http"
	"strings"
	"testing"
)

// A pod that names a ConfigMap has the configuration in it, and its sidecar takes
// over what changes there, as the kubelet brings it, without a restart. Its metrics,
// at the pod's address, say so.
func testConfiguration(t *testing.T) {
	const file = `{"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "own"}, "data": {"locksidecar.yaml": %q}}`
	apply := func(text string) {
		cluster.KubectlIn(t, fmt.Sprintf(file, text), "apply", "-n", appsNamespace, "-f", "-")
	}
	apply("backends: {main: {url: 'embedded:'}}\n")
	d := direct(t)
	d.run(t, "another")
	d.await(t, "another", "connect")
	d.run(t, "own", `"locksidecar.dev/config": "own"`)
	d.await(t, "own", "connect")
	d.do(t, "own", "take private/lock")
	if own, others := d.holders(t, "own", "private/lock"), d.holders(t, "another", "private/lock"); own != "1" || others != "0" {
		t.Errorf("%s hold the lock in the pod's own memory, %s in the others' store", own, others)
	}
	apply(fmt.Sprintf("backends: {main: {url: 'embedded:'}, shared: {url: %q}}\n"+
		"routes: [{match: 'shared/**', backend: shared}, {match: '**', backend: main}]\n", storeURL(t)))
	metrics := "http://" + net.JoinHostPort(look(t, "own").Status.PodIP, "9718") + "/metrics"
	cluster.Eventually(t, "the sidecar has taken over the change", func() error {
		text, err := fetch(metrics)
		if err == nil && !strings.Contains(text, `locksidecar_config_reloads_total{result="ok"} 1`) {
			err = errNotYet
		}
		return err
	})
	d.do(t, "own", "take shared/lock")
	if n := d.holders(t, "another", "shared/lock"); n != "1" {
		t.Errorf("%s hold the shared lock", n)
	}
	if n := d.do(t, "own", "lease private/lock").Value; n != "" {
		t.Errorf("the lease of before was lost: %s", n)
	}
	if n := look(t, "own").sidecar(t).RestartCount; n != 0 {
		t.Errorf("the sidecar was restarted %d times", n)
	}
	d.do(t, "own", "exit")
	d.do(t, "another", "exit")
}

// fetch reads a URL.
func fetch(url string) (string, error) {
	res, err := http.Get(url) //nolint:noctx // the caller polls
	if err != nil {
		return "", err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	return string(raw), err
}
