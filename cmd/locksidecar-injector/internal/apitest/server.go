// Package apitest is a small API server in memory, for the injector's tests: what
// the injector's role may call, with resource versions and conflicts, over HTTP.
//
// It guarantees what the injector relies on: a change on another version is
// refused, a patch that tests a value is refused as a whole.
//
// It does not guarantee anything else of a real server; that is in the tests on
// one.
package apitest

import (
	"encoding/json"
	"fmt"
	"io"
	"maps"
	"net/http"
	"net/http/httptest"
	"strconv"
	"strings"
	"sync"
	"testing"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/rest"
)

// Server has objects by their paths.
type Server struct {
	// Version is what /version says.
	Version string

	http *httptest.Server

	mu       sync.Mutex
	latest   int
	objects  map[string]map[string]any
	watchers []chan event
	told     []event
	writes   []string
	fail     func(method, path string) int
}

type event struct {
	Type   string         `json:"type"`
	Object map[string]any `json:"object"`
	// at is the latest version then.
	at int
}

// New starts a server, which ends with the test.
func New(t testing.TB) *Server {
	t.Helper()
	s := &Server{Version: `{"major":"1","minor":"37","gitVersion":"v1.37.2"}`, objects: map[string]map[string]any{}}
	s.http = httptest.NewServer(s)
	t.Cleanup(func() {
		s.mu.Lock()
		for _, w := range s.watchers {
			close(w)
		}
		s.watchers = nil
		s.mu.Unlock()
		s.http.Close()
	})
	return s
}

// Config is how to reach it.
func (s *Server) Config() *rest.Config {
	return &rest.Config{Host: s.http.URL, QPS: -1}
}

// Fail makes calls fail with a code; 0 lets one pass, nil all.
func (s *Server) Fail(f func(method, path string) int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.fail = f
}

// Put writes an object, as somebody else would.
func (s *Server) Put(path string, object map[string]any) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.put(path, object)
}

// Delete takes an object away.
func (s *Server) Delete(path string) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if o := s.objects[path]; o != nil {
		delete(s.objects, path)
		s.latest++
		s.tell("DELETED", path, o)
	}
}

// Get is an object; nil if there is none.
func (s *Server) Get(path string) map[string]any {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.objects[path]
}

// Writes are the calls that changed something, METHOD path each, since the last
// time.
func (s *Server) Writes() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	w := s.writes
	s.writes = nil
	return w
}

// Told are those calls, again and again.
func (s *Server) Told() []string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return append([]string(nil), s.writes...)
}

func (s *Server) put(path string, object map[string]any) {
	s.latest++
	metadata, _ := object["metadata"].(map[string]any)
	if metadata == nil {
		metadata = map[string]any{}
		object["metadata"] = metadata
	}
	metadata["resourceVersion"] = strconv.Itoa(s.latest)
	kind := "ADDED"
	if s.objects[path] != nil {
		kind = "MODIFIED"
	}
	s.objects[path] = object
	s.tell(kind, path, object)
}

func (s *Server) tell(kind, path string, object map[string]any) {
	if strings.Contains(path, "/pods/") {
		e := event{kind, object, s.latest}
		s.told = append(s.told, e)
		for _, w := range s.watchers {
			w <- e
		}
	}
}

func (s *Server) ServeHTTP(w http.ResponseWriter, r *http.Request) {
	w.Header().Set("Content-Type", "application/json")
	s.mu.Lock()
	fail := s.fail
	s.mu.Unlock()
	if fail != nil {
		if code := fail(r.Method, r.URL.Path); code != 0 {
			status(w, code, metav1.StatusReasonInternalError)
			return
		}
	}
	switch r.URL.Path {
	case "/version":
		_, _ = io.WriteString(w, s.Version)
	case "/api/v1/pods":
		s.pods(w, r)
	default:
		s.one(w, r)
	}
}

