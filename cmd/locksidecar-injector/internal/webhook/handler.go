package webhook

import (
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"runtime/debug"
	"time"

	admissionv1 "k8s.io/api/admission/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/events"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/metrics"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/patch"
)

// Path is where reviews are posted to.
const Path = "/inject"

// MaxBody bounds a review, in bytes: more than twice what an API server stores
// of an object.
const MaxBody = 8 << 20

// Options are a handler's.
type Options struct {
	// Settings are those in force.
	Settings func() *inject.Settings
	// Platform says why no pod of this cluster can have a sidecar; nil if they
	// can. known is false as long as nobody could tell.
	Platform func() (problem error, known bool)
	// Admitted is told of each review's result and, of one that was not admitted,
	// the reason.
	Admitted func(result, reason string, took time.Duration)
	// Event is told what to write beside a pod.
	Event  func(namespace string, pod *corev1.Pod, kind, reason, message string)
	Logger *slog.Logger
}

// The reasons of errors, beside inject.Reasons.
const (
	reasonRequest = "request"
	reasonVersion = "version"
	reasonPanic   = "panic"
	reasonPatch   = "patch"
	reasonBusy    = "busy"
)

// Handler answers reviews.
type Handler struct {
	o              Options
	reviews, large room
}

// New returns a handler.
func New(o Options) *Handler { return &Handler{o, make(room, atOnce), make(room, largeAtOnce)} }

// Server returns a server of the handler, with bounds on what a client may take.
func (h *Handler) Server() *http.Server {
	mux := http.NewServeMux()
	mux.Handle("POST "+Path, h)
	return &http.Server{
		Handler: mux, ReadTimeout: 10 * time.Second, ReadHeaderTimeout: 5 * time.Second, WriteTimeout: 10 * time.Second,
		IdleTimeout: 90 * time.Second, MaxHeaderBytes: 16 << 10, ErrorLog: slog.NewLogLogger(h.o.Logger.Handler(), slog.LevelDebug),
	}
}

func (h *Handler) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	began := time.Now()
	raw, leave, err := h.read(w, r)
	defer leave()
	switch {
	case errors.Is(err, errBusy):
		h.o.Admitted(metrics.Errored, reasonBusy, time.Since(began))
		http.Error(w, err.Error(), http.StatusServiceUnavailable)
		return
	case err != nil:
		h.o.Admitted(metrics.Errored, reasonRequest, time.Since(began))
		code := http.StatusBadRequest
		if large := (*http.MaxBytesError)(nil); errors.As(err, &large) || errors.Is(err, errElements) {
			code = http.StatusRequestEntityTooLarge
		}
		http.Error(w, "the review could not be read", code)
		return
	}
	request, err := decode(raw)
	if err != nil {
		h.o.Admitted(metrics.Errored, reasonRequest, time.Since(began))
		http.Error(w, "no review: "+err.Error(), http.StatusBadRequest)
		return
	}
	response := h.Review(request)
	response.UID = request.UID
	out, err := json.Marshal(answer(response))
	if err != nil {
		http.Error(w, "the answer could not be written", http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	_, _ = w.Write(out) // a server that has left asks again
}

// Review answers one request.
func (h *Handler) Review(request *admissionv1.AdmissionRequest) (response *admissionv1.AdmissionResponse) {
	began := time.Now()
	log := h.o.Logger.With("namespace", request.Namespace, "uid", string(request.UID))
	result, reason := "", ""
	defer func() {
		if p := recover(); p != nil {
			log.Error("a review failed", "panic", fmt.Sprint(p), "stack", string(debug.Stack()))
			response = deny(http.StatusInternalServerError, "the injector failed; its log says why")
			result, reason = metrics.Errored, reasonPanic
		}
		if result != "" {
			h.o.Admitted(result, reason, time.Since(began))
		}
	}()
	if !asks(request) {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	pod, err := podOf(request)
	if err != nil {
		result, reason = metrics.Errored, reasonRequest
		return deny(http.StatusBadRequest, err.Error())
	}
	if !inject.Wanted(pod) {
		return &admissionv1.AdmissionResponse{Allowed: true}
	}
	if inject.Mirror(pod) {
		// To refuse it would hide it, and not stop what the node runs: so it can be counted.
		log.Warn("a static pod runs without a sidecar", "pod", name(pod))
		result = metrics.Static
		return &admissionv1.AdmissionResponse{Allowed: true, Warnings: []string{fmt.Sprintf(
			"locksidecar: pod %s is a static one, which its node runs whatever is answered here: it has no sidecar; remove the label %s from its file", name(pod), inject.Label)}}
	}
	response, result, reason = h.pod(request, pod, log)
	return response
}

// pod decides about a pod that wants a sidecar.
func (h *Handler) pod(request *admissionv1.AdmissionRequest, pod *corev1.Pod, log *slog.Logger) (*admissionv1.AdmissionResponse, string, string) {
	var mutated *corev1.Pod
	var status *inject.Status
	problem, known := h.o.Platform()
	switch {
	case !known:
		return deny(http.StatusServiceUnavailable, "the version of the cluster is not known yet: "+problem.Error()), metrics.Errored, reasonVersion
	case problem != nil:
		problem = &inject.Refusal{Reason: inject.ReasonPlatform, Message: problem.Error()}
	default:
		mutated, status, problem = h.o.Settings().Inject(pod)
	}
	if refusal := (*inject.Refusal)(nil); errors.As(problem, &refusal) {
		log.Warn("a pod was refused", "pod", name(pod), "reason", string(refusal.Reason), "message", refusal.Message)
		h.event(request, pod, corev1.EventTypeWarning, events.Refused, fmt.Sprintf("pod %s: %s", name(pod), refusal.Message))
		return deny(http.StatusForbidden, refusal.Message), metrics.Refused, string(refusal.Reason)
	}
	steps, err := patch.Between(pod, mutated)
	if err != nil {
		log.Error("a patch could not be made", "error", err)
		return deny(http.StatusInternalServerError, "the injector failed; its log says why"), metrics.Errored, reasonPatch
	}
	response := &admissionv1.AdmissionResponse{Allowed: true}
	if len(steps) == 0 {
		return response, metrics.Already, ""
	}
	if response.Patch, err = json.Marshal(steps); err != nil {
		log.Error("a patch could not be written", "error", err)
		return deny(http.StatusInternalServerError, "the injector failed; its log says why"), metrics.Errored, reasonPatch
	}
	kind := admissionv1.PatchTypeJSONPatch
	response.PatchType = &kind
	log.Debug("a pod was injected", "pod", name(pod), "containers", status.Containers)
	h.event(request, pod, corev1.EventTypeNormal, events.Injected, fmt.Sprintf("pods get the sidecar %s: %v", inject.Container, status.Containers))
	return response, metrics.Injected, ""
}

// event tells it, but not of a dry run.
func (h *Handler) event(request *admissionv1.AdmissionRequest, pod *corev1.Pod, kind, reason, message string) {
	if request.DryRun == nil || !*request.DryRun {
		h.o.Event(request.Namespace, pod, kind, reason, message)
	}
}

// name is the pod's, or what it will begin with.
func name(pod *corev1.Pod) string {
	if pod.Name != "" {
		return pod.Name
	}
	return pod.GenerateName + "*"
}
