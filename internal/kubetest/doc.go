// Package kubetest tests the chart, the injector and the image on a real
// Kubernetes (internal/testenv/kube):
//
//   - chart: on a control plane alone. What is installed, what is admitted and what
//     is refused; run by make chart-test.
//   - node: on a node that runs the project's own images: what an application sees
//     of its sidecar; run by make node-test.
//   - app: the application that the node's tests run.
//
// The tests carry the build tag cluster; make test does not run them.
package kubetest
