// Package chart tests the chart and the injector on a control plane: see
// internal/kubetest.
package chart
