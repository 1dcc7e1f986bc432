// Package uninjected counts the pods that asked for a sidecar and run without one.
//
// It guarantees that a pod counts while it has the label, has not ended and has no
// sidecar, and counts no more from when that is told.
//
// It does not guarantee to know why: the pod may be in a namespace that is left
// out, be older than its label, or have been admitted past the webhook.
package uninjected

import (
	"slices"
	"sync"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/inject"
)

// Selector is of the pods that are looked at: those that ask for a sidecar, or mean to.
const Selector = inject.Label + "," + inject.Label + "!=false"

// Pods are those that were told.
type Pods struct {
	mu     sync.Mutex
	counts map[string]map[string]bool // by namespace: pods by name, true for those without
	known  bool
}

// New returns none.
func New() *Pods { return &Pods{counts: map[string]map[string]bool{}} }

// Shorten is what is kept of a pod: whether it counts, as a label of its own.
func Shorten(p *corev1.Pod) *corev1.Pod {
	short := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: p.Name, Namespace: p.Namespace, UID: p.UID, ResourceVersion: p.ResourceVersion}}
	if without(p) {
		short.Labels = map[string]string{missing: ""}
	}
	return short
}

const missing = "missing"

func without(p *corev1.Pod) bool {
	ended := p.Status.Phase == corev1.PodSucceeded || p.Status.Phase == corev1.PodFailed
	return !ended && p.DeletionTimestamp == nil &&
		!slices.ContainsFunc(p.Spec.InitContainers, func(c corev1.Container) bool { return c.Name == inject.Container })
}

// Handler is told of pods as Shorten leaves them.
func (p *Pods) Handler() cache.ResourceEventHandlerFuncs {
	return cache.ResourceEventHandlerFuncs{
		AddFunc:    p.set,
		UpdateFunc: func(_, o any) { p.set(o) },
		DeleteFunc: p.remove,
	}
}

// Synced says that all pods have been told once.
func (p *Pods) Synced() {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.known = true
}

func (p *Pods) set(o any) {
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	if p.counts[pod.Namespace] == nil {
		p.counts[pod.Namespace] = map[string]bool{}
	}
	_, p.counts[pod.Namespace][pod.Name] = pod.Labels[missing]
}

func (p *Pods) remove(o any) {
	if last, ok := o.(cache.DeletedFinalStateUnknown); ok {
		o = last.Obj
	}
	pod, ok := o.(*corev1.Pod)
	if !ok {
		return
	}
	p.mu.Lock()
	defer p.mu.Unlock()
	delete(p.counts[pod.Namespace], pod.Name)
	if len(p.counts[pod.Namespace]) == 0 {
		delete(p.counts, pod.Namespace)
	}
}

// Counts are the pods without a sidecar, of each namespace that has labelled ones;
// nil until all are known.
func (p *Pods) Counts() map[string]int {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.known {
		return nil
	}
	counts := map[string]int{}
	for namespace, pods := range p.counts {
		counts[namespace] = 0
		for _, missing := range pods {
			if missing {
				counts[namespace]++
			}
		}
	}
	return counts
}
