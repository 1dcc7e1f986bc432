package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"time"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/apimachinery/pkg/runtime/serializer"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/apimachinery/pkg/version"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// callTimeout bounds a call that does not watch.
const callTimeout = 10 * time.Second

// userAgent names the injector in audit logs, and as the manager of the fields that
// it writes.
const userAgent = "locksidecar-injector"

// Client speaks to one API server.
type Client struct {
	core, admission *rest.RESTClient
	namespace       string
}

// Configured returns how to reach the server: by a kubeconfig file, or, where
// there is none, as a pod.
func Configured(kubeconfig string) (*rest.Config, error) {
	if kubeconfig == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", kubeconfig)
}

// New returns a client; namespace is the injector's own.
func New(c *rest.Config, namespace string) (*Client, error) {
	scheme := runtime.NewScheme()
	for group, add := range map[schema.GroupVersion]func(*runtime.Scheme) error{
		corev1.SchemeGroupVersion: corev1.AddToScheme, admissionregistrationv1.SchemeGroupVersion: admissionregistrationv1.AddToScheme,
	} {
		if err := add(scheme); err != nil {
			return nil, err
		}
		metav1.AddToGroupVersion(scheme, group)
	}
	codecs := serializer.NewCodecFactory(scheme).WithoutConversion()
	of := func(path string, group schema.GroupVersion) (*rest.RESTClient, error) {
		own := rest.CopyConfig(c)
		own.UserAgent = userAgent
		own.APIPath, own.GroupVersion, own.NegotiatedSerializer = path, &group, codecs
		return rest.RESTClientFor(own)
	}
	core, err := of("/api", corev1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	admission, err := of("/apis", admissionregistrationv1.SchemeGroupVersion)
	if err != nil {
		return nil, err
	}
	return &Client{core, admission, namespace}, nil
}

// Version is the server's.
func (c *Client) Version(ctx context.Context) (*version.Info, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := c.core.Get().AbsPath("/version").DoRaw(ctx)
	if err != nil {
		return nil, err
	}
	v := &version.Info{}
	if err := json.Unmarshal(raw, v); err != nil {
		return nil, fmt.Errorf("/version: %w", err)
	}
	return v, nil
}

// CreateEvent writes an event; one of its name may exist already.
func (c *Client) CreateEvent(ctx context.Context, e *corev1.Event) (exists bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	err = c.core.Post().Namespace(e.Namespace).Resource("events").Body(e).Do(ctx).Error()
	if apierrors.IsAlreadyExists(err) {
		return true, nil
	}
	return false, err
}

// RepeatEvent says that an event happened again; it may have been collected.
func (c *Client) RepeatEvent(ctx context.Context, e *corev1.Event) (gone bool, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	raw, err := json.Marshal(map[string]any{"count": e.Count, "lastTimestamp": e.LastTimestamp, "message": e.Message})
	if err != nil {
		return false, err
	}
	err = c.core.Patch(types.MergePatchType).Namespace(e.Namespace).Resource("events").Name(e.Name).Body(raw).Do(ctx).Error()
	if apierrors.IsNotFound(err) {
		return true, nil
	}
	return false, err
}
