// Package chart has the tests of charts/locksidecar that need no cluster: what
// helm renders of it, what it refuses and how that is said, and that its values,
// their schema and their documentation are the same.
package chart
