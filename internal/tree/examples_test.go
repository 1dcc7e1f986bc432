package tree

import (
	"bytes"
	"encoding/json"
	"errors"
	"io"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
)

// examples are the modules that show a third party's way.
var examples = []string{"conformance/examples/postgres"}

// An example of a third party's driver has what a third party has: the packages
// of this module that are public. The compiler would let it see the internal ones,
// because its path begins with this module's.
func TestAThirdPartysDriverNeedsNothingInternal(t *testing.T) {
	for _, dir := range examples {
		list := exec.Command("go", "list", "-json=ImportPath,Doc,Imports,TestImports,XTestImports,Module", "./...")
		list.Dir = filepath.Join(root, dir)
		var stderr bytes.Buffer
		list.Stderr = &stderr
		out, err := list.Output()
		if err != nil {
			t.Fatalf("%s: %v\n%s", dir, err, &stderr)
		}
		own, public := 0, 0
		for d := json.NewDecoder(bytes.NewReader(out)); ; {
			var p struct {
				ImportPath, Doc                    string
				Imports, TestImports, XTestImports []string
				Module                             struct{ Path string }
			}
			if err := d.Decode(&p); errors.Is(err, io.EOF) {
				break
			} else if err != nil {
				t.Fatal(err)
			}
			own++
			if p.Module.Path != module+dir {
				t.Errorf("%s belongs to %s, want a module of its own", p.ImportPath, p.Module.Path)
			}
			if p.Doc == "" {
				t.Errorf("%s has no package comment", p.ImportPath)
			}
			for _, i := range slices.Concat(p.Imports, p.TestImports, p.XTestImports) {
				path, ours := strings.CutPrefix(i, module)
				if ours && !strings.HasPrefix(path, dir) {
					public++
				}
				if ours && (strings.HasPrefix(path, "internal/") || strings.HasPrefix(path, "cmd/")) {
					t.Errorf("%s imports %s, which a third party does not have", p.ImportPath, i)
				}
			}
		}
		if own == 0 || public == 0 {
			t.Errorf("%s: %d packages, which import %d of this module", dir, own, public)
		}
	}
}
