//go:build cluster

package chart

import (
	"context"
	"crypto/ecdsa"
	"crypto/elliptic"
	"crypto/rand"
	"crypto/tls"
	"crypto/x509"
	"crypto/x509/pkix"
	"encoding/base64"
	"encoding/json"
	"encoding/pem"
	"errors"
	"fmt"
	"io"
	"math/big"
	"net/http"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/internal/testenv/kube"
)

// serverName is what the API server expects of the injector's certificate.
const serverName = injector + "." + releaseNamespace + ".svc"

// seed makes the cluster one in which injectors have run for hours: their Secret has
// a certificate, which ends then, and the caBundles have its authority.
func seed(t *testing.T, until time.Time) *x509.Certificate {
	t.Helper()
	pair, leaf := made(t, until)
	fill(t, injector+"-certificates", pair)
	type step struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value []byte `json:"value"`
	}
	var steps []step
	for i := range webhooks(t) {
		steps = append(steps, step{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), []byte(pair["ca.crt"])})
	}
	patch, err := json.Marshal(steps)
	if err != nil {
		t.Fatal(err)
	}
	cluster.Kubectl(t, "patch", "mutatingwebhookconfiguration", injector, "--type=json", "-p", string(patch))
	return leaf
}

// fill sets what a Secret of the release's namespace holds.
func fill(t *testing.T, secret string, pair map[string]string) {
	t.Helper()
	patch, err := json.Marshal(map[string]any{"stringData": pair})
	if err != nil {
		t.Fatal(err)
	}
	cluster.Kubectl(t, "patch", "secret", secret, "-n", releaseNamespace, "--type=merge", "-p", string(patch))
}

// made is a new certificate with its key and its authority, by the names that they
// have in a Secret.
func made(t *testing.T, until time.Time) (pair map[string]string, leaf *x509.Certificate) {
	t.Helper()
	sign := func(c, by *x509.Certificate, key, with *ecdsa.PrivateKey) string {
		der, err := x509.CreateCertificate(rand.Reader, c, by, &key.PublicKey, with)
		if err != nil {
			t.Fatal(err)
		}
		return text("CERTIFICATE", der)
	}
	keys := make([]*ecdsa.PrivateKey, 2)
	for i := range keys {
		var err error
		if keys[i], err = ecdsa.GenerateKey(elliptic.P256(), rand.Reader); err != nil {
			t.Fatal(err)
		}
	}
	ca := &x509.Certificate{
		SerialNumber: big.NewInt(1), Subject: pkix.Name{CommonName: "seeded CA"}, NotBefore: time.Now().Add(-5 * time.Hour), NotAfter: until,
		IsCA: true, BasicConstraintsValid: true, KeyUsage: x509.KeyUsageCertSign,
	}
	leaf = &x509.Certificate{
		SerialNumber: big.NewInt(until.UnixNano()), Subject: pkix.Name{CommonName: "seeded"}, NotBefore: ca.NotBefore, NotAfter: until,
		KeyUsage: x509.KeyUsageDigitalSignature, ExtKeyUsage: []x509.ExtKeyUsage{x509.ExtKeyUsageServerAuth},
		DNSNames: []string{injector, injector + "." + releaseNamespace, serverName},
	}
	key, err := x509.MarshalPKCS8PrivateKey(keys[1])
	if err != nil {
		t.Fatal(err)
	}
	return map[string]string{
		"ca.crt": sign(ca, ca, keys[0], keys[0]), "tls.crt": sign(leaf, ca, keys[1], keys[0]), "tls.key": text("PRIVATE KEY", key),
	}, leaf
}

func text(kind string, der []byte) string {
	return string(pem.EncodeToMemory(&pem.Block{Type: kind, Bytes: der}))
}

// served is the certificate that a replica serves; with roots, verified by them.
func served(replica int, roots *x509.CertPool) (*x509.Certificate, error) {
	c, err := tls.Dial("tcp", fmt.Sprintf("%s:%d", kube.NodeAddress, 9443+replica), &tls.Config{
		ServerName: serverName, RootCAs: roots, InsecureSkipVerify: roots == nil, MinVersion: tls.VersionTLS12,
	})
	if err != nil {
		return nil, err
	}
	defer func() { _ = c.Close() }()
	return c.ConnectionState().PeerCertificates[0], nil
}

