//go:build cluster

package chart

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// cluster is the control plane of this package's tests.
var cluster *kube.Cluster

func TestMain(m *testing.M) {
	kube.Main(m, func() (err error) {
		cluster, err = kube.Start(context.Background())
		return err
	}, func(failed bool) {
		if cluster == nil {
			return
		}
		if failed {
			fmt.Fprintln(os.Stderr, cluster.Logs())
		}
		cluster.Stop()
	})
}
