// Package offline injects into manifests what the webhook injects into pods.
//
// It guarantees the same result by the same code, and that what is no pod, or
// wants no sidecar, comes out as it went in. Fields that it does not know stay.
//
// It does not guarantee what a cluster adds before the webhook is asked: its
// defaults, and what other webhooks do.
package offline

import (
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"regexp"
	"strings"
	"unicode/utf8"

	jsonpatch "gopkg.in/evanphx/json-patch.v4"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/yaml"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/patch"
)

// Injector injects into documents.
type Injector struct {
	Settings *inject.Settings
	// Tell is told, for a person, what became of each object.
	Tell func(message string)
}

var (
	separator = regexp.MustCompile(`(?m)^---(?:[ \t]+#.*|[ \t]*)(?:\n|\z)`)
	// others are marks of a document that are not understood here.
	others = regexp.MustCompile(`(?m)^(?:---|\.\.\.)(?:\s|\z)`)
)

// Documents injects into all documents of a file.
func (in *Injector) Documents(raw []byte) ([]byte, error) {
	if !utf8.Valid(raw) {
		return nil, errors.New("want UTF-8")
	}
	// A byte order mark, and lines that end as elsewhere.
	raw = bytes.ReplaceAll(bytes.TrimPrefix(raw, []byte("\uFEFF")), []byte("\r\n"), []byte("\n"))
	var out bytes.Buffer
	for i, text := range separator.Split(string(raw), -1) {
		if strings.TrimSpace(text) == "" {
			continue
		}
		if out.Len() > 0 {
			out.WriteString("---\n")
		}
		made, err := in.document([]byte(text))
		if err != nil {
			return nil, fmt.Errorf("document %d: %w", i+1, err)
		}
		out.Write(made)
		if made := bytes.TrimSpace(made); len(made) > 0 && out.Bytes()[out.Len()-1] != '\n' {
			out.WriteByte('\n')
		}
	}
	return out.Bytes(), nil
}

func (in *Injector) document(text []byte) ([]byte, error) {
	if at := others.FindIndex(text); at != nil {
		return nil, errors.New("want --- on a line of its own between documents, and no line that begins with three dots")
	}
	var object map[string]any
	if err := yaml.UnmarshalStrict(text, &object); err != nil {
		return nil, err
	}
	changed, err := in.object(object)
	if err != nil || !changed {
		return text, err
	}
	return yaml.Marshal(object)
}

// templates says where a kind has its pods.
var templates = map[string][]string{
	"Pod": {}, "Deployment": {"spec", "template"}, "StatefulSet": {"spec", "template"}, "DaemonSet": {"spec", "template"},
	"ReplicaSet": {"spec", "template"}, "ReplicationController": {"spec", "template"}, "Job": {"spec", "template"},
	"PodTemplate": {"template"}, "CronJob": {"spec", "jobTemplate", "spec", "template"},
}

// object injects into one object, in place, and says whether it changed.
func (in *Injector) object(object map[string]any) (bool, error) {
	kind, _ := object["kind"].(string)
	if items, ok := object["items"].([]any); ok && strings.HasSuffix(kind, "List") {
		touched := false
		for i := range items {
			item, ok := items[i].(map[string]any)
			if !ok {
				return false, fmt.Errorf("item %d of the list is no object", i)
			}
			changed, err := in.object(item)
			if err != nil {
				return false, err
			}
			touched = touched || changed
		}
		return touched, nil
	}
	path, ok := templates[kind]
	if !ok {
		return false, nil
	}
	called := kind + " " + title(object)
	at := object
	for _, key := range path {
		if at, ok = at[key].(map[string]any); !ok {
			return false, fmt.Errorf("%s has no %s", called, strings.Join(path, "."))
		}
	}
	changed, err := in.pod(at, called)
	if err == nil && !changed && len(path) > 0 && labelled(object) && !labelled(at) {
		in.Tell(fmt.Sprintf("%s: the label %s is on the %s; it belongs to %s.metadata.labels", called, inject.Label, kind, strings.Join(path, ".")))
	}
	return changed, err
}

func title(object map[string]any) string {
	metadata, _ := object["metadata"].(map[string]any)
	name, _ := metadata["name"].(string)
	return name
}

func labelled(object map[string]any) bool {
	metadata, _ := object["metadata"].(map[string]any)
	labels, _ := metadata["labels"].(map[string]any)
	return labels[inject.Label] == "true"
}

// pod injects into a pod, or into a template of pods, which has the same form.
func (in *Injector) pod(at map[string]any, called string) (bool, error) {
	raw, err := json.Marshal(at)
	if err != nil {
		return false, err
	}
	var template struct {
		metav1.ObjectMeta `json:"metadata"`
		Spec              corev1.PodSpec `json:"spec"`
	}
	if err := json.Unmarshal(raw, &template); err != nil {
		return false, fmt.Errorf("%s: %w", called, err)
	}
	pod := &corev1.Pod{ObjectMeta: template.ObjectMeta, Spec: template.Spec}
	if !inject.Wanted(pod) {
		in.Tell(fmt.Sprintf("%s: it has no label %s: \"true\", and stays as it is", called, inject.Label))
		return false, nil
	}
	mutated, status, err := in.Settings.Inject(pod)
	if err != nil {
		return false, fmt.Errorf("%s is refused: %w", called, err)
	}
	steps, err := patch.Between(pod, mutated)
	if err != nil {
		return false, err
	}
	if len(steps) == 0 {
		in.Tell(called + ": it has the sidecar already")
		return false, nil
	}
	if raw, err = apply(raw, steps); err != nil {
		return false, fmt.Errorf("%s: %w", called, err)
	}
	clear(at)
	in.Tell(fmt.Sprintf("%s: injected; containers with the socket: %s", called, strings.Join(status.Containers, ", ")))
	return true, json.Unmarshal(raw, &at)
}

func apply(document []byte, steps []patch.Operation) ([]byte, error) {
	raw, err := json.Marshal(steps)
	if err != nil {
		return nil, err
	}
	p, err := jsonpatch.DecodePatch(raw)
	if err != nil {
		return nil, errors.Join(errors.New("the patch"), err)
	}
	return p.Apply(document)
}
