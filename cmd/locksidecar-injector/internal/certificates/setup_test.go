package certificates_test

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"log/slog"
	"net"
	"sync"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/apitest"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/cluster"
)

const (
	secretPath = "/api/v1/namespaces/locks/secrets/certs"
	hookPath   = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook"
	serverName = "injector.locks.svc"
	validity   = 24 * time.Hour
	rotate     = 8 * time.Hour
	settle     = 30 * time.Second
)

var names = []string{"injector", "injector.locks", serverName}

// clock is moved by the test alone.
type clock struct {
	mu  sync.Mutex
	now time.Time
}

func newClock() *clock { return &clock{now: time.Date(2030, 1, 1, 0, 0, 0, 0, time.UTC)} }

func (c *clock) Now() time.Time {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.now
}

func (c *clock) pass(d time.Duration) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.now = c.now.Add(d)
}

// scene is an API server with a webhook's configuration, and a clock.
type scene struct {
	t     testing.TB
	api   *apitest.Server
	clock *clock
}

func newScene(t testing.TB) *scene {
	t.Helper()
	s := &scene{t, apitest.New(t), newClock()}
	s.api.Put(hookPath, hook(nil))
	return s
}

// hook is a configuration of two webhooks.
func hook(bundle []byte) map[string]any {
	one := func(name string) map[string]any {
		c := map[string]any{"service": map[string]any{"name": "injector", "namespace": "locks"}}
		if bundle != nil {
			c["caBundle"] = base64.StdEncoding.EncodeToString(bundle)
		}
		return map[string]any{"name": name, "clientConfig": c}
	}
	return map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration",
		"metadata": map[string]any{"name": "hook"}, "webhooks": []any{one("pods.locksidecar.dev"), one("check.locksidecar.dev")},
	}
}

// options are a replica's.
func (s *scene) options() certificates.Options {
	s.t.Helper()
	c, err := cluster.New(s.api.Config(), "locks")
	if err != nil {
		s.t.Fatal(err)
	}
	return certificates.Options{
		Store: cluster.Secret{Client: c, Name: "certs"}, Bundles: cluster.Bundles{Client: c, Name: "hook"}, Names: names,
		Validity: validity, RotateBefore: rotate, Settle: settle, Now: s.clock.Now, Logger: slog.New(slog.DiscardHandler),
	}
}

// step is one that must succeed.
func step(t testing.TB, k *certificates.Keeper) {
	t.Helper()
	if err := k.Step(context.Background()); err != nil {
		t.Fatal(err)
	}
}

// bundle is what the webhook's configuration has now.
func (s *scene) bundle() []byte {
	s.t.Helper()
	var all []byte
	for _, w := range s.api.Get(hookPath)["webhooks"].([]any) {
		text, _ := w.(map[string]any)["clientConfig"].(map[string]any)["caBundle"].(string)
		raw, err := base64.StdEncoding.DecodeString(text)
		if err != nil {
			s.t.Fatal(err)
		}
		if all != nil && string(raw) != string(all) {
			s.t.Fatal("the webhooks have different bundles")
		}
		all = raw
	}
	return all
}

// trusts says whether an API server with a bundle would take what a replica
// serves, by a handshake on a connection.
func (s *scene) trusts(bundle []byte, k *certificates.Keeper) error {
	s.t.Helper()
	roots := x509.NewCertPool()
	roots.AppendCertsFromPEM(bundle)
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	if err != nil {
		s.t.Fatal(err)
	}
	defer func() { _ = listener.Close() }()
	served := make(chan struct{})
	go func() {
		defer close(served)
		c, err := listener.Accept()
		if err != nil {
			return
		}
		// Its own error is the client's.
		_ = tls.Server(c, &tls.Config{MinVersion: tls.VersionTLS12, GetCertificate: k.GetCertificate, Time: s.clock.Now}).HandshakeContext(context.Background())
		_ = c.Close()
	}()
	c, err := net.Dial("tcp", listener.Addr().String())
	if err != nil {
		s.t.Fatal(err)
	}
	err = tls.Client(c, &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: serverName, Time: s.clock.Now}).HandshakeContext(context.Background())
	_ = c.Close()
	<-served
	return err
}
