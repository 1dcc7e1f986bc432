package certificates_test

import (
	"context"
	"math/rand/v2"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
)

// apiServer is one that learns of a caBundle late.
type apiServer struct {
	lag   time.Duration
	known []known
}

type known struct {
	since  time.Time
	bundle []byte
}

// learns tells it what the configuration has now.
func (a *apiServer) learns(now time.Time, bundle []byte) {
	if n := len(a.known); n == 0 || string(a.known[n-1].bundle) != string(bundle) {
		a.known = append(a.known, known{now, bundle})
	}
}

// bundle is what it goes by.
func (a *apiServer) bundle(now time.Time) (b []byte) {
	for _, k := range a.known {
		if !k.since.Add(a.lag).After(now) {
			b = k.bundle
		}
	}
	return b
}

// Under steady traffic no handshake fails, over several rotations, whatever happens
// meanwhile: API servers learn late of a caBundle, a replica is away from the API
// server for hours, another is replaced, the Secret is deleted or damaged.
func TestNoAdmissionFailsOverRotations(t *testing.T) {
	seed := rand.Uint64()
	r := rand.New(rand.NewPCG(seed, 0))
	t.Logf("seed %d", seed)
	s := newScene(t)
	replicas := make([]*certificates.Keeper, 3)
	away := make([]time.Time, len(replicas))
	for i := range replicas {
		replicas[i] = certificates.New(s.options())
		step(t, replicas[i])
	}
	servers := []*apiServer{{lag: 0}, {lag: 5 * time.Second}, {lag: settle - time.Second}}
	for _, a := range servers {
		a.learns(s.clock.Now().Add(-time.Hour), s.bundle()) // it was installed and found to work
	}
	began, certificatesSeen, handshakes := s.clock.Now(), map[string]bool{}, 0
	for s.clock.Now().Before(began.Add(3 * validity)) {
		s.clock.pass([]time.Duration{time.Second, 5 * time.Second, 20 * time.Second, 2 * time.Minute, 15 * time.Minute, time.Hour}[r.IntN(6)])
		now := s.clock.Now()
		switch r.IntN(40) {
		case 0:
			s.api.Delete(secretPath)
		case 1:
			s.api.Put(secretPath, map[string]any{"apiVersion": "v1", "kind": "Secret", "metadata": map[string]any{"name": "certs"}, "type": "Opaque"})
		case 2:
			i := r.IntN(len(replicas))
			replicas[i], away[i] = certificates.New(s.options()), time.Time{}
		case 3:
			away[r.IntN(len(replicas))] = now.Add(time.Duration(r.IntN(6)) * time.Hour)
		}
		for _, i := range r.Perm(len(replicas)) {
			if away[i].Before(now) {
				step(t, replicas[i])
			}
		}
		for _, a := range servers {
			a.learns(now, s.bundle())
		}
		ready := 0
		for i, k := range replicas {
			if k.Trusted() != nil {
				continue
			}
			ready++
			certificatesSeen[string(k.Served().Cert)] = true
			for _, a := range servers {
				handshakes++
				if err := s.trusts(a.bundle(now), k); err != nil {
					t.Fatalf("after %v replica %d is not trusted by a server with a lag of %v: %v", now.Sub(began), i, a.lag, err)
				}
			}
		}
		if ready == 0 {
			t.Fatalf("after %v no replica is ready", now.Sub(began))
		}
	}
	if len(certificatesSeen) < 4 || handshakes < 500 {
		t.Errorf("only %d certificates were served, in %d handshakes", len(certificatesSeen), handshakes)
	}
}

// Without the pause between a CA's being written and its certificate's being
// served, admissions fail: the test above sees that.
func TestWithoutThePauseAdmissionsFail(t *testing.T) {
	s := newScene(t)
	o := s.options()
	o.Settle = time.Nanosecond
	k := certificates.New(o)
	step(t, k)
	late := &apiServer{lag: 5 * time.Second}
	late.learns(s.clock.Now().Add(-time.Hour), s.bundle())
	s.clock.pass(validity - rotate)
	step(t, k)
	late.learns(s.clock.Now(), s.bundle())
	s.clock.pass(time.Second)
	if err := k.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
	if err := s.trusts(late.bundle(s.clock.Now()), k); err == nil {
		t.Error("a server that does not know the new CA yet trusts its certificate")
	}
}
