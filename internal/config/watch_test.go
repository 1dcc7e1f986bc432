package config_test

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/locksidecar/locksidecar/internal/config"
)

func TestWatcherSeesWhatHasChangedAndSettled(t *testing.T) {
	dir := t.TempDir()
	file := filepath.Join(dir, "config.yaml")
	w := config.Watch([]string{file})
	// still expects two looks in a row to find nothing.
	still := func(what string) {
		t.Helper()
		for range 2 {
			if w.Changed() {
				t.Errorf("%s: reported", what)
			}
		}
	}
	put := func(name, text string) {
		t.Helper()
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	// changes expects a change to be reported at the second look, and once.
	changes := func(what string) {
		t.Helper()
		if w.Changed() {
			t.Errorf("%s: reported before it has settled", what)
		}
		if !w.Changed() {
			t.Errorf("%s: not reported", what)
		}
		w.Seen()
		still(what + ", once it is known")
	}
	still("nothing")
	put("config.yaml", "a")
	changes("a file that comes")
	put("config.yaml", "ab")
	if w.Changed() {
		t.Error("reported while it is written")
	}
	put("config.yaml", "abc")
	changes("a file that grows")
	put("other", "xyz")
	if err := os.Rename(filepath.Join(dir, "other"), file); err != nil {
		t.Fatal(err)
	}
	changes("a file that is replaced")
	for _, version := range []string{"1", "2"} {
		put(version, "abc")
		if err := os.Symlink(filepath.Join(dir, version), filepath.Join(dir, "next")); err != nil {
			t.Fatal(err)
		}
		if err := os.Rename(filepath.Join(dir, "next"), file); err != nil {
			t.Fatal(err)
		}
		changes("a link to " + version)
	}
	if err := os.Remove(file); err != nil {
		t.Fatal(err)
	}
	changes("a file that goes")
	put("second", "x")
	w.Follow([]string{file, filepath.Join(dir, "second")})
	still("other files to watch")
	put("second", "xy")
	changes("another file")
}
