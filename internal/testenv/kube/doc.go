// Package kube starts a real Kubernetes for tests: etcd, kube-apiserver,
// kube-controller-manager and, where a test needs pods that run, a node of
// containerd, runc and kubelet.
//
// The test binary runs all of it in namespaces of its own (Main): of the network,
// so that every program has the ports that it has anywhere and nothing leaves the
// machine; of mounts and of processes, so that nothing of a node outlives the
// tests, however they end. There is no kube-proxy, no DNS and no scheduler: the API
// server calls a webhook at its Service's endpoints, its own Service address is one
// of the node's, and each pod is bound to the only node.
//
// It is not a cluster to work with: no data survives, no certificate is checked
// between the API server and the kubelet, etcd does not sync.
package kube
