package webhook

import (
	"bytes"
	"encoding/json"
	"errors"
	"log/slog"
	"net/http"
	"net/http/httptest"
	"strings"
	"sync"
	"testing"
	"time"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/version"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
)

// told is what a handler told.
type told struct {
	mu      sync.Mutex
	results []string
	events  []string
}

// handler is one whose settings, and what it knows of the cluster, can change.
func handler(t testing.TB, change ...func(o *Options)) (*Handler, *told) {
	t.Helper()
	x := &told{}
	settings := &inject.Settings{Version: "v1", Image: "example/locksidecar:1", RunAsUser: 1, LogLevel: "info", Configuration: "backends: {}\n"}
	o := Options{
		Settings: func() *inject.Settings { return settings },
		Platform: func() (error, bool) { return nil, true },
		Admitted: func(result, reason string, _ time.Duration) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.results = append(x.results, strings.TrimSuffix(result+" "+reason, " "))
		},
		Event: func(namespace string, _ *corev1.Pod, kind, reason, message string) {
			x.mu.Lock()
			defer x.mu.Unlock()
			x.events = append(x.events, strings.Join([]string{namespace, kind, reason, message}, " | "))
		},
		Logger: slog.New(slog.DiscardHandler),
	}
	for _, c := range change {
		c(&o)
	}
	return New(o), x
}

const wanting = `{"metadata":{"generateName":"web-","labels":{"locksidecar.dev/inject":"true"},"annotations":{"a":"b"}},"spec":{"containers":[{"name":"app","image":"x","later":{"unknown":1}}]}}`

// review is one about a pod; extra goes into the request.
func review(pod, extra string) string {
	return `{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview","request":{"uid":"u1","namespace":"shop","operation":"CREATE",` +
		`"resource":{"group":"","version":"v1","resource":"pods"},` + extra + `"object":` + pod + `}}`
}

// ask posts a body and reads the answer, which must be one.
func ask(t *testing.T, h *Handler, body string) *admissionv1.AdmissionResponse {
	t.Helper()
	w := httptest.NewRecorder()
	h.Server().Handler.ServeHTTP(w, httptest.NewRequest("POST", Path, strings.NewReader(body)))
	if w.Code != http.StatusOK || w.Header().Get("Content-Type") != "application/json" {
		t.Fatalf("answered %d: %s", w.Code, w.Body)
	}
	var r admissionv1.AdmissionReview
	if err := json.Unmarshal(w.Body.Bytes(), &r); err != nil {
		t.Fatal(err)
	}
	if r.APIVersion != "admission.k8s.io/v1" || r.Kind != "AdmissionReview" || r.Response == nil || r.Response.UID != "u1" {
		t.Fatalf("no answer to the review: %s", w.Body)
	}
	return r.Response
}

// patched is the pod that an API server makes by the answer.
func patched(t testing.TB, pod string, r *admissionv1.AdmissionResponse) []byte {
	t.Helper()
	if r.PatchType == nil || *r.PatchType != admissionv1.PatchTypeJSONPatch {
		t.Fatalf("the answer has a patch and not its type: %+v", r)
	}
	p, err := jsonpatch.DecodePatch(r.Patch)
	if err != nil {
		t.Fatal(err)
	}
	out, err := p.Apply([]byte(pod))
	if err != nil {
		t.Fatal(err)
	}
	return out
}

func TestAPodIsInjectedAndAskedAboutAgain(t *testing.T) {
	h, x := handler(t)
	r := ask(t, h, review(wanting, ""))
	if !r.Allowed {
		t.Fatalf("refused: %v", r.Result)
	}
	out := patched(t, wanting, r)
	var pod corev1.Pod
	if err := json.Unmarshal(out, &pod); err != nil {
		t.Fatal(err)
	}
	if pod.Spec.InitContainers[0].Name != inject.Container || pod.Annotations["a"] != "b" || !bytes.Contains(out, []byte(`"later":{"unknown":1}`)) {
		t.Errorf("the pod is now %s", out)
	}
	if r = ask(t, h, review(string(out), "")); !r.Allowed || r.Patch != nil || r.PatchType != nil {
		t.Errorf("asked again: %v, %s", r.Allowed, r.Patch)
	}
	if got := strings.Join(x.results, ", "); got != "injected, already" {
		t.Errorf("counted: %s", got)
	}
	if len(x.events) != 1 || x.events[0] != "shop | Normal | LocksidecarInjected | pods get the sidecar locksidecar: [app]" {
		t.Errorf("events: %q", x.events)
	}
}

