//go:build cluster

package node

import (
	"context"
	"crypto/rand"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// cluster is that of this package's tests, with a node; redis is where their locks
// are.
var (
	cluster *kube.Cluster
	redis   *testenv.Redis
)

// appImage is the tests' application.
const appImage = "locksidecar.test/app:1"

func TestMain(m *testing.M) {
	kube.Main(m, start, func(failed bool) {
		if cluster != nil {
			if failed {
				fmt.Fprintln(os.Stderr, cluster.Logs())
			}
			cluster.Stop()
		}
		if redis != nil {
			_ = redis.Stop()
		}
	})
}

func start() (err error) {
	ctx := context.Background()
	root, err := kube.Root()
	if err != nil {
		return err
	}
	archive := filepath.Join(root, "build", "node", "locksidecar.oci.tar")
	if _, err := os.Stat(archive); err != nil {
		return fmt.Errorf("%w; make it by: make node-test", err)
	}
	dir, err := os.MkdirTemp("", "lsapp")
	if err != nil {
		return err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	binary := filepath.Join(dir, "app")
	build := exec.Command("go", "build", "-o", binary, "github.com/locksidecar/locksidecar/internal/kubetest/app")
	build.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := build.CombinedOutput(); err != nil {
		return fmt.Errorf("%w\n%s", err, out)
	}
	images := []string{archive}
	for i, name := range []string{appImage, documentedImage} {
		file := fmt.Sprintf("%s-%d.tar", binary, i)
		if err := kube.WriteImage(file, name, binary, "10001:10001"); err != nil {
			return err
		}
		images = append(images, file)
	}
	if redis, err = testenv.StartRedis(ctx, testenv.RedisOptions{Password: rand.Text(), Args: []string{"--bind", kube.NodeAddress, "127.0.0.1"}}); err != nil {
		return err
	}
	if cluster, err = kube.Start(ctx); err != nil {
		return err
	}
	return cluster.StartNode(ctx, binary, images...)
}

// The tests share a release: it takes a while until it runs, and they only use it.
func TestNode(t *testing.T) {
	install(t)
	for name, test := range map[string]func(*testing.T){
		"TheCheckOfTheChart":      testCheck,
		"FirstConnect":            testFirstConnect,
		"AJobEnds":                testJob,
		"TheApplicationEndsFirst": testDelete,
		"AKilledSidecar":          testKill,
		"ARollingUpdate":          testRollingUpdate,
		"AConfigurationOfItsOwn":  testConfiguration,
		"TheInjectorsUpdate":      testInjectorsUpdate,
	} {
		t.Run(name, func(t *testing.T) {
			t.Parallel()
			test(t)
		})
	}
}

var errNotYet = errors.New("not yet")
