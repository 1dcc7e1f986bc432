package certificates_test

import (
	"context"
	"crypto/x509"
	"encoding/base64"
	"encoding/pem"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
)

func TestAFirstReplicaServesAtOnceWhatIsTrusted(t *testing.T) {
	s := newScene(t)
	k := certificates.New(s.options())
	if _, err := k.GetCertificate(nil); err == nil || k.Trusted() == nil {
		t.Error("there is a certificate before the first step")
	}
	step(t, k)
	if err := k.Trusted(); err != nil {
		t.Error(err)
	}
	if err := s.trusts(s.bundle(), k); err != nil {
		t.Error(err)
	}
	if end := k.Served().NotAfter(); !end.Equal(s.clock.Now().Add(validity)) || !k.RotateAt(k.Served()).Equal(end.Add(-rotate)) {
		t.Errorf("it ends at %v", end)
	}
}

// Nobody is kept waiting for a certificate that is due from the start: nothing was
// trusted before it.
func TestAFirstReplicaThatRotatesIsReadyAtOnce(t *testing.T) {
	s := newScene(t)
	step(t, certificates.New(s.options()))
	s.api.Put(hookPath, hook(nil))
	s.clock.pass(validity - rotate)
	k := certificates.New(s.options())
	step(t, k)
	if err := k.Trusted(); err != nil || strings.Count(string(s.bundle()), "BEGIN") != 2 {
		t.Errorf("%v, with the caBundle\n%s", err, s.bundle())
	}
}

// A caBundle and a Secret that are right are not written.
func TestNothingIsWrittenThatIsRight(t *testing.T) {
	s := newScene(t)
	a, b := certificates.New(s.options()), certificates.New(s.options())
	step(t, a)
	if w := s.api.Writes(); len(w) != 2 {
		t.Errorf("first it wrote %q", w)
	}
	for range 10 {
		step(t, a)
		step(t, b)
		s.clock.pass(time.Minute)
	}
	if w := s.api.Writes(); len(w) != 0 {
		t.Errorf("then they wrote %q", w)
	}
	if string(a.Served().Cert) != string(b.Served().Cert) {
		t.Error("two replicas serve different certificates")
	}
}

// Replicas that start at once agree on one certificate.
func TestReplicasRaceSafely(t *testing.T) {
	for range 10 {
		s := newScene(t)
		keepers := make([]*certificates.Keeper, 5)
		var all sync.WaitGroup
		for i := range keepers {
			keepers[i] = certificates.New(s.options())
			all.Go(func() { _ = keepers[i].Step(context.Background()) }) // too many conflicts are no failure: there is a next step
		}
		all.Wait()
		for _, k := range keepers {
			step(t, k)
			if string(k.Served().Cert) != string(keepers[0].Served().Cert) {
				t.Fatal("the replicas serve different certificates")
			}
			if err := s.trusts(s.bundle(), k); err != nil {
				t.Fatal(err)
			}
		}
		if n := strings.Count(string(s.bundle()), "BEGIN"); n != 1 {
			t.Fatalf("the caBundle has %d authorities", n)
		}
	}
}

// The new CA is known before its certificate is served, and the old one as long as
// its certificate might be.
func TestRotationOverlaps(t *testing.T) {
	s := newScene(t)
	k := certificates.New(s.options())
	step(t, k)
	old, oldBundle := k.Served(), s.bundle()
	s.clock.pass(validity - rotate - time.Second)
	step(t, k)
	if k.Served() != old || len(s.bundle()) != len(oldBundle) {
		t.Fatal("it was rotated too early")
	}
	s.clock.pass(time.Second)
	step(t, k)
	both := s.bundle()
	if n := strings.Count(string(both), "BEGIN"); n != 2 || !strings.HasPrefix(string(both), string(oldBundle)) {
		t.Fatalf("the caBundle has %d authorities", n)
	}
	for range 3 {
		if err := s.trusts(oldBundle, k); err != nil {
			t.Fatalf("an API server that does not know the new bundle yet: %v", err)
		}
		s.clock.pass(settle/3 - time.Second)
		step(t, k)
	}
	s.clock.pass(3 * time.Second)
	step(t, k)
	if err := s.trusts(oldBundle, k); err == nil {
		t.Fatal("the old certificate is still served")
	}
	if err := s.trusts(both, k); err != nil {
		t.Fatal(err)
	}
	s.clock.pass(rotate)
	step(t, k)
	if n := strings.Count(string(s.bundle()), "BEGIN"); n != 1 || s.clock.Now().Before(old.NotAfter()) {
		t.Errorf("after the old certificate's end the caBundle has %d authorities", n)
	}
	if data := s.api.Get(secretPath)["data"].(map[string]any); data["previous-tls.key"] != nil {
		t.Error("the old key is still stored")
	}
}