func TestRefusalsSayWhyAndAreCounted(t *testing.T) {
	h, x := handler(t)
	r := ask(t, h, review(strings.Replace(wanting, `"a":"b"`, `"locksidecar.dev/image":"evil"`, 1), ""))
	if r.Allowed || r.Result.Code != http.StatusForbidden || !strings.Contains(r.Result.Message, "locksidecar: annotation locksidecar.dev/image: a pod does not decide that") {
		t.Errorf("answered %v: %+v", r.Allowed, r.Result)
	}
	if len(x.results) != 1 || x.results[0] != "refused annotation" {
		t.Errorf("counted: %q", x.results)
	}
	if len(x.events) != 1 || !strings.HasPrefix(x.events[0], "shop | Warning | LocksidecarRefused | pod web-*: annotation locksidecar.dev/image") {
		t.Errorf("events: %q", x.events)
	}
}

func TestADryRunWritesNoEvents(t *testing.T) {
	h, x := handler(t)
	for _, pod := range []string{wanting, strings.Replace(wanting, `"a":"b"`, `"locksidecar.dev/image":"evil"`, 1)} {
		ask(t, h, review(pod, `"dryRun":true,`))
	}
	if len(x.events) != 0 || len(x.results) != 2 {
		t.Errorf("events: %q, counted: %q", x.events, x.results)
	}
	ask(t, h, review(wanting, `"dryRun":false,`))
	if len(x.events) != 1 {
		t.Errorf("events of no dry run: %q", x.events)
	}
}

// What nobody asked to inject is admitted as it is.
func TestOthersAreAdmittedAsTheyAre(t *testing.T) {
	for name, body := range map[string]string{
		"no label":        review(`{"metadata":{"name":"x"},"spec":{}}`, ""),
		"another value":   review(strings.Replace(wanting, `"true"`, `"false"`, 1), ""),
		"an update":       strings.Replace(review(wanting, ""), "CREATE", "UPDATE", 1),
		"a subresource":   review(wanting, `"subResource":"ephemeralcontainers",`),
		"another thing":   strings.Replace(review(wanting, ""), `"pods"`, `"services"`, 1),
		"another's pods":  strings.Replace(review(wanting, ""), `"group":""`, `"group":"example.com"`, 1),
		"a later version": strings.Replace(review(wanting, ""), `"version":"v1"`, `"version":"v2"`, 1),
	} {
		t.Run(name, func(t *testing.T) {
			h, x := handler(t)
			if r := ask(t, h, body); !r.Allowed || r.Patch != nil || len(x.results) != 0 || len(x.events) != 0 {
				t.Errorf("answered %+v, counted %q", r, x.results)
			}
		})
	}
}

func TestWhatIsNoReviewIsRefused(t *testing.T) {
	for name, row := range map[string]struct {
		body string
		code int
	}{
		"nothing":         {"", 400},
		"no JSON":         {"<xml/>", 400},
		"another version": {strings.Replace(review(wanting, ""), "admission.k8s.io/v1", "admission.k8s.io/v1beta1", 1), 400},
		"another kind":    {strings.Replace(review(wanting, ""), "AdmissionReview", "Pod", 1), 400},
		"no request":      {`{"apiVersion":"admission.k8s.io/v1","kind":"AdmissionReview"}`, 400},
		"no uid":          {strings.Replace(review(wanting, ""), "u1", "", 1), 400},
		"too much":        {strings.Repeat(" ", MaxBody+1), 413},
	} {
		t.Run(name, func(t *testing.T) {
			h, x := handler(t)
			w := httptest.NewRecorder()
			h.Server().Handler.ServeHTTP(w, httptest.NewRequest("POST", Path, strings.NewReader(row.body)))
			if w.Code != row.code || len(x.results) != 1 || x.results[0] != "error request" {
				t.Errorf("answered %d: %s; counted %q", w.Code, w.Body, x.results)
			}
		})
	}
	h, _ := handler(t)
	for target, code := range map[string]int{"GET " + Path: 405, "POST /": 404, "POST /inject/x": 404} {
		method, path, _ := strings.Cut(target, " ")
		w := httptest.NewRecorder()
		h.Server().Handler.ServeHTTP(w, httptest.NewRequest(method, path, nil))
		if w.Code != code {
			t.Errorf("%s answered %d, want %d", target, w.Code, code)
		}
	}
}

