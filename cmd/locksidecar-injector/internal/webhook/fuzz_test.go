package webhook

import (
	"bytes"
	"encoding/json"
	"testing"

	corev1 "k8s.io/api/core/v1"
)

// Whatever is posted, it is an error or gets an answer; a patch applies, and makes
// a pod that is left alone when it is asked about again.
func FuzzReview(f *testing.F) {
	f.Add([]byte(review(wanting, "")))
	f.Add([]byte(review(wanting, `"dryRun":true,`)))
	f.Add([]byte(review(`{"metadata":{"labels":{"locksidecar.dev/inject":"true"},"annotations":{"locksidecar.dev/containers":"a,b","locksidecar.dev/cpu-limit":"1"}},`+
		`"spec":{"volumes":[{"name":"locksidecar-socket"}],"initContainers":[{"name":"locksidecar"}],"containers":[{"name":"a"},{"name":"b"}]}}`, "")))
	f.Add([]byte(review(`{"metadata":{"labels":{"locksidecar.dev/inject":"true"}},"spec":{"initContainers":null,"volumes":[],"containers":[{"name":"a","env":null,"volumeMounts":[]}]}}`, "")))
	f.Add([]byte(review(`{"metadata":{"labels":{"locksidecar.dev/inject":"true"}}}`, "")))
	h, _ := handler(f)
	f.Fuzz(func(t *testing.T, raw []byte) {
		request, err := decode(raw)
		if err != nil {
			return
		}
		r := h.Review(request)
		if r == nil || !r.Allowed && (r.Result == nil || r.Result.Message == "") || r.Result != nil && r.Result.Code == 500 {
			t.Fatalf("answered %+v", r)
		}
		if r.Patch == nil || duplicates(request.Object.Raw) {
			return
		}
		out := patched(t, string(request.Object.Raw), r)
		var pod corev1.Pod
		if err := json.Unmarshal(out, &pod); err != nil {
			t.Fatalf("the pod that was made cannot be read: %v\n%s", err, out)
		}
		request.Object.Raw = out
		if again := h.Review(request); !again.Allowed || again.Patch != nil {
			t.Fatalf("asked again: %+v %s", again.Result, again.Patch)
		}
	})
}

// duplicates says whether an object has keys that Go takes for one and a patch
// does not: of other cases, or twice. API servers send neither.
func duplicates(raw []byte) bool {
	var plain any
	if json.Unmarshal(raw, &plain) != nil {
		return true
	}
	var typed corev1.Pod
	if json.Unmarshal(raw, &typed) != nil {
		return true
	}
	var compact bytes.Buffer
	if json.Compact(&compact, raw) != nil {
		return true
	}
	again, err := json.Marshal(plain)
	return err != nil || len(again) != compact.Len() || odd(plain)
}

// odd says whether a key is not as an API server writes it.
func odd(v any) bool {
	switch v := v.(type) {
	case map[string]any:
		for key, value := range v {
			for _, known := range []string{"metadata", "spec", "annotations", "labels", "containers", "initContainers", "volumes", "env", "volumeMounts", "name", "mountPath"} {
				if key != known && bytes.EqualFold([]byte(key), []byte(known)) {
					return true
				}
			}
			if odd(value) {
				return true
			}
		}
	case []any:
		for _, value := range v {
			if odd(value) {
				return true
			}
		}
	}
	return false
}