// What somebody does to the Secret while replicas run costs nothing.
func TestTheSecretIsRestored(t *testing.T) {
	expired := func(t *testing.T) map[string]any {
		other := newScene(t)
		other.clock.pass(-10 * validity)
		step(t, certificates.New(other.options()))
		return other.api.Get(secretPath)
	}
	for name, harm := range map[string]func(t *testing.T, s *scene){
		"deleted": func(_ *testing.T, s *scene) { s.api.Delete(secretPath) },
		"emptied": func(_ *testing.T, s *scene) {
			s.api.Put(secretPath, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "certs"}, "type": "Opaque"})
		},
		"damaged": func(_ *testing.T, s *scene) {
			data := s.api.Get(secretPath)["data"].(map[string]any)
			data["tls.crt"] = base64.StdEncoding.EncodeToString([]byte("-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"))
			s.api.Put(secretPath, s.api.Get(secretPath))
		},
		"with another's key": func(t *testing.T, s *scene) {
			other := newScene(t)
			step(t, certificates.New(other.options()))
			s.api.Get(secretPath)["data"].(map[string]any)["tls.key"] = other.api.Get(secretPath)["data"].(map[string]any)["tls.key"]
			s.api.Put(secretPath, s.api.Get(secretPath))
		},
		"expired": func(t *testing.T, s *scene) { s.api.Put(secretPath, expired(t)) },
	} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			k := certificates.New(s.options())
			step(t, k)
			before, bundle := k.Served(), s.bundle()
			harm(t, s)
			step(t, k)
			if k.Served() != before || string(s.bundle()) != string(bundle) || k.Trusted() != nil {
				t.Errorf("another certificate is served, or trusted: %v", k.Trusted())
			}
			again := certificates.New(s.options())
			step(t, again)
			if string(again.Served().Cert) != string(before.Cert) {
				t.Error("the Secret was not restored")
			}

			// With nobody who remembers, a new one is made.
			s.clock.pass(time.Minute)
			harm(t, s)
			fresh := certificates.New(s.options())
			step(t, fresh)
			if fresh.Served() == nil || string(fresh.Served().Cert) == string(before.Cert) {
				t.Fatal("no new certificate was made")
			}
			if fresh.Trusted() == nil {
				t.Error("it is ready before API servers know its CA, while others may serve what they know")
			}
			s.clock.pass(settle)
			step(t, fresh)
			if err := fresh.Trusted(); err != nil {
				t.Error(err)
			}
			if err := s.trusts(s.bundle(), fresh); err != nil {
				t.Error(err)
			}
			step(t, k)
			if err := s.trusts(s.bundle(), k); err != nil {
				t.Errorf("the one that ran all the time: %v", err)
			}
		})
	}
}

// A Secret that was deleted is made as the chart makes it: its type cannot be
// changed, and what else the injector set there would be its own. An upgrade of the
// release would fail by either.
func TestADeletedSecretIsTheReleasesAgain(t *testing.T) {
	s := newScene(t)
	step(t, certificates.New(s.options()))
	secret := s.api.Get(secretPath)
	if kind := secret["type"]; kind != "Opaque" {
		t.Errorf("its type is %v", kind)
	}
	metadata := secret["metadata"].(map[string]any)
	if metadata["labels"] != nil || metadata["annotations"] != nil {
		t.Errorf("it has %v", metadata)
	}
}

// Nobody was there for long: the certificate has ended.
func TestAnExpiredCertificateIsReplacedAtOnce(t *testing.T) {
	s := newScene(t)
	k := certificates.New(s.options())
	step(t, k)
	s.clock.pass(2 * validity)
	if err := k.Trusted(); err == nil || !strings.Contains(err.Error(), "has ended") {
		t.Errorf("it says %v", err)
	}
	for name, k := range map[string]*certificates.Keeper{"that ran": k, "that starts": certificates.New(s.options())} {
		step(t, k)
		if err := k.Trusted(); err != nil {
			t.Errorf("a replica %s: %v", name, err)
		}
		if err := s.trusts(s.bundle(), k); err != nil {
			t.Errorf("a replica %s: %v", name, err)
		}
	}
	if n := strings.Count(string(s.bundle()), "BEGIN"); n != 1 {
		t.Errorf("the caBundle has %d authorities", n)
	}
}

// Without the API server what was served is served on.
func TestAnOutageOfTheServerChangesNothing(t *testing.T) {
	s := newScene(t)
	k := certificates.New(s.options())
	step(t, k)
	bundle := s.bundle()
	s.api.Fail(func(string, string) int { return 500 })
	s.clock.pass(validity - time.Minute)
	if err := k.Step(context.Background()); err == nil {
		t.Fatal("a step without a server succeeded")
	}
	if err := s.trusts(bundle, k); err != nil || k.Trusted() != nil {
		t.Errorf("%v, %v", err, k.Trusted())
	}
	s.api.Fail(nil)
	step(t, k)
	s.clock.pass(settle)
	step(t, k)
	s.clock.pass(validity / 2)
	if err := s.trusts(s.bundle(), k); err != nil {
		t.Error(err)
	}
}

// A caBundle that somebody emptied or spoiled is written again.
func TestTheCaBundleIsMended(t *testing.T) {
	for name, bundle := range map[string][]byte{"emptied": nil, "spoiled": []byte("nonsense"), "another's": foreign(t)} {
		t.Run(name, func(t *testing.T) {
			s := newScene(t)
			k := certificates.New(s.options())
			step(t, k)
			s.api.Put(hookPath, hook(bundle))
			step(t, k)
			if err := s.trusts(s.bundle(), k); err != nil {
				t.Error(err)
			}
			if name == "another's" && !strings.Contains(string(s.bundle()), string(bundle)) {
				t.Error("another's CA, which may still be served by, was taken away")
			}
		})
	}
}

func foreign(t *testing.T) []byte {
	t.Helper()
	s := newScene(t)
	step(t, certificates.New(s.options()))
	b, _ := pem.Decode(s.bundle())
	if _, err := x509.ParseCertificate(b.Bytes); err != nil {
		t.Fatal(err)
	}
	return s.bundle()
}

func TestAConfigurationWithoutWebhooksIsTold(t *testing.T) {
	s := newScene(t)
	s.api.Delete(hookPath)
	k := certificates.New(s.options())
	if err := k.Step(context.Background()); err == nil || k.Trusted() == nil || !strings.Contains(k.Trusted().Error(), "not in the caBundle yet") {
		t.Errorf("%v, %v", err, k.Trusted())
	}
}
