//go:build cluster

package chart

import (
	"context"
	"fmt"
	"os"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

var (
	// cluster is the control plane of this package's tests.
	cluster *kube.Cluster
	// binaries is a directory for what they build.
	binaries string
)

func TestMain(m *testing.M) {
	kube.Main(m, func() (err error) {
		if binaries, err = os.MkdirTemp("", "lsinject"); err != nil {
			return err
		}
		cluster, err = kube.Start(context.Background())
		return err
	}, func(failed bool) {
		_ = os.RemoveAll(binaries)
		if cluster == nil {
			return
		}
		if failed {
			fmt.Fprintln(os.Stderr, cluster.Logs())
		}
		cluster.Stop()
	})
}
