package testenv

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
)

// Edition is a server program that speaks Redis's protocol. The zero value is
// the system's redis-server.
type Edition struct {
	// name is its file in build/tools; it is empty for the system's server.
	name string
}

// Editions of which a machine may have none but the first: internal/tools/system
// fetches the others where it can.
var (
	SystemRedis = Edition{}
	Valkey8     = Edition{name: "valkey-8"}
	Redis8      = Edition{name: "redis-8"}
)

// Editions are all that are known, here or not.
func Editions() []Edition { return []Edition{SystemRedis, Valkey8, Redis8} }

// String is the edition's name.
func (e Edition) String() string {
	if e.name == "" {
		return "redis-server"
	}
	return e.name
}

// Optional tells that a machine may be without it.
func (e Edition) Optional() bool { return e.name != "" }

// Missing is nil if the edition can be run here, else it says why not and what
// would install it.
func (e Edition) Missing() error {
	_, err := e.path()
	return err
}

func (e Edition) path() (string, error) {
	if e.name == "" {
		path, err := exec.LookPath("redis-server")
		if err != nil {
			return "", fmt.Errorf("redis-server is needed: %w; install it by: %s", err, redisInstall)
		}
		return path, nil
	}
	root, err := moduleRoot()
	if err != nil {
		return "", err
	}
	path := filepath.Join(root, "build", "tools", e.name)
	if _, err := os.Stat(path); err != nil {
		return "", fmt.Errorf("%s is not available here: %w; fetch it by: make system", e.name, err)
	}
	return path, nil
}

// EachEdition runs a test on each edition that is here. One that is not has a
// row all the same, whose name and log say that it is absent: the row passes if
// the edition is an optional one and fails if not.
func EachEdition(t *testing.T, test func(t *testing.T, e Edition)) {
	t.Helper()
	for _, e := range Editions() {
		missing := e.Missing()
		switch {
		case missing == nil:
			t.Run(e.String(), func(t *testing.T) { test(t, e) })
		case e.Optional():
			t.Run(e.String()+" (not available here)", func(t *testing.T) { t.Log(missing) })
		default:
			t.Run(e.String(), func(t *testing.T) { t.Fatal(missing) })
		}
	}
}
