// Package kube starts a real Kubernetes for tests: etcd, kube-apiserver,
// kube-controller-manager and, where a test needs pods that run, a node of
// containerd, runc and kubelet.
//
// The test binary runs all of it in namespaces of its own (Main): of the network,
// so that every program has the ports that it has anywhere and nothing leaves the
// machine; of mounts and of processes, so that nothing of a node outlives the
// tests, however they end. There is no kube-proxy, no CNI and no scheduler: what a
// Service needs is its endpoints' addresses, the API server's own Service address
// is one of the namespace's, pods of a node share the namespace's network, and
// Bind puts each pod on the only node.
//
// It is not a cluster to work with: no data survives, no certificate is checked
// between the API server and the kubelet, etcd does not sync.
package kube
