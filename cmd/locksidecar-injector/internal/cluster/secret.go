package cluster

import (
	"context"
	"encoding/json"
	"maps"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/locksidecar/locksidecar/cmd/locksidecar-injector/internal/certificates"
)

// The keys of the Secret. Those without a prefix are of the pair that ends last,
// as in any Secret of a certificate.
const (
	keyCert  = "tls.crt"
	keyKey   = "tls.key"
	keyCA    = "ca.crt"
	previous = "previous-"
)

// Secret is the Store of certificates in a Secret of the injector's namespace.
type Secret struct {
	Client *Client
	Name   string
}

// Load reads the Secret.
func (s Secret) Load(ctx context.Context) ([]*certificates.Pair, string, error) {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	secret := &corev1.Secret{}
	err := s.Client.core.Get().Namespace(s.Client.namespace).Resource("secrets").Name(s.Name).Do(ctx).Into(secret)
	if apierrors.IsNotFound(err) {
		return nil, "", nil
	}
	if err != nil {
		return nil, "", err
	}
	var pairs []*certificates.Pair
	for _, prefix := range []string{previous, ""} {
		ca := secret.Data[prefix+keyCA]
		// What cannot be read is missing: it is made anew.
		if p, err := certificates.Parse(secret.Data[prefix+keyCert], secret.Data[prefix+keyKey], ca); err == nil && len(ca) > 0 {
			pairs = append(pairs, p)
		}
	}
	return pairs, secret.ResourceVersion, nil
}

// Save writes the Secret, if it is still of the version; of none, if there is
// none.
func (s Secret) Save(ctx context.Context, pairs []*certificates.Pair, version string) error {
	ctx, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	data := map[string][]byte{}
	for _, prefix := range []string{previous, ""} {
		for _, key := range []string{keyCert, keyKey, keyCA} {
			data[prefix+key] = nil // which a patch takes away
		}
	}
	for i, p := range pairs {
		prefix := previous
		if i == len(pairs)-1 {
			prefix = ""
		}
		data[prefix+keyCert], data[prefix+keyKey], data[prefix+keyCA] = p.Cert, p.Key, p.CA
	}
	var err error
	if version == "" {
		err = s.create(ctx, data)
	} else {
		err = s.patch(ctx, data, version)
	}
	if apierrors.IsConflict(err) || apierrors.IsAlreadyExists(err) || version != "" && apierrors.IsNotFound(err) {
		return certificates.ErrConflict
	}
	return err
}

// create makes it as the chart does: another type, which cannot change, or a label
// of its own would fail the release's next upgrade.
func (s Secret) create(ctx context.Context, data map[string][]byte) error {
	maps.DeleteFunc(data, func(_ string, v []byte) bool { return v == nil })
	return s.Client.core.Post().Namespace(s.Client.namespace).Resource("secrets").Body(&corev1.Secret{
		TypeMeta:   metav1.TypeMeta{APIVersion: "v1", Kind: "Secret"},
		ObjectMeta: metav1.ObjectMeta{Name: s.Name, Namespace: s.Client.namespace},
		Type:       corev1.SecretTypeOpaque, Data: data,
	}).Do(ctx).Error()
}

// patch leaves what else there is as it is: labels, and the type, which cannot
// change.
func (s Secret) patch(ctx context.Context, data map[string][]byte, version string) error {
	raw, err := json.Marshal(map[string]any{"metadata": map[string]string{"resourceVersion": version}, "data": data})
	if err != nil {
		return err
	}
	return s.Client.core.Patch(types.MergePatchType).Namespace(s.Client.namespace).Resource("secrets").Name(s.Name).Body(raw).Do(ctx).Error()
}
