//go:build cluster

package node

import (
	"context"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"strings"
	"sync"
	"testing"
)

// While the injectors are replaced one by one, twice, labelled pods are admitted all
// the time.
func testInjectorsUpdate(t *testing.T) {
	ctx, stop := context.WithCancel(t.Context())
	var failures []error
	admitted := 0
	var steady sync.WaitGroup
	steady.Go(func() {
		for ctx.Err() == nil {
			if err := admit(context.WithoutCancel(ctx)); err != nil {
				failures = append(failures, err)
			} else {
				admitted++
			}
		}
	})
	t.Cleanup(func() { stop(); steady.Wait() })
	for range 2 {
		cluster.Kubectl(t, "rollout", "restart", "-n", releaseNamespace, "deployment/locksidecar-injector")
		cluster.Kubectl(t, "rollout", "status", "-n", releaseNamespace, "deployment/locksidecar-injector", "--timeout=80s")
	}
	stop()
	steady.Wait()
	t.Logf("%d pods admitted", admitted)
	if len(failures) > 0 || admitted == 0 {
		t.Errorf("%d failed, the first: %v", len(failures), failures[0])
	}
}

// admit asks for one labelled pod, as a dry run, and wants it injected.
func admit(ctx context.Context) error {
	var object map[string]any
	if err := json.Unmarshal([]byte(template([]string{"pause"}, "")), &object); err != nil {
		return err
	}
	object["apiVersion"], object["kind"] = "v1", "Pod"
	object["metadata"].(map[string]any)["generateName"] = "steady-"
	raw, err := json.Marshal(object)
	if err != nil {
		return err
	}
	res, err := cluster.Request(ctx, http.MethodPost, "/api/v1/namespaces/"+appsNamespace+"/pods?dryRun=All", raw)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	answer, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusCreated || !strings.Contains(string(answer), "locksidecar.dev/status")) {
		err = fmt.Errorf("%s: %s", res.Status, answer)
	}
	return err
}
