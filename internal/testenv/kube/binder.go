//go:build linux

package kube

import (
	"bufio"
	"bytes"
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"fmt"
	"io"
	"net/http"
	"os"
	"time"
)

// bind puts every pod that has no node on the only one, until the cluster stops:
// there is no scheduler.
func (c *Cluster) bind() {
	ctx, cancel := context.WithCancel(context.Background())
	c.node.binder, c.node.bound = cancel, make(chan struct{})
	go func() {
		defer close(c.node.bound)
		for ctx.Err() == nil {
			if err := c.bindPods(ctx); err != nil && ctx.Err() == nil {
				fmt.Fprintf(os.Stderr, "binding pods: %v\n", err)
			}
			select { // a watch that ended is opened again
			case <-ctx.Done():
			case <-time.After(100 * time.Millisecond):
			}
		}
	}()
}

// bindPods follows the pods without a node and binds each, until the watch ends.
func (c *Cluster) bindPods(ctx context.Context) error {
	res, err := c.Request(ctx, http.MethodGet, "/api/v1/pods?watch=1&fieldSelector=spec.nodeName%3D", nil)
	if err != nil {
		return err
	}
	defer func() { _ = res.Body.Close() }()
	lines := bufio.NewScanner(res.Body)
	lines.Buffer(nil, 4<<20)
	for lines.Scan() {
		var event struct {
			Type   string
			Object struct {
				Metadata struct{ Name, Namespace, DeletionTimestamp string }
				Spec     struct{ NodeName string }
			}
		}
		if err := json.Unmarshal(lines.Bytes(), &event); err != nil {
			return err
		}
		pod := event.Object.Metadata
		if event.Type != "ADDED" || event.Object.Spec.NodeName != "" || pod.DeletionTimestamp != "" {
			continue
		}
		binding, err := json.Marshal(map[string]any{
			"apiVersion": "v1", "kind": "Binding", "metadata": map[string]any{"name": pod.Name, "namespace": pod.Namespace},
			"target": map[string]any{"apiVersion": "v1", "kind": "Node", "name": NodeName},
		})
		if err != nil {
			return err
		}
		res, err := c.Request(ctx, http.MethodPost, "/api/v1/namespaces/"+pod.Namespace+"/pods/"+pod.Name+"/binding", binding)
		if err != nil {
			return err
		}
		_ = res.Body.Close() // a pod that has gone, or was bound before, needs none
	}
	return lines.Err()
}

// Request asks the API server as an administrator. The answer's body is the
// caller's to close; a refusal is an answer.
func (c *Cluster) Request(ctx context.Context, method, path string, body []byte) (*http.Response, error) {
	raw, err := os.ReadFile(c.ca)
	if err != nil {
		return nil, err
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(raw)
	var reader io.Reader
	if body != nil {
		reader = bytes.NewReader(body)
	}
	req, err := http.NewRequestWithContext(ctx, method, "https://"+NodeAddress+path, reader)
	if err != nil {
		return nil, err
	}
	req.Header.Set("Authorization", "Bearer "+c.admin)
	req.Header.Set("Content-Type", "application/json")
	client := &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}}
	return client.Do(req)
}
