package main

import (
	"debug/buildinfo"
	"encoding/json"
	"strings"
	"testing"

	"github.com/google/go-cmp/cmp"

	"github.com/locksidecar/locksidecar/internal/testenv"
)

func TestABillNamesEveryModuleOnceWithItsHash(t *testing.T) {
	self := testenv.Binary(t)
	info, err := buildinfo.ReadFile(self)
	if err != nil {
		t.Fatal(err)
	}
	sum, err := hash(self)
	if err != nil {
		t.Fatal(err)
	}
	// Two binaries of the same modules.
	d := bill("image", "1.2.3", []binary{{"one", sum, info}, {"two", sum, info}})
	seen := make(map[string]component)
	for _, c := range d.Components {
		if _, twice := seen[c.Ref]; twice {
			t.Errorf("%s is named twice", c.Ref)
		}
		seen[c.Ref] = c
	}
	if len(info.Deps) == 0 {
		t.Fatal("the daemon has no modules")
	}
	for _, m := range info.Deps {
		c, ok := seen["pkg:golang/"+m.Path+"@"+m.Version]
		if !ok || len(c.Hashes) != 1 || len(c.Hashes[0].Content) != 64 {
			t.Errorf("%s: %+v", m.Path, c)
		}
	}
	if _, ok := seen["pkg:golang/std@"+strings.TrimPrefix(info.GoVersion, "go")]; !ok {
		t.Error("the standard library is not named")
	}
	if want := []string{"file:one", "file:two"}; !cmp.Equal(d.Dependencies[0].DependsOn, want) {
		t.Errorf("the image is made of %v, want %v", d.Dependencies[0].DependsOn, want)
	}
	for _, dep := range d.Dependencies {
		for _, ref := range dep.DependsOn {
			if _, ok := seen[ref]; !ok {
				t.Errorf("%s depends on %s, which is no component", dep.Ref, ref)
			}
		}
	}
	first, err := json.Marshal(d)
	if err != nil {
		t.Fatal(err)
	}
	for range 20 {
		again, err := json.Marshal(bill("image", "1.2.3", []binary{{"one", sum, info}, {"two", sum, info}}))
		if err != nil || string(again) != string(first) {
			t.Fatalf("the same binaries gave other bytes: %v", err)
		}
	}
}
