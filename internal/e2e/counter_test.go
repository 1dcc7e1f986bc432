package e2e

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

// Two Python and two Node processes on two sidecars and one Redis increment a
// file without any atomicity of their own: no increment is lost.
func TestFourProcessesTwoSidecarsLoseNoIncrement(t *testing.T) {
	t.Parallel()
	const each = 500
	redis := testenv.StartRedisT(t)
	endpoints := []string{
		testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint(),
		testenv.Daemon(t, "serve", "--backend", redis.URL()).Endpoint(),
	}
	file := filepath.Join(t.TempDir(), "counter")
	if err := os.WriteFile(file, []byte("0"), 0o600); err != nil {
		t.Fatal(err)
	}
	var apps []*app
	for i := range 4 {
		apps = append(apps, startApp(t, languages[i/2], endpoints[i%2], "--mode", "counter",
			"--lock", "counter", "--count", strconv.Itoa(each), "--file", file))
	}
	for _, a := range apps {
		a.finish(t)
	}
	got, err := os.ReadFile(file)
	if err != nil {
		t.Fatal(err)
	}
	if n := strings.TrimSpace(string(got)); n != strconv.Itoa(4*each) {
		t.Errorf("the counter is %s after 4 × %d increments", n, each)
	}
}
