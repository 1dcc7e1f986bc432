// Package operations holds together what whoever runs locksidecar works with:
// the alerts, the dashboard, the runbooks and the metrics that they rest on. It
// has tests alone.
package operations