// load is steady work for the injectors: dry-run admissions through the API server,
// and new connections to each replica, trusted by the caBundle of that moment.
type load struct {
	replicas            atomic.Int64 // those that are connected to
	admitted, connected atomic.Int64
	mu                  sync.Mutex
	failures            []error
}

func (l *load) note(err error, done *atomic.Int64) {
	if err == nil {
		done.Add(1)
		return
	}
	l.mu.Lock()
	defer l.mu.Unlock()
	l.failures = append(l.failures, fmt.Errorf("%s: %w", time.Now().Format(time.TimeOnly), err))
}

// steady runs the load until the function that it returns is called.
func steady(t *testing.T) (*load, func()) {
	t.Helper()
	l, tasks := &load{}, sync.WaitGroup{}
	l.replicas.Store(1)
	ctx, stop := context.WithCancel(t.Context())
	for _, task := range []func(context.Context){
		func(ctx context.Context) { l.note(admit(ctx), &l.admitted) },
		func(ctx context.Context) { l.note(connect(ctx, int(l.replicas.Load())), &l.connected) },
	} {
		tasks.Go(func() {
			for ctx.Err() == nil {
				task(context.WithoutCancel(ctx)) // what was begun is ended
			}
		})
	}
	end := func() { stop(); tasks.Wait() }
	t.Cleanup(end)
	return l, end
}

// admit asks for one pod, as a dry run, and wants it injected.
func admit(ctx context.Context) error {
	res, err := cluster.Request(ctx, http.MethodPost, "/api/v1/namespaces/"+appsNamespace+"/pods?dryRun=All", []byte(bare("steady", template(true, ""))))
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	raw, err := io.ReadAll(res.Body)
	if err == nil && (res.StatusCode != http.StatusCreated || !strings.Contains(string(raw), "locksidecar.dev/status")) {
		err = fmt.Errorf("%s: %s", res.Status, raw)
	}
	return err
}