func TestAPodThatCannotBeReadIsRefused(t *testing.T) {
	h, x := handler(t)
	for _, pod := range []string{`"text"`, `{"spec":{"containers":{}}}`, `null`} {
		if r := ask(t, h, review(pod, "")); r.Allowed && pod != `null` {
			t.Errorf("%s was admitted", pod)
		}
	}
	if len(x.results) < 2 || x.results[0] != "error request" {
		t.Errorf("counted: %q", x.results)
	}
}

// A static pod runs whatever is said of its mirror: it is let in to be counted, also
// where nobody could have a sidecar, and whatever its label says.
func TestTheMirrorOfAStaticPodIsAdmittedUnchanged(t *testing.T) {
	mirror := strings.Replace(wanting, `"a":"b"`, `"kubernetes.io/config.mirror":"x","kubernetes.io/config.source":"file"`, 1)
	for _, pod := range []string{mirror, strings.Replace(mirror, `"true"`, `"yes"`, 1)} {
		h, x := handler(t, func(o *Options) { o.Platform = func() (error, bool) { return errors.New("refused"), false } })
		r := ask(t, h, review(pod, ""))
		if !r.Allowed || r.Patch != nil || len(r.Warnings) != 1 || !strings.Contains(r.Warnings[0], "it has no sidecar; remove the label locksidecar.dev/inject") {
			t.Errorf("answered %+v", r)
		}
		if len(x.results) != 1 || x.results[0] != "static" || len(x.events) != 0 {
			t.Errorf("counted: %q, events %q", x.results, x.events)
		}
	}
	h, _ := handler(t)
	if r := ask(t, h, review(strings.Replace(wanting, `"a":"b"`, `"kubernetes.io/config.source":"file"`, 1), "")); r.Allowed {
		t.Error("a pod that is none of a node's, and says so, is admitted without a sidecar")
	}
}

func TestAPanicIsAnswered(t *testing.T) {
	h, x := handler(t, func(o *Options) { o.Settings = func() *inject.Settings { panic("oh") } })
	r := ask(t, h, review(wanting, ""))
	if r.Allowed || r.Result.Code != http.StatusInternalServerError || !strings.Contains(r.Result.Message, "its log says why") {
		t.Errorf("answered %+v", r)
	}
	if len(x.results) != 1 || x.results[0] != "error panic" {
		t.Errorf("counted: %q", x.results)
	}
}

func TestAnOldClusterIsRefused(t *testing.T) {
	h, x := handler(t, func(o *Options) {
		o.Platform = func() (error, bool) {
			return Supports(&version.Info{Major: "1", Minor: "28+", GitVersion: "v1.28.3"}), true
		}
	})
	r := ask(t, h, review(wanting, ""))
	if r.Allowed || !strings.Contains(r.Result.Message, "this cluster is Kubernetes v1.28.3") || !strings.Contains(r.Result.Message, "Update the cluster to 1.29") {
		t.Errorf("answered %+v", r.Result)
	}
	if len(x.results) != 1 || x.results[0] != "refused platform" || len(x.events) != 1 {
		t.Errorf("counted: %q, events %q", x.results, x.events)
	}
	h, x = handler(t, func(o *Options) { o.Platform = func() (error, bool) { return errors.New("refused"), false } })
	if r := ask(t, h, review(wanting, "")); r.Allowed || r.Result.Code != http.StatusServiceUnavailable || x.results[0] != "error version" {
		t.Errorf("answered %+v, counted %q", r.Result, x.results)
	}
}

func TestVersionsOfClusters(t *testing.T) {
	for v, fits := range map[string]bool{
		"1.28": false, "1.29": true, "1.29+": true, "1.37": true, "2.0": true, "1.9": false, "0.99": false, "x.y": false, "1.": false,
	} {
		major, minor, _ := strings.Cut(v, ".")
		if err := Supports(&version.Info{Major: major, Minor: minor}); (err == nil) != fits {
			t.Errorf("%s: %v", v, err)
		}
	}
}
