package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"slices"
	"strings"
	"sync"
	"testing"
)

const module = "github.com/locksidecar/locksidecar/"

// pkg is a package as go list describes it. Tests may import what they like.
type pkg struct {
	ImportPath, Doc, Name string
	Imports, Deps         []string
	Module                *struct{ Main bool }
	Standard              bool
}

// inside is the package's path in the module.
func (p *pkg) inside() string { return strings.TrimPrefix(p.ImportPath, module) }

// own are the packages of this module that p imports, by their paths in it.
func (p *pkg) own() (paths []string) {
	for _, i := range p.Imports {
		if path, ok := strings.CutPrefix(i, module); ok {
			paths = append(paths, path)
		}
	}
	return paths
}

var packages = sync.OnceValues(func() ([]*pkg, error) {
	out, err := exec.Command("go", "list", "-json=ImportPath,Doc,Name,Imports,Deps,Module,Standard", module+"...").Output()
	if err != nil {
		return nil, err
	}
	var all []*pkg
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		p := &pkg{}
		if err := d.Decode(p); errors.Is(err, io.EOF) {
			return all, nil
		} else if err != nil {
			return nil, err
		}
		all = append(all, p)
	}
})

func tree(t *testing.T) []*pkg {
	t.Helper()
	all, err := packages()
	if err != nil {
		t.Fatal(err)
	}
	if len(all) < 10 {
		t.Fatalf("go list found only %d packages", len(all))
	}
	return all
}

// drivers are the packages that speak to a store.
func drivers(t *testing.T) (paths []string) {
	t.Helper()
	for _, p := range tree(t) {
		path := p.inside()
		if rest, ok := strings.CutPrefix(path, "backend/"); ok && !strings.Contains(rest, "/") && path != "backend/driver" {
			paths = append(paths, path)
		}
	}
	if !slices.Contains(paths, "backend/redis") || !slices.Contains(paths, "backend/embedded") {
		t.Fatalf("the drivers are %v", paths)
	}
	return paths
}

// Data flows socket, renew, backend, breaker, a driver; imports follow it and
// never turn back. A layer may import what its row lists, of this module.
func TestImportsFollowTheLayers(t *testing.T) {
	rows := map[string][]string{
		"backend/driver":               {},
		"backend/driver/driverurl":     {"backend/driver"},
		"backend":                      {"backend/driver"},
		"breaker":                      {"backend/driver"},
		"renew":                        {"backend", "backend/driver"},
		"socket":                       {"backend", "backend/driver", "renew", "socket/lockpb/locksidecar/v1"},
		"socket/lockpb/locksidecar/v1": {},
		"conformance":                  {"backend/driver"},
		"conformance/wrong":            {"backend/driver"},
		"conformance/remote":           {"backend/driver", "conformance", "socket/lockpb/locksidecar/v1"},
	}
	for _, d := range drivers(t) {
		rows[d] = []string{"backend/driver", "backend/driver/driverurl"}
	}
	seen := 0
	for _, p := range tree(t) {
		allowed, ok := rows[p.inside()]
		if !ok {
			continue
		}
		seen++
		for _, i := range p.own() {
			if !slices.Contains(allowed, i) {
				t.Errorf("%s imports %s; it may import %v", p.inside(), i, allowed)
			}
		}
	}
	if seen != len(rows) {
		t.Errorf("%d of the %d packages of the table are in the tree", seen, len(rows))
	}
}

// Only the composition knows the drivers; nobody imports a command, and the
// public packages do not lean on internal ones.
func TestOnlyTheCompositionKnowsTheDrivers(t *testing.T) {
	composers := []string{"internal/app"}
	known := drivers(t)
	for _, p := range tree(t) {
		path := p.inside()
		for _, i := range p.own() {
			if slices.Contains(known, i) && !slices.Contains(composers, path) {
				t.Errorf("%s imports the driver %s; only %v may", path, i, composers)
			}
			if strings.HasPrefix(i, "cmd/") && !strings.HasPrefix(path, injector) {
				t.Errorf("%s imports the command %s", path, i)
			}
			if strings.HasPrefix(i, "internal/") && !strings.HasPrefix(path, "internal/") && !strings.HasPrefix(path, "cmd/") {
				t.Errorf("the public package %s imports %s", path, i)
			}
		}
	}
}

func TestTheContractNeedsTheStandardLibraryOnly(t *testing.T) {
	for _, p := range tree(t) {
		if p.inside() != "backend/driver" && p.inside() != "backend/driver/driverurl" {
			continue
		}
		for _, i := range p.Imports {
			if strings.Contains(strings.SplitN(i, "/", 2)[0], ".") && i != module+"backend/driver" {
				t.Errorf("%s imports %s", p.inside(), i)
			}
		}
	}
}

// sdks are the stores' own libraries, each for its driver alone (and for the
// tests' environment, which speaks to the servers).
var sdks = map[string]string{
	"github.com/redis/go-redis": "backend/redis",
	"go.etcd.io/etcd":           "backend/etcd",
	"go.etcd.io/bbolt":          "backend/embedded",
	"github.com/aws":            "backend/dynamodb",
}

func TestAStoresLibraryIsItsDriversOwn(t *testing.T) {
	for _, p := range tree(t) {
		if p.inside() == "internal/testenv" {
			continue
		}
		for _, i := range p.Imports {
			for sdk, owner := range sdks {
				if strings.HasPrefix(i, sdk) && p.inside() != owner {
					t.Errorf("%s imports %s, which is %s's", p.inside(), i, owner)
				}
			}
		}
	}
}

// injector is the one command that knows Kubernetes; its packages are its own.
const injector = "cmd/locksidecar-injector"

// Kubernetes' libraries are large, and a sidecar runs beside every application:
// only the injector links them.
func TestOnlyTheInjectorLinksKubernetes(t *testing.T) {
	links := 0
	for _, p := range tree(t) {
		for _, d := range p.Deps {
			if !strings.HasPrefix(d, "k8s.io/") && !strings.HasPrefix(d, "sigs.k8s.io/") {
				continue
			}
			links++
			if p.inside() != injector && !strings.HasPrefix(p.inside(), injector+"/") {
				t.Errorf("%s links %s; only %s may", p.inside(), d, injector)
			}
		}
	}
	if links == 0 {
		t.Errorf("%s links none of them: is it still there?", injector)
	}
}

// What ships does not carry the tests' environment.
func TestTheCommandsDoNotLinkTestCode(t *testing.T) {
	for _, p := range tree(t) {
		if !strings.HasPrefix(p.inside(), "cmd/") {
			continue
		}
		for _, d := range p.Deps {
			if d == module+"internal/testenv" || d == module+"conformance/wrong" {
				t.Errorf("%s links %s", p.inside(), d)
			}
		}
	}
}

func TestEveryPackageSaysWhatItIs(t *testing.T) {
	for _, p := range tree(t) {
		generated := strings.HasPrefix(p.inside(), "socket/lockpb/")
		if p.Doc == "" && !generated {
			t.Errorf("%s has no package comment", p.inside())
		}
	}
}
