package service

import (
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/base64"
	"encoding/json"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/apitest"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/cluster"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/configuration"
	"github.com/locksidecar/locksidecar/internal/testenv"
)

const (
	hookPath = "/apis/admissionregistration.k8s.io/v1/mutatingwebhookconfigurations/hook"
	patience = 60 * time.Second
	file     = `
sidecar: {image: example/locksidecar:1}
configuration: |
  backends: {main: {url: "redis://r:6379"}}
certificates: {webhookConfiguration: hook, service: injector, secret: certs}
`
)

// running is an injector that runs.
type running struct {
	t               *testing.T
	api             *apitest.Server
	dir             string
	listen, metrics string
	cancel          context.CancelFunc
	ended           chan error
}

// address is one that nobody but the injector listens on until the test has ended.
func address(t *testing.T) string {
	t.Helper()
	return net.JoinHostPort("127.0.0.1", testenv.FreePort(t))
}

// start runs an injector until the test ends.
func start(t *testing.T, prepare func(api *apitest.Server)) *running {
	t.Helper()
	r := &running{t: t, api: apitest.New(t), dir: t.TempDir(), listen: address(t), metrics: address(t), ended: make(chan error, 1)}
	r.api.Put(hookPath, map[string]any{
		"apiVersion": "admissionregistration.k8s.io/v1", "kind": "MutatingWebhookConfiguration", "metadata": map[string]any{"name": "hook"},
		"webhooks": []any{map[string]any{"name": "pods.locksidecar.dev", "clientConfig": map[string]any{}}},
	})
	if prepare != nil {
		prepare(r.api)
	}
	r.write(file)
	log := slog.New(slog.DiscardHandler)
	source, err := configuration.Open(filepath.Join(r.dir, "injector.yaml"), "v1", log)
	if err != nil {
		t.Fatal(err)
	}
	client, err := cluster.New(r.api.Config(), "locks")
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithCancel(context.Background())
	r.cancel = cancel
	go func() {
		r.ended <- Run(ctx, Options{
			Source: source, Client: client, Namespace: "locks", Instance: "one", Version: "v1", Listen: r.listen, Metrics: r.metrics, Logger: log,
		})
	}()
	t.Cleanup(func() {
		cancel()
		select {
		case err := <-r.ended:
			if err != nil {
				t.Errorf("it ended with %v", err)
			}
		case <-time.After(patience):
			t.Error("it does not end")
		}
	})
	return r
}

func (r *running) write(text string) {
	r.t.Helper()
	next := filepath.Join(r.dir, "next")
	err := os.WriteFile(next, []byte(text), 0o600)
	if err == nil {
		err = os.Rename(next, filepath.Join(r.dir, "injector.yaml"))
	}
	if err != nil {
		r.t.Fatal(err)
	}
}

// get asks the listener for status.
func (r *running) get(path string) (code int, body string) {
	resp, err := http.Get("http://" + r.metrics + path)
	if err != nil {
		return 0, err.Error()
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		return 0, err.Error()
	}
	return resp.StatusCode, string(raw)
}

// until waits for an answer.
func (r *running) until(path string, code int, parts ...string) {
	r.t.Helper()
	var got int
	var body string
	for deadline := time.Now().Add(patience); time.Now().Before(deadline); time.Sleep(10 * time.Millisecond) {
		got, body = r.get(path)
		missing := false
		for _, p := range parts {
			missing = missing || !strings.Contains(body, p)
		}
		if got == code && !missing {
			return
		}
	}
	r.t.Fatalf("%s does not answer %d with %q, but %d:\n%s", path, code, parts, got, body)
}

// admit asks about a pod as an API server would, by the caBundle.
func (r *running) admit(pod string) (answer string) {
	r.t.Helper()
	roots := x509.NewCertPool()
	hook := r.api.Get(hookPath)["webhooks"].([]any)[0].(map[string]any)["clientConfig"].(map[string]any)
	bundle, err := base64.StdEncoding.DecodeString(hook["caBundle"].(string))
	if err != nil || !roots.AppendCertsFromPEM(bundle) {
		r.t.Fatalf("the caBundle: %v", err)
	}
	transport := &http.Transport{TLSClientConfig: &tls.Config{MinVersion: tls.VersionTLS12, RootCAs: roots, ServerName: "injector.locks.svc"}}
	defer transport.CloseIdleConnections()
	resp, err := (&http.Client{Transport: transport, Timeout: patience}).Post("https://"+r.listen+"/inject", "application/json", strings.NewReader(
		`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u","namespace":"shop","operation":"CREATE",`+
			`"resource":{"version":"v1","resource":"pods"},"object":`+pod+`}}`))
	if err != nil {
		r.t.Fatal(err)
	}
	defer func() { _ = resp.Body.Close() }()
	raw, err := io.ReadAll(resp.Body)
	if err != nil {
		r.t.Fatal(err)
	}
	var review struct {
		Response struct {
			Allowed bool
			Patch   []byte
			Status  struct{ Message string }
		}
	}
	if err := json.Unmarshal(raw, &review); err != nil {
		r.t.Fatalf("%v\n%s", err, raw)
	}
	if !review.Response.Allowed {
		return review.Response.Status.Message
	}
	return string(bytes.TrimSpace(review.Response.Patch))
}