// connect reads the caBundle as an API server does, and then connects.
func connect(ctx context.Context, replicas int) error {
	res, err := cluster.Request(ctx, http.MethodGet, "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/"+injector, nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	var w struct {
		Webhooks []struct{ ClientConfig struct{ CABundle string } }
	}
	if err := json.NewDecoder(res.Body).Decode(&w); err != nil {
		return err
	}
	for _, h := range w.Webhooks {
		bundle, err := base64.StdEncoding.DecodeString(h.ClientConfig.CABundle)
		if err != nil {
			return err
		}
		roots := x509.NewCertPool()
		roots.AppendCertsFromPEM(bundle)
		for i := range replicas {
			if _, err := served(i, roots); err != nil {
				return fmt.Errorf("replica %d: %w", i, err)
			}
		}
	}
	return nil
}

// Two replicas replace a certificate that is about to end, on a real API server and
// by the real clock, and under steady load nobody notices: no admission fails and
// no connection is distrusted, before its end and after it.
func TestACertificateIsReplacedUnderLoad(t *testing.T) {
	const replicas = 2
	begun := time.Now()
	r := install(t, "--set", "injector.replicas=2")
	// A machine that is slow now gets the more time before the certificate ends.
	slow := time.Since(begun)
	settle := "--settle=" + (8*time.Second + 2*slow).String()
	seeded := seed(t, time.Now().Add(25*time.Second+8*slow))
	r.start(t, settle)
	if c, err := served(0, nil); err != nil || c.Subject.CommonName != seeded.Subject.CommonName {
		t.Fatalf("a replica serves %v at first (%v), want the one that all know", c, err)
	}
	l, stop := steady(t)
	r.start(t, settle)
	l.replicas.Store(replicas)
	cluster.Eventually(t, "both replicas serve another certificate", func() error {
		for i := range replicas {
			c, err := served(i, nil)
			if err != nil {
				return err
			}
			if c.Subject.CommonName == seeded.Subject.CommonName {
				return fmt.Errorf("replica %d still serves the old one", i)
			}
		}
		return nil
	})
	at := time.Now()
	if !at.Before(seeded.NotAfter) {
		t.Errorf("it was replaced %v after its end", at.Sub(seeded.NotAfter))
	}
	var after [2]int64
	cluster.Eventually(t, "the old one has ended, and there was load after it", func() error {
		if time.Now().Before(seeded.NotAfter) {
			after = [2]int64{l.admitted.Load(), l.connected.Load()}
			return errors.New("it is valid")
		}
		if a, c := l.admitted.Load()-after[0], l.connected.Load()-after[1]; a < 50 || c < 50 {
			return fmt.Errorf("%d admitted, %d connected", a, c)
		}
		return nil
	})
	stop()
	a, b := serial(t, 0), serial(t, 1)
	if a.Cmp(b) != 0 {
		t.Errorf("the replicas serve different certificates, %x and %x", a, b)
	}
	t.Logf("%d pods admitted, %d times connected", l.admitted.Load(), l.connected.Load())
	for i, err := range l.failures {
		if i < 5 {
			t.Error(err)
		}
	}
	if n := len(l.failures); n > 0 {
		t.Errorf("%d failed", n)
	}
}

func serial(t *testing.T, replica int) *big.Int {
	t.Helper()
	c, err := served(replica, nil)
	if err != nil {
		t.Fatal(err)
	}
	return c.SerialNumber
}

// A certificate that has ended while no injector ran is replaced before the first
// one says that it is ready.
func TestAnEndedCertificateIsReplacedAtTheStart(t *testing.T) {
	r := install(t)
	seed(t, time.Now().Add(-time.Minute))
	r.start(t)
	p, err := create(t, appsNamespace, bare("one", template(true, "")))
	if err != nil {
		t.Fatal(err)
	}
	injected(t, p)
	if c, err := served(0, nil); err != nil || time.Until(c.NotAfter) < 24*time.Hour {
		t.Errorf("it serves %v (%v)", c, err)
	}
}

// A Secret that somebody empties is filled again; what is served goes on meanwhile.
func TestALostSecretIsFilledAgain(t *testing.T) {
	r := install(t)
	r.start(t)
	l, stop := steady(t)
	cluster.Kubectl(t, "patch", "secret", injector+"-certificates", "-n", releaseNamespace, "--type=json", "-p", `[{"op": "remove", "path": "/data"}]`)
	cluster.Eventually(t, "it is filled again", func() error {
		if out := cluster.Kubectl(t, "get", "secret", injector+"-certificates", "-n", releaseNamespace, "-o", `jsonpath={.data.tls\.crt}`); out == "" {
			return errors.New("it is empty")
		}
		return nil
	})
	cluster.Eventually(t, "there was load", func() error {
		if l.admitted.Load() == 0 {
			return errors.New("none is admitted yet")
		}
		return nil
	})
	stop()
	if len(l.failures) > 0 {
		t.Errorf("%d failed: %v", len(l.failures), errors.Join(l.failures...))
	}
}

// A certificate of somebody else's is served as it is, its authority is written into
// the caBundle, and when it is replaced, as cert-manager does, no admission fails.
func TestACertificateOfOnesOwn(t *testing.T) {
	const own = "own"
	namespace(t, releaseNamespace, "restricted")
	cluster.Kubectl(t, "create", "secret", "generic", own, "-n", releaseNamespace)
	t.Cleanup(func() { cluster.Kubectl(cluster.Outliving(t), "delete", "secret", own, "-n", releaseNamespace) })
	first, leaf := made(t, time.Now().Add(24*time.Hour))
	fill(t, own, first)
	r := install(t, "--set", "certificates.existingSecret="+own)
	r.start(t, "--settle=5s")
	if c, err := served(0, nil); err != nil || c.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
		t.Fatalf("it serves %v (%v)", c, err)
	}
	l, stop := steady(t)
	second, leaf := made(t, time.Now().Add(48*time.Hour))
	fill(t, own, second)
	r.volumes(t)
	cluster.Eventually(t, "the new certificate is served", func() error {
		if c, err := served(0, nil); err != nil || c.SerialNumber.Cmp(leaf.SerialNumber) != 0 {
			return fmt.Errorf("it serves another one (%w)", errors.Join(err))
		}
		return nil
	})
	before := l.admitted.Load()
	cluster.Eventually(t, "there was load after it", func() error {
		if l.admitted.Load() < before+50 {
			return errors.New("not enough")
		}
		return nil
	})
	stop()
	if len(l.failures) > 0 {
		t.Errorf("%d failed: %v", len(l.failures), l.failures[0])
	}
	// The injector has no right to any Secret then.
	as := "--as=system:serviceaccount:" + releaseNamespace + ":" + injector
	if out, _ := cluster.TryKubectl(t, "", "auth", "can-i", as, "get", "secrets/"+own, "-n", releaseNamespace); strings.TrimSpace(out) != "no" {
		t.Errorf("may it read the Secret? %s", out)
	}
}
