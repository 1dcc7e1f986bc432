// Package node tests the image, the injector and the chart on a node that runs
// pods: see internal/kubetest.
package node