const asking = `{"metadata":{"name":"web","labels":{"locksidecar.dev/inject":"true"},"ownerReferences":[{"apiVersion":"apps/v1","kind":"ReplicaSet","name":"web","uid":"1","controller":true}]},` +
	`"spec":{"containers":[{"name":"app"}]}}`

func TestAnInjectorFromItsStartToItsEnd(t *testing.T) {
	r := start(t, nil)
	r.until("/readyz", 200, "certificate: ok\n", "cluster: ok\n", "configuration: ok\n")
	r.until("/healthz", 200)
	if patch := r.admit(asking); !strings.Contains(patch, `"image":"example/locksidecar:1"`) {
		t.Fatalf("the answer is %s", patch)
	}
	if said := r.admit(strings.Replace(asking, `"labels"`, `"annotations":{"locksidecar.dev/image":"evil"},"labels"`, 1)); !strings.Contains(said, "a pod does not decide that") {
		t.Errorf("the refusal says %s", said)
	}
	r.until("/metrics", 200, `locksidecar_injector_admissions_total{reason="",result="injected"} 1`,
		`locksidecar_injector_admissions_total{reason="annotation",result="refused"} 1`, "locksidecar_injector_certificate_trusted 1\n")
	// Both were told beside the controller.
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		events := 0
		for _, w := range r.api.Told() {
			if strings.HasPrefix(w, "POST /api/v1/namespaces/shop/events/") {
				events++
			}
		}
		if events == 2 {
			break
		}
		if time.Now().After(deadline) {
			t.Fatalf("%d events were written", events)
		}
	}
	// The pods without a sidecar.
	r.api.Put("/api/v1/namespaces/shop/pods/old", map[string]any{
		"apiVersion": "v1", "kind": "Pod", "metadata": map[string]any{"name": "old", "namespace": "shop", "labels": map[string]any{"locksidecar.dev/inject": "true"}},
		"spec": map[string]any{"containers": []any{map[string]any{"name": "app"}}},
	})
	r.until("/metrics", 200, `locksidecar_injector_uninjected_pods{namespace="shop"} 1`)
	r.api.Delete("/api/v1/namespaces/shop/pods/old")
	for deadline := time.Now().Add(patience); ; time.Sleep(10 * time.Millisecond) {
		if _, body := r.get("/metrics"); !strings.Contains(body, "uninjected_pods{") {
			break
		}
		if time.Now().After(deadline) {
			t.Fatal("a pod that is gone is counted")
		}
	}
	// A configuration that is wrong is told, and takes no replica away.
	r.write("sidecar: {}\n")
	r.until("/readyz", 200, "configuration: refused, the one before is in force: ", "sidecar.image is missing")
	r.until("/metrics", 200, "locksidecar_injector_config_current 0\n")
	if patch := r.admit(asking); !strings.Contains(patch, `"image":"example/locksidecar:1"`) {
		t.Errorf("the answer is %s", patch)
	}
	r.write(strings.Replace(file, "locksidecar:1", "locksidecar:2", 1))
	r.until("/readyz", 200, "configuration: ok\n")
	if patch := r.admit(asking); !strings.Contains(patch, `"image":"example/locksidecar:2"`) {
		t.Errorf("the answer is %s", patch)
	}
}

func TestAnOldClusterIsToldByReadyz(t *testing.T) {
	r := start(t, func(api *apitest.Server) { api.Version = `{"major":"1","minor":"28","gitVersion":"v1.28.0"}` })
	r.until("/readyz", 503, "cluster: this cluster is Kubernetes v1.28.0", "certificate: ok\n")
	if said := r.admit(asking); !strings.Contains(said, "Update the cluster to 1.29") {
		t.Errorf("the refusal says %s", said)
	}
}

func TestWithoutAnAPIServerItIsNotReady(t *testing.T) {
	r := start(t, func(api *apitest.Server) { api.Fail(func(string, string) int { return 500 }) })
	r.until("/readyz", 503, "cluster: the API server", "certificate: certificates:")
	r.until("/healthz", 200)
}

func TestWhatIsMissingInTheConfigurationIsTold(t *testing.T) {
	for text, says := range map[string]string{
		"{}":                             "certificates.service is missing",
		"{service: injector}":            "certificates.secret is missing",
		"{service: injector, secret: s}": "certificates.webhookConfiguration is missing",
		"{existing: /etc/none}":          "certificates.service is missing",
	} {
		path := filepath.Join(t.TempDir(), "injector.yaml")
		if err := os.WriteFile(path, []byte(strings.Replace(file, "{webhookConfiguration: hook, service: injector, secret: certs}", text, 1)), 0o600); err != nil {
			t.Fatal(err)
		}
		source, err := configuration.Open(path, "v1", slog.New(slog.DiscardHandler))
		if err != nil {
			t.Fatal(err)
		}
		if err := Run(t.Context(), Options{Source: source, Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), says) {
			t.Errorf("%s: %v", text, err)
		}
	}
}
