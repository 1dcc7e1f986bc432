package cluster

import (
	"context"
	"encoding/json"
	"fmt"

	admissionregistrationv1 "k8s.io/api/admissionregistration/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/types"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
)

const webhooks = "mutatingwebhookconfigurations"

// Bundles are the caBundles of a MutatingWebhookConfiguration.
type Bundles struct {
	Client *Client
	Name   string
}

func (b Bundles) read(ctx context.Context) (*admissionregistrationv1.MutatingWebhookConfiguration, error) {
	c := &admissionregistrationv1.MutatingWebhookConfiguration{}
	return c, b.Client.admission.Get().Resource(webhooks).Name(b.Name).Do(ctx).Into(c)
}

// Read returns them.
func (b Bundles) Read(ctx context.Context) (bundles [][]byte, version string, err error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := b.read(ctx)
	if err != nil {
		return nil, "", err
	}
	for i := range c.Webhooks {
		bundles = append(bundles, c.Webhooks[i].ClientConfig.CABundle)
	}
	return bundles, c.ResourceVersion, nil
}

// Write patches the caBundles alone: all else belongs to whoever installed the
// configuration.
func (b Bundles) Write(ctx context.Context, bundle []byte, version string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	c, err := b.read(ctx)
	if err != nil {
		return err
	}
	if c.ResourceVersion != version {
		return certificates.ErrConflict
	}
	type step struct {
		Op    string `json:"op"`
		Path  string `json:"path"`
		Value any    `json:"value"`
	}
	steps := []step{{"test", "/metadata/resourceVersion", version}}
	for i := range c.Webhooks {
		steps = append(steps, step{"add", fmt.Sprintf("/webhooks/%d/clientConfig/caBundle", i), bundle})
	}
	raw, err := json.Marshal(steps)
	if err != nil {
		return err
	}
	err = b.Client.admission.Patch(types.JSONPatchType).Resource(webhooks).Name(b.Name).Body(raw).Do(ctx).Error()
	// A test that fails is answered as an invalid patch.
	if apierrors.IsConflict(err) || apierrors.IsInvalid(err) {
		return certificates.ErrConflict
	}
	return err
}
