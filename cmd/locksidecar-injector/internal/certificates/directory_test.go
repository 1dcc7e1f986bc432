package certificates_test

import (
	"context"
	"encoding/base64"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
)

// issue is what cert-manager would write at this moment.
func (s *scene) issue(dir string, authority bool) {
	s.t.Helper()
	other := newScene(s.t)
	other.clock = s.clock
	step(s.t, certificates.New(other.options()))
	for name, raw := range other.api.Get(secretPath)["data"].(map[string]any) {
		if name == "ca.crt" && !authority {
			continue
		}
		text, err := base64.StdEncoding.DecodeString(raw.(string))
		if err == nil {
			err = os.WriteFile(filepath.Join(dir, name), text, 0o600)
		}
		if err != nil {
			s.t.Fatal(err)
		}
	}
}

// directory is a replica on certificates that somebody else makes.
func (s *scene) directory(dir string) *certificates.Keeper {
	o := s.options()
	o.Store, o.ReadOnly = certificates.Directory(dir), true
	return certificates.New(o)
}

func TestExistingCertificatesAreReadAgain(t *testing.T) {
	s, dir := newScene(t), t.TempDir()
	s.issue(dir, true)
	k := s.directory(dir)
	step(t, k)
	old, oldBundle := k.Served(), s.bundle()
	if err := s.trusts(oldBundle, k); err != nil || k.Trusted() != nil {
		t.Fatalf("%v, %v", err, k.Trusted())
	}
	s.clock.pass(validity / 2)
	s.issue(dir, true)
	step(t, k)
	if k.Served() != old {
		t.Error("the new certificate is served before its CA is known")
	}
	s.clock.pass(settle)
	step(t, k)
	if err := s.trusts(s.bundle(), k); err != nil || k.Served() == old {
		t.Errorf("the new one is not served: %v", err)
	}
	if w := s.api.Writes(); len(w) != 2 {
		t.Errorf("it wrote %q; the caBundle was to be written twice, and no Secret", w)
	}
}

func TestWhatIsWrongInTheDirectoryIsTold(t *testing.T) {
	s, dir := newScene(t), t.TempDir()
	if err := s.directory(dir).Step(context.Background()); err == nil {
		t.Error("an empty directory is right")
	}
	s.issue(dir, true)
	k := s.directory(dir)
	step(t, k)
	served := k.Served()
	if err := os.WriteFile(filepath.Join(dir, "tls.key"), []byte("half"), 0o600); err != nil {
		t.Fatal(err)
	}
	if err := k.Step(context.Background()); err == nil || k.Served() != served || k.Trusted() != nil {
		t.Errorf("%v; trusted: %v", err, k.Trusted())
	}
	s.clock.pass(2 * validity)
	s.issue(dir, true)
	step(t, k)
	if err := s.trusts(s.bundle(), k); err != nil {
		t.Errorf("after the end of the old one: %v", err)
	}
}

// A certificate without ca.crt, which nobody would come to trust, is no certificate
// where the caBundle is to be kept by it; the one before it is.
func TestACAThatIsMissingIsTold(t *testing.T) {
	s, dir := newScene(t), t.TempDir()
	s.issue(dir, false)
	k := s.directory(dir)
	if err := k.Step(context.Background()); err == nil || !strings.Contains(err.Error(), "no ca.crt") || k.Trusted() == nil || k.Served() != nil {
		t.Errorf("%v; trusted: %v", err, k.Trusted())
	}
	s.issue(dir, true)
	step(t, k)
	if err := os.Remove(filepath.Join(dir, "ca.crt")); err != nil {
		t.Fatal(err)
	}
	if err := k.Step(context.Background()); err == nil || k.Trusted() != nil {
		t.Errorf("%v; trusted: %v", err, k.Trusted())
	}
	if err := s.trusts(s.bundle(), k); err != nil {
		t.Error(err)
	}
}

// Where somebody else keeps the caBundle, it is left alone, and no ca.crt is needed.
func TestTheCaBundleOfSomebodyElseIsLeftAlone(t *testing.T) {
	s, dir := newScene(t), t.TempDir()
	s.issue(dir, false)
	o := s.options()
	o.Store, o.ReadOnly, o.Bundles = certificates.Directory(dir), true, nil
	k := certificates.New(o)
	step(t, k)
	first := k.Served()
	s.clock.pass(validity / 2)
	s.issue(dir, false)
	step(t, k)
	if k.Served() == first || k.Trusted() != nil || len(s.api.Writes()) != 0 {
		t.Errorf("served is the old one, or not trusted: %v", k.Trusted())
	}
}
