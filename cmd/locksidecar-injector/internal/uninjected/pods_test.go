package uninjected

import (
	"maps"
	"testing"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

func labelled(namespace, name string, change ...func(p *corev1.Pod)) *corev1.Pod {
	p := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name}}
	p.Spec.Containers = []corev1.Container{{Name: "app"}}
	for _, c := range change {
		c(p)
	}
	return Shorten(p)
}

func injected(p *corev1.Pod) { p.Spec.InitContainers = []corev1.Container{{Name: "locksidecar"}} }

func TestCounts(t *testing.T) {
	p := New()
	h := p.Handler()
	h.AddFunc(labelled("shop", "a"))
	if p.Counts() != nil {
		t.Error("it counts before all pods are known")
	}
	p.Synced()
	want := func(what string, counts map[string]int) {
		t.Helper()
		if got := p.Counts(); !maps.Equal(got, counts) {
			t.Errorf("%s: %v, want %v", what, got, counts)
		}
	}
	want("one", map[string]int{"shop": 1})
	h.AddFunc(labelled("nodes", "static", func(p *corev1.Pod) { p.Annotations = map[string]string{"kubernetes.io/config.mirror": "x"} }))
	want("a static one", map[string]int{"shop": 1, "nodes": 1})
	h.DeleteFunc(labelled("nodes", "static"))
	h.AddFunc(labelled("shop", "b", injected))
	h.AddFunc(labelled("bank", "b", injected))
	want("injected ones", map[string]int{"shop": 1, "bank": 0})
	h.AddFunc(labelled("shop", "c"))
	h.UpdateFunc(nil, labelled("shop", "c", func(p *corev1.Pod) { p.Status.Phase = corev1.PodSucceeded }))
	h.AddFunc(labelled("shop", "d", func(p *corev1.Pod) { p.Status.Phase = corev1.PodFailed }))
	h.AddFunc(labelled("shop", "e", func(p *corev1.Pod) { now := metav1.Now(); p.DeletionTimestamp = &now }))
	want("ended ones", map[string]int{"shop": 1, "bank": 0})
	h.DeleteFunc(cache.DeletedFinalStateUnknown{Obj: labelled("bank", "b", injected)})
	h.DeleteFunc(labelled("shop", "a"))
	want("deleted ones", map[string]int{"shop": 0})
	h.DeleteFunc(labelled("none", "x"))
	h.AddFunc("no pod")
	want("what is no pod", map[string]int{"shop": 0})
}

// What is kept of a pod is little.
func TestShort(t *testing.T) {
	p := labelled("shop", "a", injected, func(p *corev1.Pod) { p.Annotations = map[string]string{"x": "y"} })
	if len(p.Spec.Containers) != 0 || len(p.Spec.InitContainers) != 0 || p.Annotations != nil {
		t.Errorf("it keeps %+v", p)
	}
}
