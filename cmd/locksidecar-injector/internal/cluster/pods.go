package cluster

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/tools/cache"
)

// Pods follows the pods of all namespaces that have a label; h is told of each,
// with what shorten leaves of it. It returns when ctx ends. synced is called once
// all that there were have been told.
func (c *Client) Pods(ctx context.Context, selector string, shorten func(*corev1.Pod) *corev1.Pod, h cache.ResourceEventHandlerFuncs, synced func()) {
	list := cache.NewFilteredListWatchFromClient(c.core, "pods", metav1.NamespaceAll, func(o *metav1.ListOptions) { o.LabelSelector = selector })
	_, informer := cache.NewInformerWithOptions(cache.InformerOptions{
		ListerWatcher: list, ObjectType: &corev1.Pod{}, Handler: h,
		Transform: func(o any) (any, error) {
			if p, ok := o.(*corev1.Pod); ok {
				return shorten(p), nil
			}
			return o, nil
		},
	})
	go func() {
		if cache.WaitForCacheSync(ctx.Done(), informer.HasSynced) {
			synced()
		}
	}()
	informer.RunWithContext(ctx)
}