// one serves a single object.
func (s *Server) one(w http.ResponseWriter, r *http.Request) {
	body, err := io.ReadAll(r.Body)
	if err != nil {
		status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	s.mu.Lock()
	defer s.mu.Unlock()
	path := r.URL.Path
	old := s.objects[path]
	switch {
	case r.Method == http.MethodPost:
		object := map[string]any{}
		if err := json.Unmarshal(body, &object); err != nil {
			status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
			return
		}
		metadata, _ := object["metadata"].(map[string]any)
		path += fmt.Sprint("/", metadata["name"])
		if s.objects[path] != nil {
			status(w, http.StatusConflict, metav1.StatusReasonAlreadyExists)
			return
		}
		s.write(w, r.Method, path, object)
	case old == nil:
		status(w, http.StatusNotFound, metav1.StatusReasonNotFound)
	case r.Method == http.MethodGet:
		_ = json.NewEncoder(w).Encode(old)
	case r.Method == http.MethodPatch:
		object, code, reason := patched(old, r.Header.Get("Content-Type"), body)
		if code != 0 {
			status(w, code, reason)
			return
		}
		s.write(w, r.Method, path, object)
	default:
		status(w, http.StatusMethodNotAllowed, metav1.StatusReasonMethodNotAllowed)
	}
}

func (s *Server) write(w http.ResponseWriter, method, path string, object map[string]any) {
	s.put(path, object)
	s.writes = append(s.writes, method+" "+path)
	_ = json.NewEncoder(w).Encode(object)
}

// patched is an object after a patch, or why there is none.
func patched(old map[string]any, kind string, body []byte) (map[string]any, int, metav1.StatusReason) {
	raw, err := json.Marshal(old)
	if err != nil {
		return nil, http.StatusInternalServerError, metav1.StatusReasonInternalError
	}
	var out []byte
	switch kind {
	case "application/merge-patch+json":
		var p struct {
			Metadata struct{ ResourceVersion string }
		}
		if json.Unmarshal(body, &p) == nil && p.Metadata.ResourceVersion != "" && p.Metadata.ResourceVersion != old["metadata"].(map[string]any)["resourceVersion"] {
			return nil, http.StatusConflict, metav1.StatusReasonConflict
		}
		out, err = jsonpatch.MergePatch(raw, body)
	default:
		var steps jsonpatch.Patch
		if steps, err = jsonpatch.DecodePatch(body); err == nil {
			out, err = steps.Apply(raw)
		}
	}
	object := map[string]any{}
	if err == nil {
		err = json.Unmarshal(out, &object)
	}
	if err != nil {
		return nil, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid
	}
	return object, 0, ""
}

// pods lists those with the label, or tells of all that changes.
func (s *Server) pods(w http.ResponseWriter, r *http.Request) {
	q := r.URL.Query()
	if q.Get("watch") == "" {
		s.mu.Lock()
		defer s.mu.Unlock()
		items := []any{}
		for path, o := range maps.All(s.objects) {
			if strings.Contains(path, "/pods/") {
				items = append(items, o)
			}
		}
		_ = json.NewEncoder(w).Encode(map[string]any{
			"apiVersion": "v1", "kind": "PodList", "metadata": map[string]any{"resourceVersion": strconv.Itoa(s.latest)}, "items": items,
		})
		return
	}
	if q.Get("sendInitialEvents") == "true" {
		status(w, http.StatusUnprocessableEntity, metav1.StatusReasonInvalid) // as an older server
		return
	}
	since, err := strconv.Atoi(q.Get("resourceVersion"))
	if err != nil {
		status(w, http.StatusBadRequest, metav1.StatusReasonBadRequest)
		return
	}
	s.mu.Lock()
	// What happened between the list and the watch is told first.
	events := make(chan event, 1024+len(s.told))
	for _, e := range s.told {
		if e.at > since {
			events <- e
		}
	}
	s.watchers = append(s.watchers, events)
	s.mu.Unlock()
	w.WriteHeader(http.StatusOK)
	w.(http.Flusher).Flush()
	for {
		select {
		case e, ok := <-events:
			if !ok {
				return
			}
			_ = json.NewEncoder(w).Encode(e)
			w.(http.Flusher).Flush()
		case <-r.Context().Done():
			return
		}
	}
}

func status(w http.ResponseWriter, code int, reason metav1.StatusReason) {
	w.WriteHeader(code)
	_ = json.NewEncoder(w).Encode(metav1.Status{
		TypeMeta: metav1.TypeMeta{APIVersion: "v1", Kind: "Status"}, Status: metav1.StatusFailure, Code: int32(code), Reason: reason, Message: string(reason), //nolint:gosec // G115: an HTTP status
	})
}
